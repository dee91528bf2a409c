"""What a spec may say: numbers that are counts, texts that are texts. Specs come from everybody's packages."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from smolpilot.common.errors import SmolpilotError
from smolpilot.common.text import shown


@dataclass(frozen=True)
class SpecCheck:
    """Raises SmolpilotError for a field of the spec `what` that does not hold."""

    what: str

    def that(self, name: str, value: Any, holds: bool, expected: str) -> None:
        """`expected` in words, where it does not hold."""
        if not holds:
            raise SmolpilotError(f"{self.what}: {name} is {shown(value)}.", expected=expected)

    def whole(self, name: str, value: Any, least: int) -> None:
        """A whole number of at least `least`."""
        good = isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least
        self.that(name, value, good, f"a whole number, at least {least}")

    def texts(self, name: str, value: Any) -> None:
        """Several texts; a single one, whose letters would be taken for them, is none."""
        good = isinstance(value, Collection) and not isinstance(value, str | bytes)
        self.that(name, value, good and all(isinstance(one, str) for one in value), "a tuple of texts")


def is_rate(value: Any) -> bool:
    """Whether it is a finite number above 0."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value) and float(value) > 0
