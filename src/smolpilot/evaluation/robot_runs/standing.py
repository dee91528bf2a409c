"""How a robot run stands, for `smolpilot status`: from its folder, without reading its log."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smolpilot.common.text import pluralize
from smolpilot.contracts.run_folder import DATASET, FRAMES, REPORT, RunFacts, read_episodes, read_facts


@dataclass(frozen=True)
class RunStanding:
    """state: `running`, `ended` or `cut off` (its process is gone and has not said why). left: what `robot report` can
    still write of it."""

    run: str
    state: str
    ended: str | None
    facts: RunFacts
    episodes: int
    successes: int
    failures: int
    stops: tuple[str, ...]
    left: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """For JSON."""
        return {**vars(self), "kind": "robot run", "facts": self.facts.model_dump(mode="json")}

    def rows(self) -> list[tuple[str, str]]:
        """(what, how it is) of each line."""
        facts = self.facts
        dry = "a dry run: nothing is sent" if facts.dry_run else f"{facts.speed:.0%} of the limits"
        marks = f"{pluralize(self.episodes, 'episode')}, marked {self.successes} success, {self.failures} failure"
        rows = [
            ("robot run", self.run),
            ("state", self.state if self.ended is None else f"{self.state}: {self.ended}"),
            ("policy", f"{facts.policy} ({facts.kind})"),
            ("robot", f"{facts.setup} ({facts.profile}), {dry}"),
            ("started", facts.started_at),
            ("loop", f"{facts.rate:g} Hz, {facts.schedule.get('mode', '')}"),
            ("episodes", marks),
        ]
        rows += [("stopped", reason) for reason in self.stops]
        if self.left and self.state != "running":
            rows.append(("left", f"{', '.join(self.left)}: smolpilot robot report {self.run}"))
        return rows


def run_standing(folder: Path) -> RunStanding:
    """How the run in this folder stands. RunLogError for a folder that is none's."""
    facts, ends = read_facts(folder), read_episodes(folder)
    going_on = "running" if _alive(facts) else "cut off"
    state = going_on if facts.ended is None else "ended"
    left = [REPORT] if not (folder / REPORT).is_file() else []
    if (folder / FRAMES).is_dir() and not (folder / DATASET).exists():
        left.append(DATASET)
    return RunStanding(
        run=str(folder),
        state=state,
        ended=facts.ended,
        facts=facts,
        episodes=len(ends),
        successes=sum(end.mark == "success" for end in ends),
        failures=sum(end.mark == "failure" for end in ends),
        stops=tuple(end.stop for end in ends if end.stop is not None),
        left=tuple(left),
    )


def _alive(facts: RunFacts) -> bool:
    """Whether its process runs; what is on another computer nobody here can see, and may."""
    if facts.host != socket.gethostname():
        return True
    try:
        os.kill(facts.process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True
