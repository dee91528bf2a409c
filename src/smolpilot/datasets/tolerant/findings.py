"""Finding: one thing that is wrong or remarkable in a dataset, and the rules that name all of them."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from smolpilot.datasets.format.files import lfs_advice

from .rules import RULES
from .rules import Severity as Severity

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")


@dataclass(frozen=True)
class Finding:
    """What was found where. `camera` and `joint` are names, `frame` counts from the episode's start; `last` is the last
    frame of a stretch.

    `fix` is the command that repairs or excludes it, or the sentence that says what to do.
    """

    code: str
    severity: Severity
    message: str
    fix: str
    episode: int | None = None
    frame: int | None = None
    camera: str | None = None
    joint: str | None = None
    last: int | None = None

    @property
    def group(self) -> str:
        """The group of checks that this code belongs to."""
        return RULES[self.code].group

    def to_json(self) -> dict[str, Any]:
        """Plain values, absent places left out."""
        values = {key: value for key, value in asdict(self).items() if value is not None}
        return {**values, "group": self.group}


def finding(
    code: str,
    message: str,
    *,
    root: Path,
    episode: int | None = None,
    severity: Severity | None = None,
    fix: str | None = None,
    key: str | None = None,
    **place: Any,
) -> Finding:
    """A finding of a known code, with the severity and the fix that its rule states unless told otherwise.

    `key` is the feature that the fix names; `place` what else a finding says of where it is.
    """
    rule = RULES[code]
    if code == "lfs-pointer" and fix is None:
        # The command helps in a clone only, and says so where there is none.
        fix = lfs_advice(root)
    template = rule.fix if fix is None else fix
    where = shlex.quote(str(root))
    text = template.replace("{path}", where).replace("{episode}", "N" if episode is None else str(episode))
    text = text.replace("{key}", "KEY" if key is None else shlex.quote(key))
    return Finding(code, severity or rule.severity, message, text, episode, **place)


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """Errors first; then by code, episode, camera and joint. What was found twice stands once."""
    unique = dict.fromkeys(findings)
    places = {code: place for place, code in enumerate(RULES)}
    return sorted(
        unique,
        key=lambda found: (
            SEVERITIES.index(found.severity),
            places[found.code],
            -1 if found.episode is None else found.episode,
            found.camera or "",
            found.joint or "",
            found.frame or 0,
        ),
    )


def collapsed(findings: Iterable[Finding]) -> list[tuple[Finding, list[int]]]:
    """What is said of several episodes in the same words once, with those episodes; in the order of the first ones."""
    together: dict[tuple[str, str, str], tuple[Finding, list[int]]] = {}
    for found in findings:
        place = (found.severity, found.code, found.message)
        _, episodes = together.setdefault(place, (found, []))
        if found.episode is not None and found.episode not in episodes[-1:]:
            episodes.append(found.episode)
    return [(one_fix([found], episodes), episodes) for found, episodes in together.values()]


def one_fix(findings: list[Finding], episodes: list[int]) -> Finding:
    """The first of the findings, with a fix that names all of the episodes."""
    found = findings[0]
    if len(episodes) < 2:
        return found
    listed = ",".join(str(number) for number in sorted(set(episodes)))
    return replace(found, fix=found.fix.replace(f"--episodes {found.episode}", f"--episodes {listed}"))


def count(findings: Iterable[Finding]) -> dict[Severity, int]:
    """How many of each severity."""
    counts = Counter(found.severity for found in findings)
    return {severity: counts[severity] for severity in SEVERITIES}
