"""What a run leaves behind while it goes on: the log of its ticks, a line for each episode, `run.json`."""

from __future__ import annotations

import contextlib
import datetime
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from smolpilot.common.errors import RunLogError
from smolpilot.common.text import plain
from smolpilot.contracts import ChunkStep, RunLogHeader, RunLogWriter, SentAction, Tick
from smolpilot.contracts.run_folder import EPISODES, LOG, EpisodeEnd, LimitFacts, RunFacts, write_facts
from smolpilot.runtime.limits import EffectiveLimits


def limit_facts(limits: EffectiveLimits) -> tuple[LimitFacts, ...]:
    """The limits in force, with their origins."""
    found = []
    for one in limits.joints:
        pairs = {
            name: (float(value.value), value.origin)
            for name, value in (
                ("low", one.low),
                ("high", one.high),
                ("velocity", one.velocity),
                ("acceleration", one.acceleration),
            )
        }
        found.append(LimitFacts(joint=one.joint, unit=one.unit, **pairs))
    return tuple(found)


def machine() -> dict[str, Any]:
    """The fields of RunFacts that say where it runs."""
    return {"host": socket.gethostname(), "process": os.getpid()}


class RunRecord:
    """The files of a run in `folder`, which is there. What fails is in `failure`, and raises nothing: an arm moves."""

    def __init__(self, folder: Path, facts: RunFacts, *, units: Mapping[str, str], header: Mapping[str, Any]) -> None:
        """units: joint -> unit, in the order of the action; header: further facts for the log's header."""
        self.folder, self.facts = folder, facts
        self.failure: str | None = None
        self.number = -1  # of the newest tick
        write_facts(folder, facts)
        self._log = RunLogWriter(
            folder / LOG,
            RunLogHeader(
                robot=facts.profile,
                joints=tuple(units),
                units=tuple(units.values()),
                rate=facts.rate,
                started_at=datetime.datetime.now(datetime.UTC),
                started_monotonic=time.monotonic(),
                policy=facts.policy,
                instruction=facts.instruction or None,
                cameras=facts.cameras,
                dry_run=facts.dry_run,
                facts=header,
            ),
        )

    def tick(
        self,
        passed: int,
        sent: SentAction,
        captured_at: Mapping[str, float],
        source: str,
        episode: int,
        chunk: ChunkStep | None,
    ) -> None:
        """Note a tick, `passed` periods after the one before it."""
        self.number += passed
        self._kept(lambda: self._log.write(Tick(self.number, sent, captured_at, source, chunk, episode)))

    def episode(self, end: EpisodeEnd) -> None:
        """Note how an episode ended; said again, of the same episode, it replaces what was said."""

        def write() -> None:
            with (self.folder / EPISODES).open("ab") as file:
                file.write(end.model_dump_json().encode() + b"\n")

        self._kept(write)

    def close(self, ended: str) -> None:
        """Put everything on the disk, and why the run ended."""
        self._kept(self._log.close)
        self._kept(lambda: write_facts(self.folder, self.facts.model_copy(update={"ended": ended})))

    def _kept(self, write: Callable[[], object]) -> None:
        try:
            write()
        except (OSError, RunLogError) as error:
            if self.failure is None:
                reason = plain(getattr(error, "found", error), 120).removesuffix(".")
                if isinstance(error, OSError) and error.errno:
                    reason = os.strerror(error.errno)
                self.failure = f"The run log cannot be written: {reason}."


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """A folder for what processes share, in memory where the system has a place for that; gone afterwards, whoever
    else has removed it. Its name has this process's number."""
    import tempfile

    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(
        prefix=f"smolpilot-run-{os.getpid()}-", dir=shm if os.access(shm, os.W_OK) else None, ignore_cleanup_errors=True
    ) as folder:
        yield Path(folder)
