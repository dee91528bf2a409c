"""The actions that lie ahead, at their places in the playback, and what is due between two of them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from itertools import pairwise

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
    """Knots in the order of their places. Between them a cubic Hermite curve, so that no velocity jumps at a knot.

    The slope at a knot is that of the chunk that it comes from, and a new chunk begins from the last action that was
    given out, with the slope that the curve had there: so chunks that agree leave no trace where one follows another.
    """

    def __init__(self) -> None:
        self._knots: list[Knot] = []
        self._slopes: list[Joints] = []  # at the knots, per step
        self._issued: tuple[Knot, Joints] | None = None  # the last action that was given out, and the slope there

    def __bool__(self) -> bool:
        return bool(self._knots)

    @property
    def end(self) -> float:
        """Place of the last knot; -inf without one."""
        return self._knots[-1].place if self._knots else -np.inf

    def clear(self) -> None:
        """Forget everything."""
        self._knots.clear()
        self._slopes.clear()
        self._issued = None

    def replace(self, knots: list[Knot], begin: float) -> None:
        """From `begin` on these, one step apart, instead of what was there; what was given out before stays the curve's
        beginning. Those before `begin` only tell how the others are moved through."""
        first = bisect_left([knot.place for knot in knots], begin - EPSILON)
        self._knots, self._slopes = knots[first:], _slopes(knots)[first:]
        if self._knots and self._issued is not None and self._issued[0].place < begin - EPSILON:
            self._knots.insert(0, self._issued[0])
            self._slopes.insert(0, self._issued[1])

    def append(self, knots: list[Knot]) -> None:
        """These behind what is there."""
        kept = max(0, len(self._knots) - _REACH)  # those before are as near to what follows as they were
        self._knots.extend(knots)
        self._slopes[kept:] = _slopes(self._knots)[kept:]

    def at(self, place: float) -> Knot | None:
        """What is due at a place: the knot there, or a point of the curve between two; None beyond the last one.

        chunk, step and captured_at are those of the last knot at or before it, of the next one where that is older.
        """
        found = self._found(place)
        return None if found is None else found[0]

    def issue(self, place: float) -> Knot | None:
        """The same, noted as given out: a chunk that comes later begins from there."""
        found = self._found(place)
        if found is None:
            return None
        self._issued = found
        # The curve needs one knot before the place, a chunk that is blended in what it is blended with.
        done = max(0, bisect_left([knot.place for knot in self._knots], place - EPSILON) - 1 - _REACH)
        del self._knots[:done], self._slopes[:done]
        return found[0]

    def sample(self, place: float) -> list[Knot]:
        """What is due at `place` and each whole step after it, to the end."""
        found = []
        while (due := self.at(place)) is not None:
            found.append(due)
            place += 1.0
        return found

    def _found(self, place: float) -> tuple[Knot, Joints] | None:
        """What is due at a place, and the slope there."""
        places = [knot.place for knot in self._knots]
        i = bisect_right(places, place + EPSILON) - 1
        if not self._knots or (i < 0 and places[0] > place + EPSILON) or place > places[-1] + EPSILON:
            return None
        before = self._knots[i]
        if i == len(places) - 1 or place - before.place <= EPSILON:
            return Knot(place, before.action, before.chunk, before.step, before.captured_at), self._slopes[i]
        oldest = min(before.captured_at, self._knots[i + 1].captured_at)
        action, slope = self._curve(i, place)
        return Knot(place, action, before.chunk, before.step, oldest), slope

    def _curve(self, i: int, place: float) -> tuple[Joints, Joints]:
        """The cubic Hermite curve between knots i and i + 1: its value and its slope."""
        left, right = self._knots[i], self._knots[i + 1]
        width = right.place - left.place
        u = (place - left.place) / width
        a, b, way = self._slopes[i] * width, self._slopes[i + 1] * width, right.action - left.action
        value: Joints = left.action + u**2 * (3 - 2 * u) * way + u * (1 - u) ** 2 * a + u**2 * (u - 1) * b
        slope: Joints = (6 * u * (1 - u) * way + (1 - u) * (1 - 3 * u) * a + u * (3 * u - 2) * b) / width
        return value, slope


_REACH = 2
"""Knots on both sides that a slope depends on."""


def _slopes(knots: list[Knot]) -> list[Joints]:
    """Per step, at each knot. Between neighbors that are one step apart to the fourth order: to the second, the curve's
    jerk is three times that of a smooth motion, and its acceleration jumps at each knot."""
    places, actions = [knot.place for knot in knots], [knot.action for knot in knots]
    found: list[Joints] = []
    for i in range(len(knots)):
        low, high = max(0, i - 1), min(len(knots) - 1, i + 1)
        if low == high:
            found.append(np.zeros_like(actions[i]))
        elif _REACH <= i < len(knots) - _REACH and _even(places[i - _REACH : i + _REACH + 1]):
            found.append((8 * (actions[i + 1] - actions[i - 1]) - (actions[i + 2] - actions[i - 2])) / 12)
        else:
            found.append((actions[high] - actions[low]) / (places[high] - places[low]))
    return found


def _even(places: list[float]) -> bool:
    return all(abs(b - a - 1.0) <= EPSILON for a, b in pairwise(places))
