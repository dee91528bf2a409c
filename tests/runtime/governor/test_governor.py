"""The governor tick by tick: what passes, what is clamped, held or stopped, and that a stop stays."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smolpilot.common.errors import DeviceError
from smolpilot.contracts import Flag, StopCategory
from smolpilot.runtime.governor import GovernorOptions, Phase

from .helpers_governor import LIMITS, TICK, Driven, motion

HERE = [0.0, 0.0, 0.0]

hostile = st.one_of(
    st.just(None),
    st.sampled_from([[float("nan")] * 3, [np.inf, 0, 0], [1e9] * 3, [-1e9] * 3, [], [1.0], [0.0] * 4, "abc",
                     [[0.0] * 3], [None, 1, 2], [10**400, 0, 0], [90, 90, 90], [-90, -30, -90]]),
    st.lists(st.floats(-120, 120), min_size=3, max_size=3),
)  # fmt: skip


def check_within(driven: Driven) -> None:
    """All commands are finite and within position, velocity and acceleration of the commands before them."""
    commands = np.array(driven.commands)
    assert np.isfinite(commands).all()
    limits = driven.governor.limits
    assert (commands >= limits.low - 1e-9).all()
    assert (commands <= limits.high + 1e-9).all()
    velocity, acceleration = motion(driven.commands)
    assert (np.abs(velocity) <= limits.velocity * (1 + 1e-6)).all()
    assert (np.abs(acceleration) <= limits.acceleration * (1 + 1e-6) + 1e-6).all()


@settings(deadline=None, max_examples=150)
@given(st.lists(hostile, min_size=1, max_size=60), st.booleans())
def test_whatever_is_asked_stays_within_the_limits(actions: list[Any], lift_stops: bool) -> None:
    driven = Driven()
    for action in actions:
        made = driven.tick(action)
        if made.stop is not None and lift_stops:
            driven.run(None, 20)
            driven.governor.rearm(driven.commands[-1])
    check_within(driven)


@settings(deadline=None, max_examples=100)
@given(
    st.lists(
        st.tuples(hostile, st.floats(-10, 10) | st.just(np.nan) | st.just(-np.inf), st.booleans()),
        min_size=1,
        max_size=40,
    )
)
def test_stale_and_foreign_times_never_move_anything(steps: list[tuple[Any, float, bool]]) -> None:
    driven = Driven()
    for action, age, of_observation in steps:
        old: dict[str, Any] = {"observed_at" if of_observation else "asked_at": driven.now - age}
        driven.tick(action, **old)
    check_within(driven)


def test_first_motion_is_slow_and_then_requests_pass_exactly() -> None:
    driven = Driven()
    made = driven.tick([20.0, 0.0, 0.0])
    assert made.flags[Flag.RAMP] == ("pan",)
    driven.reach([20.0, 0.0, 0.0])
    velocity, acceleration = motion(driven.commands)
    assert np.abs(velocity).max() <= 60 * 0.25 + 1e-6
    assert np.abs(acceleration).max() <= 200 * 0.25 + 1e-6
    assert driven.governor.phase is Phase.RUNNING
    made = driven.tick([20.1, 0.05, 1.0 / 30])
    assert made.flags == {}
    np.testing.assert_array_equal(made.command, [20.1, 0.05, 1.0 / 30])


def test_a_policys_noise_does_not_keep_the_arm_on_the_ramp_for_ever() -> None:
    driven = Driven()
    draw = np.random.default_rng(0)
    # More than the ramp can follow from one tick to the next, all joints at once.
    noisy = np.array([10.0, 5.0, 0.0]) + draw.normal(0, 0.15, (90, 3))
    phases = [(driven.tick(action), driven.governor.phase)[1] for action in noisy]
    assert 20 < phases.index(Phase.RUNNING) < 60, "not before it was there, and soon after"
    velocity, _ = motion(driven.commands)
    assert np.abs(velocity[:20]).max() <= 60 * 0.25 + 1e-6


def test_a_joint_that_chases_its_request_does_not_hide_the_clamps_of_another() -> None:
    driven = Driven()
    driven.tick([80.0, 0.0, 0.0])
    for i in range(400):
        away = 80.0 if i % 80 < 40 else -80.0  # it never gets there
        if driven.tick([away, 5.0 if i % 2 else -5.0, 0.0]).stop is not None:
            break
    assert driven.governor.stop is not None
    assert driven.governor.stop.reason.startswith("'lift' was clamped in")


def test_a_request_that_the_ramp_never_reaches_is_a_reason_to_stop() -> None:
    driven = Driven()
    stops = [i for i in range(700) if driven.tick([80.0 if i % 2 else -80.0, 0.0, 0.0]).stop is not None]
    assert stops
    assert stops[0] * TICK > 1.5 * 180 / 15, "one far request would have been reached by then"
    assert driven.governor.stop is not None
    assert driven.governor.stop.reason.startswith("'pan' was clamped in 100% of the ticks of the last 18.5")
    check_within(driven)


def test_whoever_changes_what_was_told_last_moves_nothing() -> None:
    driven = Driven()
    driven.reach(HERE)
    last = driven.governor.last_command
    assert last is not None
    last += 50.0
    np.testing.assert_array_equal(driven.tick(None).command, HERE)


def test_clamps_are_counted_by_joint() -> None:
    driven = Driven()
    driven.reach(HERE)
    made = driven.tick([60.0, 0.0, 0.0])
    assert made.flags == {Flag.VELOCITY: ("pan",)}
    made = driven.tick([60.0, 0.0, 95.0])
    assert set(made.flags) == {Flag.VELOCITY, Flag.POSITION}
    assert made.flags[Flag.VELOCITY] == ("pan", "gripper")
    assert driven.governor.counts[(Flag.VELOCITY, "pan")] == 2
    assert driven.governor.counts[(Flag.POSITION, "gripper")] == 1
    assert made.stop is None


def test_what_is_no_action_is_held_and_three_in_a_row_stop() -> None:
    driven = Driven()
    driven.reach([10.0, 0.0, 0.0])
    for bad, flag in (([np.nan, 0, 0], Flag.NOT_FINITE), ([1.0], Flag.WRONG_LENGTH), ([1e39, 0, 0], Flag.NOT_FINITE)):
        made = driven.tick(bad)
        assert flag in made.flags
        np.testing.assert_array_equal(made.command, [10.0, 0.0, 0.0])  # never zeros
        assert made.stop is None
        driven.tick([10.0, 0.0, 0.0])
    driven.tick([np.nan, 0, 0])
    driven.tick([np.nan, 0, 0])
    made = driven.tick([np.nan, 0, 0])
    assert made.stop is not None
    assert made.stop.reason == "3 requests in a row were not finite."
    assert made.flags[Flag.NOT_FINITE] == ("pan",)


def test_a_request_far_outside_stops_at_once_and_names_the_joint_and_the_limit() -> None:
    driven = Driven()
    driven.reach([10.0, 0.0, 0.0])
    made = driven.tick([10.0, 1e9, 0.0])
    assert made.stop is not None
    assert made.stop.category is StopCategory.HOLD
    assert made.stop.reason == "'lift' is asked to go to 1e+09 deg; its limits are -30 (test) and 90 (test)."
    assert made.flags[Flag.POSITION] == ("lift",)
    assert Flag.STOPPED in made.flags


def test_a_stop_in_motion_slows_down_within_the_limits_and_stays_until_a_person_lifts_it() -> None:
    driven = Driven()
    driven.reach(HERE)
    driven.run([60.0, 0.0, 0.0], 12)
    assert motion(driven.commands)[0][-1][0] > 40
    driven.governor.halt(StopCategory.HOLD, "a person said so")
    made = driven.run([60.0, 0.0, 0.0], 30)
    stood = driven.commands[-1]
    check_within(driven)
    np.testing.assert_array_equal(driven.commands[-5], stood)
    assert made.stop is not None
    assert made.stop.reason == "a person said so"
    driven.governor.halt(StopCategory.HOLD, "another reason")
    assert driven.governor.stop is not None
    assert driven.governor.stop.reason == "a person said so", "the first cause is the one to look at"
    driven.governor.rearm(stood)
    assert driven.governor.phase is Phase.RAMP
    made = driven.tick([60.0, 0.0, 0.0])
    assert Flag.RAMP in made.flags
    assert made.stop is None


def test_many_clamps_in_a_row_stop() -> None:
    driven = Driven()
    driven.reach(HERE)
    flip = [[60.0, 0.0, 0.0], [-60.0, 0.0, 0.0]]
    stops = [i for i in range(200) if driven.tick(flip[i % 2]).stop is not None]
    # The range is crossed in 180 / 60 + 60 / 200 s; half as long again is 148.5 ticks, the one of `reach` among them.
    assert stops[0] == 146, "not before the window is full"
    assert driven.governor.stop is not None
    assert driven.governor.stop.reason.startswith("'pan' was clamped in 99% of the ticks of the last 4.9 s")
    check_within(driven)


def test_a_far_request_is_clamped_all_the_way_and_is_no_reason_to_stop() -> None:
    driven = Driven()
    driven.reach([-90.0, 0.0, 0.0])
    assert driven.run([90.0, 0.0, 0.0], 200).stop is None
    assert driven.commands[-1][0] == 90.0


def test_a_gripper_asked_a_little_beyond_its_end_for_long_is_no_reason_to_stop() -> None:
    driven = Driven()
    driven.reach(HERE)
    driven.reach([0.0, 0.0, 90.0])
    made = driven.run([0.0, 0.0, 94.0], 200)
    assert made.stop is None
    assert made.flags == {Flag.POSITION: ("gripper",)}


@pytest.mark.parametrize(
    ("request_", "images", "flag", "reason"),
    [
        ({"asked_at": 0.0}, {}, Flag.STALE_ACTION, r"What is asked for is \d+\.\d\d s old; 0\.25 s are allowed\."),
        ({"asked_at": 1e6}, {}, Flag.STALE_ACTION, r"to come: is it of another clock\?"),
        ({"asked_at": np.nan}, {}, Flag.STALE_ACTION, r"never there, or has no time"),
        ({"observed_at": 0.0}, {}, Flag.STALE_CHUNK, r"The observation behind the action is .* 3 s are allowed"),
        ({"sees": ("front",)}, {"front": 0.0}, Flag.STALE_IMAGE, r"image of camera 'front' is .* 0\.5 s are allowed"),
        ({"sees": ("front",)}, {}, Flag.STALE_IMAGE, r"image of camera 'front' was never there"),
    ],
)
def test_whatever_is_too_old_stops_and_says_what(
    request_: dict[str, Any], images: dict[str, float], flag: Flag, reason: str
) -> None:
    driven = Driven()
    driven.reach(HERE)
    made = driven.tick([5.0, 0.0, 0.0], images=images, **request_)
    assert flag in made.flags
    assert made.stop is not None
    assert re.search(reason, made.stop.reason), made.stop.reason
    np.testing.assert_array_equal(made.command, HERE)


def test_joints_that_are_not_read_any_more_stop() -> None:
    driven = Driven()
    driven.reach(HERE)
    old = driven.reading()
    for _ in range(4):
        assert driven.tick(HERE, reading=old).stop is None  # a lost reading or two are no fault
    made = driven.tick(HERE, reading=old)
    assert Flag.STALE_STATE in made.flags
    assert made.stop is not None
    assert "The joints were read 0.17 s ago; 0.15 s are allowed." in made.stop.reason


def test_nobody_asking_slows_down_at_once_and_stops_after_a_while() -> None:
    driven = Driven()
    driven.reach(HERE)
    driven.run([60.0, 0.0, 0.0], 12)
    made = driven.tick(None)
    assert made.flags == {Flag.STARVED: ()}
    made = driven.run(None, 14)
    assert made.stop is None
    assert driven.governor.at_rest
    made = driven.run(None, 2)
    assert made.stop is not None
    assert made.stop.reason.startswith("Nobody has asked for anything for 0.53 s")
    check_within(driven)


def test_a_joint_that_does_not_follow_stops_and_gives_way() -> None:
    driven = Driven()
    driven.reach(HERE)
    driven.reach([30.0, 0.0, 0.0])
    driven.says["position"] = np.array([10.0, 0.0, 0.0])
    assert driven.run([30.0, 0.0, 0.0], 2).stop is None  # one disturbed reading stops nothing
    made = driven.tick([30.0, 0.0, 0.0])
    assert made.stop is not None
    assert made.flags[Flag.TRACKING] == ("pan",)
    assert made.stop.reason.startswith("'pan' is at 10.0 deg, commanded 30.0: more than 15.0 apart")
    assert made.relaxed == ("pan",)
    driven.run(HERE, 60)
    assert driven.commands[-1][0] == pytest.approx(10.0), "it stands where it was measured"
    check_within(driven)


def test_a_single_wild_reading_moves_nothing() -> None:
    driven = Driven()
    driven.reach([30.0, 0.0, 0.0])
    made = driven.tick([30.0, 0.0, 0.0], reading=driven.reading(position=np.array([-80.0, 0.0, 0.0])))
    assert made.stop is None
    np.testing.assert_array_equal(made.command, [30.0, 0.0, 0.0])


def test_a_stalled_joint_gives_way_and_a_gripper_only_loses_force() -> None:
    driven = Driven()
    driven.reach([10.0, 0.0, 0.0])
    driven.says |= {"position": np.array([2.0, 0.0, 0.0]), "current": np.array([1.5, 0.0, 0.0])}
    made = driven.run([10.0, 0.0, 0.0], 15)
    assert made.stop is None
    made = driven.run([10.0, 0.0, 0.0], 2)
    assert made.flags[Flag.STALL] == ("pan",)
    assert made.stop is not None
    assert made.stop.reason == "'pan' pushes with 1.5 A and does not move: it is at 2.0 deg, commanded 10.0."
    driven.run(HERE, 60)
    assert driven.commands[-1][0] == pytest.approx(2.0)

    driven = Driven()
    driven.reach([0.0, 0.0, -40.0])
    driven.says |= {"position": np.array([0.0, 0.0, -5.0]), "current": np.array([0.0, 0.0, 1.5])}
    made = driven.run([0.0, 0.0, -40.0], 16)
    told = [driven.tick([0.0, 0.0, -40.0]) for _ in range(30)]
    softened = [t.torque for t in (made, *told) if t.torque]
    assert softened == [{"gripper": 0.25}], "once, and half of its limit"
    assert told[-1].flags[Flag.STALL] == ("gripper",)
    assert told[-1].stop is None
    driven.says.clear()
    assert driven.tick([0.0, 0.0, -40.0]).torque == {"gripper": 0.5}, "all of it again once it follows"


@pytest.mark.parametrize(
    ("says", "flag", "reason"),
    [
        ({"temperature": np.array([35.0, 66.0, 35.0])}, Flag.TEMPERATURE,
         "The servo of 'lift' is at 66 °C; it switches off at 70 °C."),
        ({"voltage": np.array([7.4, 3.9, 7.4])}, Flag.VOLTAGE,
         "The servo of 'lift' has 3.9 V; it works from 4.0 to 8.0 V."),
        ({"faults": {"lift": ("encoder",)}}, Flag.STATUS,
         "The servo of 'lift' reports a fault of its own: encoder."),
    ],
)  # fmt: skip
def test_servos_in_trouble_stop_the_arm_before_damage(says: dict[str, Any], flag: Flag, reason: str) -> None:
    driven = Driven()
    driven.reach(HERE)
    driven.says |= says
    assert driven.run(HERE, 2).stop is None
    made = driven.tick(HERE)
    assert made.flags[flag] == ("lift",)
    assert made.stop is not None
    assert made.stop.reason == reason


def test_a_silent_servo_stops_when_its_state_is_too_old() -> None:
    driven = Driven()
    driven.reach(HERE)
    driven.says["position"] = np.array([0.0, np.nan, 0.0])
    made = driven.run(HERE, 5)
    assert made.stop is None
    made = driven.run(HERE, 2)
    assert made.flags[Flag.STALE_STATE] == ("lift",)
    assert made.stop is not None
    assert made.stop.reason == "No answer from the servo of 'lift'."
    assert np.isfinite(driven.run(HERE, 10).command).all()  # type: ignore[arg-type]


def test_a_late_tick_moves_no_farther_and_a_long_pause_starts_from_rest() -> None:
    driven = Driven()
    driven.reach(HERE)
    driven.run([60.0, 0.0, 0.0], 12)
    step = driven.commands[-1][0] - driven.commands[-2][0]
    driven.tick([60.0, 0.0, 0.0], dt=2 * TICK)
    assert driven.commands[-1][0] - driven.commands[-2][0] <= step + 200 * TICK * TICK + 1e-9
    driven.tick([60.0, 0.0, 0.0], dt=0.1)
    assert driven.commands[-1][0] - driven.commands[-2][0] <= 200 * TICK * TICK + 1e-9


def test_nothing_is_sent_before_the_start_and_a_start_needs_a_place() -> None:
    driven = Driven()
    driven.governor.disengage()
    made = driven.governor.tick(driven.now + 1, None, driven.reading())
    assert made.command is None
    assert Flag.STOPPED in made.flags
    with pytest.raises(DeviceError, match="where all its joints are"):
        driven.governor.start(np.array([0.0, np.nan, 0.0]))
    with pytest.raises(DeviceError, match="where all its joints are"):
        driven.governor.start(np.zeros(2))


def test_a_share_of_the_limits_tightens_and_nothing_loosens() -> None:
    slow = LIMITS.scaled(0.25)
    assert slow.velocity.tolist() == [15.0, 5.0, 15.0]
    assert slow.acceleration.tolist() == [50.0, 50.0, 50.0]
    assert slow.low.tolist() == LIMITS.low.tolist()
    assert slow.joints[0].velocity.origin == "25% of 60 from test"
    for share in (0.0, 1.01, -1.0, float("nan")):
        with pytest.raises(Exception, match="above 0 and at most 1"):
            LIMITS.scaled(share)


def test_options_change_the_bands() -> None:
    driven = Driven(options=GovernorOptions(max_rejected=1, ramp_share=1.0))
    made = driven.tick([np.nan, 0, 0])
    assert made.stop is not None
    driven.governor.rearm(driven.commands[-1])
    driven.tick([60.0, 0.0, 0.0])
    assert driven.commands[-1][0] == pytest.approx(200 * TICK * TICK)


def test_ticks_a_little_early_or_late_are_ticks() -> None:
    driven = Driven()
    driven.reach(HERE)
    for i in range(60):  # a policy's smooth way, at times as an operating system gives them
        made = driven.tick([0.3 * i * min(i, 10) / 20, 0.0, 0.0], dt=TICK * (0.75 if i % 2 else 1.25))
        assert made.flags == {}, i


def test_whoever_calls_too_often_moves_no_faster() -> None:
    driven = Driven()
    driven.reach(HERE)
    begin = driven.now
    for _ in range(300):
        driven.tick([80.0, 0.0, 0.0], dt=TICK / 5)
        assert driven.commands[-1][0] <= 60 * (driven.now - begin + TICK)
    assert driven.commands[-1][0] > 50


@pytest.mark.parametrize("page", ["safety.md", "safety.zh-CN.md"])
def test_every_key_is_on_the_page_about_safety(page: str) -> None:
    text = (Path(__file__).parents[3] / "docs" / page).read_text(encoding="utf-8")
    assert [name for name in GovernorOptions.model_fields if f"`{name}`" not in text] == []
