"""The actions that lie ahead, at their places in the playback, and what is due between two of them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass

import numpy as np

from smolpilot.contracts import Joints

EPSILON = 1e-6
"""Of a step: places this close are one."""


@dataclass(frozen=True, eq=False)
class Knot:
    """An action [A] at a place: steps of the policy's rate that will have been executed before it.

    chunk, step: which action of which chunk it is; captured_at: of what it was planned from, seconds on the monotonic
    clock, the oldest of all that it was made of.
    """

    place: float
    action: Joints
    chunk: int
    step: int
    captured_at: float


class Timeline:
    """Knots in the order of their places. Between them a cubic Hermite curve, so that no velocity jumps at a knot."""

    def __init__(self) -> None:
        self._knots: list[Knot] = []
        self._issued: list[Knot] = []  # the last two actions that were given out, where the curve begins

    def __bool__(self) -> bool:
        return bool(self._knots)

    @property
    def end(self) -> float:
        """Place of the last knot; -inf without one."""
        return self._knots[-1].place if self._knots else -np.inf

    def clear(self) -> None:
        """Forget everything."""
        self._knots.clear()
        self._issued.clear()

    def replace(self, knots: list[Knot], begin: float) -> None:
        """From `begin` on these instead of what was there; what was given out before stays the curve's beginning."""
        kept = [knot for knot in knots if knot.place >= begin - EPSILON]
        before = [one for one in self._issued if one.place < begin - EPSILON]
        self._knots = before + kept if kept else []

    def append(self, knots: list[Knot]) -> None:
        """These behind what is there."""
        self._knots.extend(knots)

    def at(self, place: float) -> Knot | None:
        """What is due at a place: the knot there, or a point of the curve between two; None beyond the last one.

        chunk, step and captured_at are those of the last knot at or before it, of the next one where that is older.
        """
        places = [knot.place for knot in self._knots]
        i = bisect_right(places, place + EPSILON) - 1
        if not self._knots or (i < 0 and places[0] > place + EPSILON) or place > places[-1] + EPSILON:
            return None
        before = self._knots[i]
        if i == len(places) - 1 or place - before.place <= EPSILON:
            return Knot(place, before.action, before.chunk, before.step, before.captured_at)
        after = self._knots[i + 1]
        oldest = min(before.captured_at, after.captured_at)
        return Knot(place, self._curve(i, place), before.chunk, before.step, oldest)

    def issue(self, place: float) -> Knot | None:
        """The same, noted as given out: a chunk that comes later begins from there."""
        due = self.at(place)
        if due is not None:
            self._issued = [*self._issued[-1:], due]
            # The curve needs one knot before the place; those before that are done.
            done = bisect_left([knot.place for knot in self._knots], place - EPSILON) - 2
            del self._knots[: max(0, done)]
        return due

    def sample(self, place: float) -> list[Knot]:
        """What is due at `place` and each whole step after it, to the end."""
        found = []
        while (due := self.at(place)) is not None:
            found.append(due)
            place += 1.0
        return found

    def _curve(self, i: int, place: float) -> Joints:
        """The cubic Hermite curve between knots i and i + 1; slopes from the knots on both sides."""
        left, right = self._knots[i], self._knots[i + 1]
        width = right.place - left.place
        u = (place - left.place) / width
        a, b = self._slope(i) * width, self._slope(i + 1) * width
        result: Joints = (
            (1 + 2 * u) * (1 - u) ** 2 * left.action
            + u * (1 - u) ** 2 * a
            + u**2 * (3 - 2 * u) * right.action
            + u**2 * (u - 1) * b
        )
        return result

    def _slope(self, i: int) -> Joints:
        """Per step, at knot i."""
        left, right = self._knots[max(0, i - 1)], self._knots[min(len(self._knots) - 1, i + 1)]
        slope: Joints = (right.action - left.action) / (right.place - left.place)
        return slope
