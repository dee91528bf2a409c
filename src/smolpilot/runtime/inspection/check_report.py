"""The report of a check: a verdict for each subject, what was found, and what to do. As text and as JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    """What is to be thought of a subject; in the order from good to bad."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class CheckLine:
    """One subject, as `voltage` or `camera front`: what was found of it, and the fix where one is needed."""

    subject: str
    verdict: Verdict
    found: str
    fix: str = ""


@dataclass(frozen=True)
class CheckReport:
    """All lines of a check of `name`, in the order in which things were looked at."""

    name: str
    lines: tuple[CheckLine, ...]

    @classmethod
    def of(cls, name: str, lines: Iterable[CheckLine]) -> CheckReport:
        return cls(name, tuple(lines))

    @property
    def verdict(self) -> Verdict:
        """The worst one; ok without any line."""
        return max((line.verdict for line in self.lines), key=list(Verdict).index, default=Verdict.OK)

    def count(self, verdict: Verdict) -> int:
        return sum(line.verdict is verdict for line in self.lines)

    def summary(self) -> str:
        """One sentence on the whole."""
        failed, warned = self.count(Verdict.FAIL), self.count(Verdict.WARN)
        if not failed and not warned:
            return f"{self.name}: all is well."
        parts = [*([f"{failed} failed"] if failed else []), *([f"{_warnings(warned)}"] if warned else [])]
        return f"{self.name}: {', '.join(parts)}, {self.count(Verdict.OK)} ok."

    def document(self) -> dict[str, Any]:
        """The report for JSON: `name`, `verdict`, `lines` (subject, verdict, found, fix)."""
        lines = [{**vars(line), "verdict": line.verdict.value} for line in self.lines]
        return {"name": self.name, "verdict": self.verdict.value, "lines": lines}

    def text(self, width: int = 100) -> Iterator[tuple[Verdict | None, str]]:
        """The report line by line, in columns, each with the verdict that it stands under; last the summary."""
        column = max((len(line.subject) for line in self.lines), default=0)
        hang = " " * (len("warn") + 2 + column + 2)
        for line in self.lines:
            head = f"{line.verdict:<4}  {line.subject:<{column}}  "
            for i, part in enumerate(_wrapped(line.found, max(width - len(head), 20))):
                yield line.verdict, f"{hang if i else head}{part}"
            for part in _wrapped(f"fix: {line.fix}" if line.fix else "", max(width - len(hang), 20)):
                yield line.verdict, f"{hang}{part}"
        yield None, self.summary()


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)


def _warnings(count: int) -> str:
    return f"{count} warning" if count == 1 else f"{count} warnings"
