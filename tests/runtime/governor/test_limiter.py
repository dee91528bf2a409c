"""One tick of motion: within all limits whatever is asked, exact where that can be done, and without overshoot."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smolpilot.runtime.governor.limiter import Limits, Motion, brake, slow_down, step_to

LIMITS = Limits(np.array([-90.0]), np.array([90.0]), np.array([60.0]), np.array([200.0]))
DT = 1 / 30

wild = st.one_of(
    st.floats(-200, 200), st.sampled_from([1e9, -1e9, 0.0, 90.0, -90.0, 89.999, 1e-9, -1e300]), st.floats(-1, 1)
)


def follow(requests: list[float], *, start: float = 0.0, dts: list[float] | None = None) -> list[Any]:
    """What becomes of requests, tick after tick, from rest."""
    last = Motion(np.array([start]), np.zeros(1))
    before = last.position
    made = []
    for i, request in enumerate(requests):
        target = np.array([request])
        moved = step_to(last, target, before, dts[i] if dts else DT, LIMITS)
        last, before = moved.motion, target
        made.append(moved)
    return made


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.tuples(wild, st.floats(1e-4, DT)), min_size=1, max_size=80),
    st.floats(-90, 90),
)
def test_no_request_leads_beyond_a_limit(steps: list[tuple[float, float]], start: float) -> None:
    requests, dts = [s[0] for s in steps], [s[1] for s in steps]
    velocity = 0.0
    for moved, dt in zip(follow(requests, start=start, dts=dts), dts, strict=True):
        position, new = moved.motion.position[0], moved.motion.velocity[0]
        assert -90 - 1e-9 <= position <= 90 + 1e-9
        assert abs(new) <= 60 * (1 + 1e-6)
        assert abs(new - velocity) <= 200 * dt + 1e-6
        # It can always stop in front of the limit that it moves to.
        room = (90 - position) if new > 0 else (position + 90)
        assert new * new / (2 * 200) <= room + 1e-6
        velocity = new


@settings(deadline=None, max_examples=100)
@given(st.lists(wild, min_size=1, max_size=40))
def test_slowing_down_reaches_rest_within_the_limits(requests: list[float]) -> None:
    last = follow(requests)[-1].motion
    speed = abs(last.velocity[0])
    ticks = 0
    while last.velocity[0]:
        before = last
        last = slow_down(last, DT, LIMITS)
        assert abs(last.velocity[0] - before.velocity[0]) <= 200 * DT + 1e-9
        assert -90 - 1e-9 <= last.position[0] <= 90 + 1e-9
        ticks += 1
    assert ticks <= int(np.ceil(speed / (200 * DT) + 1e-9))


def test_what_can_be_done_is_done_exactly() -> None:
    t = np.arange(200) * DT
    sine = 20 * (1 - np.cos(1.5 * t))  # at most 30 deg/s and 45 deg/s²
    made = follow(list(sine))
    np.testing.assert_array_equal([m.motion.position[0] for m in made], sine)
    assert not any(m.clamped.any() for m in made)


def test_a_step_is_reached_without_overshoot_and_as_fast_as_allowed() -> None:
    made = follow([50.0] * 60)
    positions = np.array([m.motion.position[0] for m in made])
    assert positions.max() == 50.0
    assert (np.diff(positions) >= 0).all()
    assert made[-1].motion.velocity[0] == 0
    # 60 deg/s takes 0.3 s and 9 deg to reach and to leave: 50 deg in 1.13 s and some ticks.
    first = int(np.argmax(positions == 50.0))
    assert first * DT == pytest.approx(50 / 60 + 0.3, abs=0.1)
    assert made[0].acceleration.any() or made[0].velocity.any()
    assert not made[-1].clamped.any()


def test_a_moving_request_is_caught_up_with_and_then_followed_exactly() -> None:
    # Jumps by 20, then moves on with 30 deg/s: half of what is allowed.
    requests = [20 + 30 * DT * i for i in range(60)]
    made = follow(requests)
    errors = np.array([m.motion.position[0] - r for m, r in zip(made, requests, strict=True)])
    assert errors.max() <= 1e-9, "it overshot the request"
    assert abs(errors[-1]) < 1e-9
    assert not made[-1].clamped.any()


def test_who_stands_outside_may_stay_or_go_inward() -> None:
    made = follow([120.0] * 10, start=100.0)
    assert {m.motion.position[0] for m in made} == {100.0}
    assert made[0].position.all()
    assert not follow([100.0], start=100.0)[0].clamped.any()
    made = follow([85.0] * 40 + [120.0] * 40, start=100.0)
    positions = [100.0, *(m.motion.position[0] for m in made)]
    assert all(b <= a for a, b in itertools.pairwise(positions[:41]))
    assert positions[40] == pytest.approx(85.0)
    assert positions[-1] == 90.0
    outward = follow([1e9, -1e9, 1e9], start=-95.0)
    assert min(m.motion.position[0] for m in outward) >= -95.0


def test_limits_that_become_tighter_in_motion_still_hold_the_position() -> None:
    made = follow([80.0] * 30)
    last = made[20].motion
    assert last.velocity[0] > 50
    tighter = Limits(LIMITS.low, last.position + 1.0, LIMITS.velocity, LIMITS.acceleration)
    highest = tighter.high[0]
    for _ in range(40):
        last = step_to(last, np.array([80.0]), np.array([80.0]), DT, tighter).motion
        assert last.position[0] <= highest + 1e-9
    assert last.position[0] == pytest.approx(highest)


@settings(deadline=None)
@given(st.floats(0, 1000), st.floats(0.1, 1e4), st.floats(1e-4, 0.1))
def test_braking_takes_the_room_that_it_was_given(room: float, acceleration: float, dt: float) -> None:
    speed: npt.NDArray[np.float64] = brake(np.array([room]), np.array([acceleration]), dt)
    used = speed[0] * dt + speed[0] ** 2 / (2 * acceleration)
    assert used == pytest.approx(room, rel=1e-6, abs=1e-9)
