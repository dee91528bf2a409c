"""One comparison of a preflight, and how a command stops on those that are errors. Loads no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Literal

from smolpilot.errors import DatasetError, SmolpilotError
from smolpilot.words import numbered

Verdict = Literal["ok", "warning", "error"]
Verb = Literal["preflight", "train", "eval"]


@dataclass(frozen=True)
class Line:
    """One comparison; `fix` is an option or command of the verb that prints it."""

    topic: str
    verdict: Verdict
    found: str
    fix: str = ""

    def to_json(self) -> dict[str, str]:
        """As plain values."""
        return asdict(self)

    def text(self) -> str:
        """On one line, as a warning is said."""
        return f"{self.verdict}: {self.topic}: {self.found}" + (f" ({self.fix})" if self.fix else "")


def failed(topic: str, error: SmolpilotError) -> Line:
    """The line of an error that stops everything after it."""
    return Line(topic, "error", error.found, error.fix or error.expected)


def stop_on_errors(lines: Iterable[Line], *, overruled: bool, say: Callable[[str], object]) -> None:
    """Say warnings (and overruled errors); a DatasetError with all errors unless `overruled`, each advice once."""
    errors = []
    for line in lines:
        if line.verdict == "warning" or (line.verdict == "error" and overruled):
            say(line.text())
        elif line.verdict == "error":
            errors.append(line)
    if errors:
        fixes = dict.fromkeys(line.fix for line in errors if line.fix)
        raise DatasetError(
            f"Preflight found {numbered(len(errors), 'error')}: "
            + "; ".join(f"{line.topic}: {line.found}" for line in errors),
            fix="; ".join([*fixes, "or --no-preflight, to go on all the same"]),
        )
