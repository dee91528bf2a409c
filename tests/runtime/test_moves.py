"""Move: a way within a share of the limits, which the governor passes on as it is; and the words that ask for it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smolpilot.common.errors import UsageError
from smolpilot.contracts import DriverLimits, Flag, JointReadings
from smolpilot.robots import RobotProfile
from smolpilot.runtime.limits import EffectiveLimits, OperatingLimit, effective_limits
from smolpilot.runtime.moves import Move, check_within, parse_targets

from .safety.helpers_rig import ELBOW, GRIPPER, HOME, JOINTS, PAN, PROFILE, SPEEDS, TICK, Rig

LIMITS = effective_limits(PROFILE, {}, SPEEDS)
RATE = PROFILE.rate


def reading(position: npt.ArrayLike = HOME) -> JointReadings:
    return JointReadings(np.asarray(position, dtype=np.float64), 0.0)


def way(targets: dict[str, float], share: float = 0.5, limits: EffectiveLimits = LIMITS) -> npt.NDArray[np.float64]:
    """All points of the way [n, A]: the first is where the arm is held, the last the target."""
    move = Move(limits, HOME.copy(), targets, RATE, share)
    points = []
    for tick in range(3000):
        points.append(np.array(move.ask(tick * TICK, reading()).action))
        if move.done(tick * TICK, reading(move.target)):
            return np.array(points)
    raise AssertionError("never arrived")


@settings(deadline=None, max_examples=20)
@given(
    st.dictionaries(st.sampled_from(JOINTS), st.floats(-1, 1), min_size=1),
    st.floats(0.1, 1.0),
)
def test_every_way_is_within_its_share_of_the_limits(parts: dict[str, float], share: float) -> None:
    middle, reach = (LIMITS.high + LIMITS.low) / 2, (LIMITS.high - LIMITS.low) / 2
    targets = {name: float(middle[i] + part * reach[i]) for name, part in parts.items() for i in [JOINTS.index(name)]}
    points = way(targets, share)
    np.testing.assert_array_equal(points[0], HOME)
    np.testing.assert_allclose(points[-1], [targets.get(name, HOME[i]) for i, name in enumerate(JOINTS)], atol=1e-6)
    velocity = np.diff(points, axis=0, prepend=points[:1]) / TICK
    acceleration = np.diff(velocity, axis=0) / TICK
    assert (np.abs(velocity) <= share * LIMITS.velocity * (1 + 1e-6)).all()
    assert (np.abs(acceleration) <= share * LIMITS.acceleration * (1 + 1e-6) + 1e-6).all()
    others = [i for i, name in enumerate(JOINTS) if name not in targets]
    assert (points[:, others] == HOME[others]).all(), "the others stay where they are"


def test_the_time_that_is_announced_is_about_the_time_that_it_takes() -> None:
    for targets in ({"shoulder_pan": 90.0}, {"shoulder_pan": 1.0}, {"shoulder_pan": 30.0, "elbow_flex": -60.0}):
        announced = Move(LIMITS, HOME.copy(), targets, RATE, 0.5).seconds()
        assert (len(way(targets)) - 1) * TICK == pytest.approx(announced, rel=0.35, abs=0.3)


def test_a_share_of_the_limits_that_is_none_is_refused() -> None:
    for share in (0.0, 1.1, -0.5):
        with pytest.raises(UsageError, match="A share of"):
            Move(LIMITS, HOME.copy(), {"shoulder_pan": 1.0}, RATE, share)


def test_it_is_done_when_the_joints_have_come_to_rest_or_had_the_time_to() -> None:
    move = Move(LIMITS, HOME.copy(), {"shoulder_pan": 1.0}, RATE, 1.0)
    assert not move.done(0.0, reading(HOME + 1)), "not before it was asked for"
    for tick in range(60):
        move.ask(tick * TICK, reading())
    behind, nearer = HOME.copy(), HOME.copy()
    behind[PAN], nearer[PAN] = -5.6, 0.8
    assert not move.done(2.0, reading(behind))
    assert not move.done(2.2, reading(nearer)), "it moves"
    assert not move.done(2.4, reading(nearer))
    assert move.done(2.46, reading(nearer)), "a quarter of a second without motion"
    assert move.missed(reading(nearer)) == ()
    assert move.missed(reading(behind)) == ("shoulder_pan",)
    swinging = Move(LIMITS, HOME.copy(), {"shoulder_pan": 1.0}, RATE, 1.0)
    for tick in range(60):
        swinging.ask(tick * TICK, reading())
    assert not any(swinging.done(2 + i / 10, reading([behind, nearer][i % 2])) for i in range(15))
    assert swinging.done(3.5, reading(behind)), "1.5 s after the last command"
    silent = HOME.copy()
    silent[PAN] = np.nan
    again = Move(LIMITS, HOME.copy(), {"shoulder_pan": 1.0}, RATE, 1.0)
    for tick in range(60):
        again.ask(tick * TICK, reading())
    assert not again.done(2.0, reading(silent)), "who does not answer has not arrived"


def test_the_governor_passes_a_move_on_as_it_is() -> None:
    with Rig() as rig:
        held = rig.robot.governor.last_command
        assert held is not None
        move = Move(rig.robot.limits, held, {"shoulder_pan": 30.0, "gripper": 20.0}, RATE, 1.0)
        end = rig.loop(move)
        assert end.stop is None
        assert all(not {Flag.VELOCITY, Flag.ACCELERATION, Flag.POSITION, Flag.RAMP} & set(sent.flags)
                   for sent in rig.sent)  # fmt: skip
        np.testing.assert_allclose(rig.goals()[-1][[PAN, GRIPPER]], [30, 20], atol=0.1)
        rig.now += 0.5
        np.testing.assert_allclose(rig.positions()[[PAN, GRIPPER, ELBOW]], [30, 20, 0], atol=0.5)
        rig.check_bytes()


# Words


def test_words_become_targets_by_the_profiles_names() -> None:
    assert parse_targets(["elbow_flex=30", "main_gripper=55.5", "wrist_roll.pos=-1e1"], PROFILE) == {
        "elbow_flex": 30.0,
        "gripper": 55.5,
        "wrist_roll": -10.0,
    }
    assert parse_targets([], PROFILE) == {}


@pytest.mark.parametrize(
    ("words", "found", "more"),
    [
        (["elbow_flex"], "'elbow_flex' does not say where to move a joint", "JOINT=VALUE"),
        (["elbow=30"], "Robot 'so101' has no joint 'elbow'", "elbow_flex"),
        (["=30"], "has no joint ''", "shoulder_pan"),
        (["elbow_flex=30", "elbow_flex=31"], "Joint 'elbow_flex' is given twice", "one value"),
        (["gripper=1", "main_gripper=2"], "Joint 'gripper' is given twice", "one value"),
        (["elbow_flex=up"], "'elbow_flex=up' gives no position", "a number in deg"),
        (["elbow_flex="], "gives no position", "a number in deg"),
        (["elbow_flex=nan"], "gives no position", "a number in deg"),
        (["elbow_flex=-inf"], "gives no position", "a number in deg"),
        (["elbow_flex=3=4"], "gives no position", "a number in deg"),
    ],
)
def test_words_that_are_no_targets_are_refused(words: list[str], found: str, more: str) -> None:
    with pytest.raises(UsageError, match=found) as caught:
        parse_targets(words, PROFILE)
    assert more in f"{caught.value.expected} {caught.value.fix}"


def test_a_joint_that_is_only_read_is_no_target() -> None:
    robot = RobotProfile.model_validate(
        {**PROFILE.model_dump(), "action": [name for name in JOINTS if name != "gripper"], "state": list(JOINTS)}
    )
    with pytest.raises(UsageError, match="no joint 'gripper'"):
        parse_targets(["gripper=5"], robot)


def test_a_target_beyond_the_limits_is_refused_with_their_origin() -> None:
    limits = effective_limits(PROFILE, {}, {"shoulder_pan": OperatingLimit(position=(-20.0, 200.0))})
    check_within({"shoulder_pan": -20.0, "elbow_flex": 96.0}, limits)
    with pytest.raises(UsageError, match=r"Joint 'shoulder_pan' cannot go to -20\.5 deg") as caught:
        check_within({"shoulder_pan": -20.5}, limits)
    assert caught.value.expected == "-20 (setup) to 110 (profile)"
    with pytest.raises(UsageError, match="'shoulder_pan' cannot go to 120 deg"):
        parse_targets(["shoulder_pan=120"], PROFILE, limits)


def test_the_end_that_the_profile_names_can_be_asked_for_though_no_step_lies_there() -> None:
    joint = PROFILE.joint("shoulder_lift")
    assert joint.position_limits is not None
    low, high = joint.position_limits
    stepped = effective_limits(
        PROFILE, {"shoulder_lift": DriverLimits(position=(low - 5.03, high + 5), step=360 / 4095)}, SPEEDS
    )
    end = float(stepped.high[JOINTS.index("shoulder_lift")])
    assert end < high
    check_within({"shoulder_lift": high}, stepped)
    assert way({"shoulder_lift": high}, limits=stepped)[-1][JOINTS.index("shoulder_lift")] == pytest.approx(end)
    with pytest.raises(UsageError, match="cannot go to"):
        check_within({"shoulder_lift": high + 0.5}, stepped)
