"""One comparison of a preflight, and how a command stops on those that are errors. Loads no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from smolpilot.common.errors import DatasetError, SmolpilotError
from smolpilot.common.text import pluralize

Verdict = Literal["ok", "warning", "error"]
Verb = Literal["preflight", "train", "eval"]


@dataclass(frozen=True)
class Line:
    """One comparison; `fix` is an option or command of the verb that prints it.

    final: an error that no --no-preflight helps against: what comes after it would stop at the same.
    """

    topic: str
    verdict: Verdict
    found: str
    fix: str = ""
    final: bool = False

    def to_json(self) -> dict[str, str]:
        """As plain values."""
        return {"topic": self.topic, "verdict": self.verdict, "found": self.found, "fix": self.fix}

    def text(self) -> str:
        """On one line, as a warning is said."""
        return f"{self.verdict}: {self.topic}: {self.found}" + (f" ({self.fix})" if self.fix else "")


def failed(topic: str, error: SmolpilotError) -> Line:
    """The line of an error that stops everything after it."""
    return Line(topic, "error", error.found, error.fix or error.expected)


def stop_on_errors(lines: Iterable[Line], *, overruled: bool, say: Callable[[str], object]) -> None:
    """Say warnings and overruled errors; a DatasetError with all other errors, each advice once."""
    errors: list[Line] = []
    for line in lines:
        if line.verdict == "error" and not (overruled and not line.final):
            errors.append(line)
        elif line.verdict != "ok":
            say(line.text())
    if not errors:
        return
    fixes = list(dict.fromkeys(line.fix for line in errors if line.fix))
    if not any(line.final for line in errors):
        fixes.append("or --no-preflight, to ignore them")
    found = "; ".join(f"{line.topic}: {line.found}" for line in errors)
    raise DatasetError(f"Preflight found {pluralize(len(errors), 'error')}: {found}", fix="; ".join(fixes))
