from __future__ import annotations

import itertools

import pytest

from smolpilot.training.optimization.schedule import Schedule


def test_warm_up_rises_to_the_peak_and_the_cosine_ends_at_the_floor() -> None:
    schedule = Schedule(peak=1.0, floor=0.1, warmup=4, steps=100)
    rising = [schedule.rate(step) for step in range(4)]
    assert rising == pytest.approx([0.2, 0.4, 0.6, 0.8])
    falling = [schedule.rate(step) for step in range(4, 101)]
    assert all(a > b for a, b in itertools.pairwise(falling))
    assert falling[-1] == pytest.approx(0.1)
    assert schedule.rate(50) == pytest.approx(0.55)


def test_no_warm_up_starts_at_the_peak() -> None:
    assert Schedule(peak=2e-3, floor=0.0, warmup=0, steps=10).rate(0) == 2e-3
