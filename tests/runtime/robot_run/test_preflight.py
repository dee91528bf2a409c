"""A policy against an arm, before anything moves: each line of the preflight, and joints and units by name."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from smolpilot.common.errors import UsageError
from smolpilot.contracts import GUIDED, CameraSpec, DriverLimits
from smolpilot.robots import RobotProfile
from smolpilot.robots.demonstrated import Demonstrated, JointLimits, Origin, StartPose
from smolpilot.runtime.inspection.check_report import CheckLine, Verdict
from smolpilot.runtime.limits import effective_limits
from smolpilot.runtime.robot_run.preflight import (
    choose_instruction,
    far_from_start,
    fitting_horizon,
    orders_of,
    policy_lines,
    policy_rate,
    pose_lines,
    schedule_lines,
    start_line,
)
from smolpilot.runtime.robot_run.protocol import PolicyAbout
from smolpilot.runtime.scheduling import Mode, Schedule, ScheduleOptions, Turnarounds

PROFILE = RobotProfile.load("so101")
NAMES = tuple(joint.name for joint in PROFILE.action_joints)
UNITS = tuple(str(joint.unit) for joint in PROFILE.action_joints)
FRONT = {"front": CameraSpec("front", 48, 64, 30.0)}
OK, WARN, FAIL = Verdict.OK, Verdict.WARN, Verdict.FAIL


def about(**changes: Any) -> PolicyAbout:
    """A policy of an SO-101 that looks through `front`."""
    values: dict[str, Any] = {
        "name": "made", "policy_kind": "test", "chunk_size": 50, "n_action_steps": 10, "n_obs_steps": 1, "state_dim": 6,
        "action_dim": 6, "state_names": NAMES, "state_units": UNITS, "action_names": NAMES, "action_units": UNITS,
        "cameras": ("front",), "image_sizes": {"front": (48, 64)}, "instructions": ("lift it",), "rate": 30.0,
        "capabilities": (), "demonstrated": None, "digest": None, "engine": None, "precision": "", "device": "cpu",
        "memory_bytes": 0, "notes": (), "warnings": (), "instruction_tokens": None,
    }  # fmt: skip
    return PolicyAbout(**(values | changes))


def lines(made: PolicyAbout, instruction: str | None = "lift it", **cameras: CameraSpec) -> dict[str, CheckLine]:
    found = policy_lines(made, PROFILE, cameras or FRONT, instruction)
    return {line.subject: line for line in found}


def demonstrated(low: float = -5.0, high: float = 5.0, **other: Any) -> Demonstrated:
    """Demonstrations that began with the shoulder between `low` and `high` degrees."""
    values: dict[str, Any] = {"name": "shoulder_pan", "unit": "deg", "q00": low, "q01": low, "q50": (low + high) / 2,
                              "q99": high, "q100": high}  # fmt: skip
    joint = JointLimits(name="shoulder_pan", unit="deg", velocity=60.0, acceleration=200.0)
    origin = Origin(dataset="d", fingerprint=None, rate=30.0, frames=10, episodes=(0,))
    return Demonstrated(joints=(joint,), start_poses=(StartPose(**(values | other)),), origins=(origin,))


def test_a_policy_of_this_arm_has_nothing_against_it() -> None:
    found = lines(about())
    assert {line.verdict for line in found.values()} == {OK}
    assert [*found] == ["joints", "camera front", "rate", "instruction"]
    assert found["joints"].found == "6, names, order and units as the robot's"
    assert found["camera front"].found == "64x48 at 30 fps"
    orders = orders_of(about(), PROFILE)
    assert (orders.action, orders.state) == (None, None)
    state = np.arange(6, dtype=np.float64)
    assert orders.states(state) is state


# joints, order, units


def test_joints_in_another_order_are_put_right_by_name_both_ways() -> None:
    turned = tuple(reversed(NAMES))
    made = about(action_names=turned, action_units=tuple(reversed(UNITS)), state_names=turned,
                 state_units=tuple(reversed(UNITS)))  # fmt: skip
    orders = orders_of(made, PROFILE)
    assert orders.actions(np.array([[6.0, 5, 4, 3, 2, 1], [60, 50, 40, 30, 20, 10]])).tolist() == [
        [1, 2, 3, 4, 5, 6],
        [10, 20, 30, 40, 50, 60],
    ]
    assert orders.states(np.arange(6, dtype=np.float64)).tolist() == [5, 4, 3, 2, 1, 0]
    assert lines(made)["joints"].found == "6, names, order and units put in order and converted by name"


def test_radians_of_the_policy_become_the_robots_degrees_and_its_degrees_the_policys_radians() -> None:
    units = ("rad",) * 5 + ("normalized",)
    orders = orders_of(about(action_units=units, state_units=units), PROFILE)
    chunk = np.array([[math.pi / 2, -math.pi / 4, 0.1, 0, 0, 70.0]])
    np.testing.assert_allclose(orders.actions(chunk), [[90.0, -45.0, math.degrees(0.1), 0, 0, 70.0]])
    np.testing.assert_allclose(
        orders.states(np.array([180.0, 90, 0, -30, 0, 25])), [math.pi, math.pi / 2, 0, -math.pi / 6, 0, 25]
    )


def test_order_and_units_together_and_old_names_of_the_joints() -> None:
    names = ("main_gripper", "main_wrist_roll", *NAMES[:4])
    units = ("normalized", "rad", "deg", "rad", "deg", "deg")
    orders = orders_of(about(action_names=names, action_units=units), PROFILE)
    turned = orders.actions(np.array([[33.0, math.pi, 1.0, math.pi / 6, 3.0, 4.0]]))
    np.testing.assert_allclose(turned, [[1.0, 30.0, 3.0, 4.0, 180.0, 33.0]])


def test_without_units_each_joint_is_in_its_own_whatever_the_order() -> None:
    turned = tuple(reversed(NAMES))
    orders = orders_of(about(action_names=turned, action_units=()), PROFILE)
    assert orders.actions(np.array([[50.0, 5, 4, 3, 2, 1]])).tolist() == [[1, 2, 3, 4, 5, 50]]


def test_a_policy_that_reads_fewer_joints_gets_those() -> None:
    orders = orders_of(about(state_names=("gripper", "shoulder_pan"), state_units=("normalized", "rad")), PROFILE)
    np.testing.assert_allclose(orders.states(np.array([90.0, 1, 2, 3, 4, 40])), [40.0, math.pi / 2])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"action_names": ("pan", *NAMES[1:])}, "Robot 'so101' has no joint 'pan'"),
        ({"action_names": (NAMES[1], *NAMES[1:])}, "'shoulder_lift' is commanded twice"),
        ({"action_names": NAMES[:5], "action_units": UNITS[:5]}, "Nothing commands the joint 'gripper'"),
        ({"action_units": ("normalized", *UNITS[1:])}, "'shoulder_pan' is commanded in the unit 'normalized'"),
        ({"action_units": ("unknown", *UNITS[1:])}, "'shoulder_pan' is commanded in the unit 'unknown'"),
        ({"action_names": (), "action_units": (), "action_dim": 7}, "The policy's action has 7 values"),
        ({"state_names": ("pan", *NAMES[1:])}, "Robot 'so101' reads no joint 'pan'"),
        ({"state_units": ("m", *UNITS[1:])}, "The policy reads joint 'shoulder_pan' in the unit 'm'"),
        ({"state_names": (), "state_units": (), "state_dim": 5}, "The policy's state has 5 values"),
    ],
)
def test_joints_that_do_not_fit_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        orders_of(about(**changes), PROFILE)
    line = lines(about(**changes))["joints"]
    assert line.verdict is FAIL
    assert words in line.found


def test_a_policy_that_names_no_joints_is_warned_of() -> None:
    made = about(action_names=(), action_units=(), state_names=(), state_units=())
    line = lines(made)["joints"]
    assert (line.verdict, line.fix) == (WARN, "train with --robot, so that the bundle keeps them")
    assert line.found == "the policy names none of its 6: taken to be in the order of 'so101'"


def test_more_than_one_observation_is_refused() -> None:
    line = lines(about(n_obs_steps=2))["observations"]
    assert (line.verdict, line.found) == (FAIL, "the policy reads 2 observations at once")


# cameras


def test_a_camera_that_the_setup_has_not_is_refused() -> None:
    line = lines(about(cameras=("front", "top")))["camera top"]
    assert (line.verdict, line.found) == (FAIL, "the policy sees through it; the setup has front")
    assert "--camera-map NAME=SLOT" in line.fix
    nothing = {line.subject: line for line in policy_lines(about(), PROFILE, {}, None)}
    assert nothing["camera front"].found == "the policy sees through it; the setup has none"


@pytest.mark.parametrize(
    ("spec", "verdict", "found", "fix"),
    [
        ((96, 128, 30.0), OK, "128x96; the policy learned from 64x48", "the same shape: it is resized"),
        ((48, 48, 30.0), WARN, "48x48; the policy learned from 64x48", "another shape"),
        ((64, 48, 30.0), WARN, "48x64; the policy learned from 64x48", "another shape"),
        ((48, 64, 15.0), WARN, "15 images per second; the policy learned from 30", "raise the camera's fps"),
        ((48, 64, 29.97), OK, "64x48 at 29.97 fps", ""),
        ((48, 64, 60.0), OK, "64x48 at 60 fps", ""),
    ],
)
def test_size_and_rate_of_a_camera(spec: tuple[int, int, float], verdict: Verdict, found: str, fix: str) -> None:
    line = lines(about(), front=CameraSpec("front", *spec))["camera front"]
    assert (line.verdict, line.found) == (verdict, found)
    assert fix in line.fix


def test_a_slow_camera_of_another_shape_is_told_of_both() -> None:
    found = [line for line in policy_lines(about(), PROFILE, {"front": CameraSpec("front", 48, 48, 10.0)}, None)
             if line.subject == "camera front"]  # fmt: skip
    assert [line.verdict for line in found] == [WARN, WARN]
    assert "10 images per second" in found[0].found
    assert "48x48; the policy learned from 64x48" in found[1].found


def test_a_policy_that_sees_nothing_needs_no_camera() -> None:
    line = lines(about(cameras=()))["cameras"]
    assert (line.verdict, line.found) == (OK, "the policy sees through none")
    assert lines(about(image_sizes={}))["camera front"].found == "64x48 at 30 fps"


# rate, instruction


@pytest.mark.parametrize(
    ("rate", "verdict", "found", "actions"),
    [
        (30.0, OK, "30 actions per second, as trained", 30.0),
        (30.2, OK, "30.2 actions per second, as trained", 30.2),
        (10.0, WARN, "10 actions per second, as trained; the profile says 30", 10.0),
        (None, WARN, "the policy does not say its own: the profile's 30 Hz", 30.0),
    ],
)
def test_the_policys_rate_holds(rate: float | None, verdict: Verdict, found: str, actions: float) -> None:
    line = lines(about(rate=rate))["rate"]
    assert (line.verdict, line.found) == (verdict, found)
    assert policy_rate(about(rate=rate), PROFILE) == actions


def test_the_instruction_is_what_is_given_or_the_only_one() -> None:
    assert choose_instruction(about(), None) == "lift it"
    assert choose_instruction(about(), "  ") == "lift it"
    assert choose_instruction(about(), " drop it ") == "drop it"
    assert choose_instruction(about(instructions=()), None) is None
    with pytest.raises(UsageError, match="trained with 4 instructions") as caught:
        choose_instruction(about(instructions=("a", "b", "c", "d")), None)
    assert caught.value.fix == '--instruction "a"; --instruction "b"; --instruction "c"'


@pytest.mark.parametrize(
    ("instruction", "changes", "verdict", "found", "fix"),
    [
        ("lift it", {}, OK, "“lift it”", ""),
        ("lift him", {}, WARN, "“lift him” was never trained", "say “lift it”"),
        ("anything", {"instructions": ()}, OK, "“anything”", ""),
        (None, {}, OK, "none: the policy reads none, or does not say", ""),
        ("lift it", {"instruction_tokens": (49, 48)}, FAIL, "49 tokens; the policy reads 48", "a shorter one"),
        ("lift it", {"instruction_tokens": (48, 48)}, OK, "“lift it”", ""),
    ],
)
def test_the_instructions_line(
    instruction: str | None, changes: dict[str, Any], verdict: Verdict, found: str, fix: str
) -> None:
    line = lines(about(**changes), instruction)["instruction"]
    assert (line.verdict, line.found, line.fix) == (verdict, found, fix)


# start pose


def test_a_start_far_from_the_demonstrations_is_refused_or_only_told() -> None:
    slack = 0.1 * 220  # of the joint's range
    state = np.array([5.0 + slack + 0.5, 0, 0, 0, 0, 0])
    far = far_from_start(demonstrated(), PROFILE, state)
    assert far == [("shoulder_pan", 27.5, "deg", -5.0, 5.0)]
    line = start_line(demonstrated(), PROFILE, state, refuse=True)
    assert (line.verdict, line.found) == (FAIL, "shoulder_pan at 27.5 deg, demonstrations -5 .. 5")
    assert start_line(demonstrated(), PROFILE, state, refuse=False).verdict is WARN
    near = np.array([5.0 + slack - 0.5, 500, 0, 0, 0, 0])
    assert start_line(demonstrated(), PROFILE, near, refuse=True).verdict is OK


def test_start_poses_in_other_units_and_of_other_joints() -> None:
    turned = demonstrated(-0.1, 0.1, unit="rad")
    ((name, value, unit, low, high),) = far_from_start(turned, PROFILE, np.array([40.0, 0, 0, 0, 0, 0]))
    assert (name, value, unit) == ("shoulder_pan", 40.0, "deg")
    assert [low, high] == pytest.approx([-5.73, 5.73], abs=0.01)
    assert far_from_start(demonstrated(name="waist"), PROFILE, np.full(6, 90.0)) == []
    assert far_from_start(None, PROFILE, np.full(6, 90.0)) == []
    assert start_line(None, PROFILE, np.zeros(6), refuse=True).verdict is WARN


# schedule


def made(mode: str, seconds: float, **options: Any) -> Schedule:
    """A schedule of a policy that takes so long."""
    turnarounds = Turnarounds(cold=0)
    turnarounds.add(seconds)
    return Schedule(ScheduleOptions(mode=Mode(mode), **options), chunk_size=50, n_action_steps=10, policy_rate=30.0,
                    control_rate=30.0, turnarounds=turnarounds)  # fmt: skip


@pytest.mark.parametrize(
    ("mode", "seconds", "capabilities", "verdict", "words"),
    [
        ("sync", 0.2, (), OK, "sync: a chunk takes 200 ms and lasts 1.7 s; 10 of 50 executed"),
        ("sync", 2.5, (), OK, "takes 2500 ms"),
        ("sync", 2.7, (), FAIL, "its last action would be 3 s old; 3 s are allowed"),
        ("async", 0.8, (), OK, "async: a chunk takes 800 ms"),
        ("async", 0.9, (), FAIL, "it would run out before the next one is there"),
        ("rtc", 0.1, (), FAIL, "this policy cannot go on from a chunk (rtc)"),
        ("rtc", 0.1, (GUIDED,), OK, "rtc: a chunk takes 100 ms"),
        ("rtc", 0.9, (GUIDED,), FAIL, "it would run out"),
    ],
)
def test_whether_chunks_come_in_time(
    mode: str, seconds: float, capabilities: tuple[str, ...], verdict: Verdict, words: str
) -> None:
    (line,) = schedule_lines(about(capabilities=capabilities), made(mode, seconds), 30.0, 3.0)
    assert line.verdict is verdict
    assert words in line.found
    assert bool(line.fix) is (verdict is FAIL)


@pytest.mark.parametrize(("mode", "rate", "fits"), [("sync", 30.0, 75), ("async", 30.0, 60), ("async", 7.5, 15)])
def test_as_many_actions_as_are_young_enough(mode: str, rate: float, fits: int) -> None:
    """3 s are allowed and a chunk takes half a second: sync has 2.5 s left, the others see half a second less."""
    schedule = made(mode, 0.5)
    assert fitting_horizon(schedule, rate, 3.0) == fits
    schedule.horizon = fits
    assert {line.verdict for line in schedule_lines(about(chunk_size=50), schedule, rate, 3.0)} == {OK}
    schedule.horizon = fits + 1
    (line,) = schedule_lines(about(chunk_size=50), schedule, rate, 3.0)
    assert line.verdict is FAIL
    assert f"--n-action-steps {fits}" in line.fix


def test_poses_beyond_the_limits_in_force_are_told_before_anything_moves() -> None:
    """A calibration may be narrower than the profile that the pose was written for."""
    limits = effective_limits(PROFILE, {"shoulder_lift": DriverLimits(position=(-61.5, 61.5))}, {})
    assert list(pose_lines({"start pose": {"shoulder_lift": 60.0}, "parking pose": {}}, limits, go=True)) == []
    poses = {"start pose": {"shoulder_pan": 0.0}, "parking pose": {"shoulder_lift": -90.0}}
    (line,) = pose_lines(poses, limits, go=True)
    assert (line.subject, line.verdict) == ("parking pose", FAIL)
    assert "'shoulder_lift' cannot go to -90 deg" in line.found
    assert "(calibration)" in line.found
    (line,) = pose_lines(poses, limits, go=False)
    assert line.verdict is WARN
