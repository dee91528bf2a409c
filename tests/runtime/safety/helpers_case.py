"""One fault that a promise of docs/safety.md is tried with, and what many of them need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from smolpilot.contracts import SentAction

from .helpers_rig import HOME, Rig


@dataclass(frozen=True)
class Case:
    """`promise`: its number in docs/safety.md; `fault`: a few words for the table; `check`: how many were survived."""

    promise: int
    fault: str
    check: Callable[[], int]


CASES: list[Case] = []


def case(promise: int, fault: str) -> Callable[[Callable[[], int]], Callable[[], int]]:
    """Put a check into the table."""

    def put(check: Callable[[], int]) -> Callable[[], int]:
        CASES.append(Case(promise, fault, check))
        return check

    return put


def stopped(made: SentAction, *words: str) -> None:
    """A stop is in force, and its reason holds these words."""
    assert made.stop is not None, "no stop"
    assert all(word in made.stop.reason for word in words), made.stop.reason


def stays(rig: Rig, ticks: int = 30) -> None:
    """Whatever is asked, nothing is written and nothing moves any more."""
    rig.run(HOME, 15)  # to rest
    before, packets_before = rig.positions(), len(rig.bus.log)
    made = rig.run(HOME + 5, ticks)
    assert made.stop is not None
    assert not rig.goal_writes(packets_before), "a goal was written under a stop"
    assert np.abs(rig.positions() - before).max() < 1.0


def away(*degrees: float) -> npt.NDArray[np.float64]:
    """The home pose, each joint so far away."""
    return HOME + np.array(degrees)
