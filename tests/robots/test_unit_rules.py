"""The rule on units on bare numbers: every pair of units with a joint that rests, and no alarm on sound recordings."""

from __future__ import annotations

import math

import numpy as np
import pytest

from smolpilot.robots import Joint, RobotProfile, Unit, UnitFinding, list_profiles, unit_findings

TURN = 180 / math.pi


def joint(name: str, unit: Unit, low: float, high: float) -> Joint:
    return Joint(name=name, unit=unit, position_limits=(low, high), velocity_limit=None)


ARM = [
    joint("pan", "rad", -2.9, 2.9), joint("lift", "rad", -1.5, 1.5), joint("elbow", "rad", -3.07, -0.07),
    joint("roll", "rad", -6.28, 6.28),
]  # fmt: skip
DEGREES = [joint(j.name, "deg", *(TURN * limit for limit in j.position_limits or ())) for j in ARM]


def find(joints: list[Joint], ends: list[tuple[float, float]], **more: object) -> list[UnitFinding]:
    low, high = zip(*ends, strict=True)
    return unit_findings(joints, low, high, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "ends",
    [
        pytest.param([(-40, 40), (-60, 20), (-120, -20), (-80, 80)], id="all-move"),
        pytest.param([(-40, 40), (0, 0), (-120, -20), (-80, 80)], id="one-rests-at-zero"),
        pytest.param([(-40, 40), (-60, 20), (30, 100), (-80, 80)], id="one-misses-its-limits-as-degrees-too"),
        pytest.param([(-40, 40), (0, 0), (0, 0), (0, 0)], id="one-moves"),
        pytest.param([(-1.2, 0.8), (-0.3, 0.4), (-0.9, -0.2), (-50, 30)], id="the-last-one-alone"),
        pytest.param([(-6, 5), (-5, 3), (-5.9, -1), (-1, 2)], id="small-motion-within-two-turns"),
    ],
)
def test_degrees_on_radians_are_an_error(ends: list[tuple[float, float]]) -> None:
    (found,) = find(ARM, ends)
    assert (found.severity, found.unit) == ("error", "deg")
    assert "looks like degrees, not rad" in found.text


def test_the_fix_names_the_joints_where_the_others_are_radians() -> None:
    (found,) = find(
        ARM, [(-1.2, 0.8), (-0.3, 0.4), (-0.9, -0.2), (-50, 30)], names=["a.pos", "b.pos", "c.pos", "d.pos"]
    )
    assert (found.fix, found.joints) == ("--units d.pos=deg", ("roll",))
    (found,) = find(ARM, [(-40, 40), (0, 0), (-120, -20), (-80, 80)])
    assert (found.fix, found.joints) == ("--units all=deg", ("pan", "lift", "elbow", "roll"))


@pytest.mark.parametrize(
    ("joints", "ends", "severity"),
    [
        pytest.param(ARM, (-80, 70), "error", id="no-joint-turns-that-far"),
        pytest.param(ARM, (0, 4095), "error", id="nor-that-far"),
        pytest.param(DEGREES, (-1.4, 1.4), "warning", id="small-numbers"),
        pytest.param(DEGREES, (0, 4095), "warning", id="counts-on-degrees"),
    ],
)
def test_a_profile_that_nobody_named_may_be_the_wrong_one(
    joints: list[Joint], ends: tuple[float, float], severity: str
) -> None:
    (found,) = find(joints, [ends] * 4, chosen=False)
    assert (found.severity, found.sure) == (severity, True)
    assert find(joints, [ends] * 4)[0].severity == "error"


def test_many_turns_by_declared_limits_are_radians() -> None:
    wheel = [joint("wheel", "rad", -40, 40), ARM[1]]
    assert find(wheel, [(-39, 39.5), (-1, 1)]) == []


def test_slightly_beyond_the_limits_is_no_other_unit() -> None:
    assert find(ARM, [(-3.1, 3.1), (-1.8, 1.7), (-3.2, 0.1), (-6.4, 6.4)]) == []


def test_counts_of_an_encoder_are_no_unit_at_all() -> None:
    (found,) = find(ARM, [(1000, 3000), (2048, 2048), (1500, 2500), (0, 4095)])
    assert (found.severity, found.unit) == ("error", None)
    assert "encoder counts" in found.text
    (found,) = find(DEGREES, [(1000, 3000), (2048, 2048), (1500, 2500), (0, 4095)])
    assert (found.severity, found.unit) == ("error", None)


@pytest.mark.parametrize(
    "ends",
    [
        pytest.param([(-1.2, 1.1), (-1.3, 0.8), (-2.1, -0.4), (-2, 2)], id="all-move"),
        pytest.param([(-1.2, 1.1), (0, 0), (-2.1, -0.4), (-2, 2)], id="one-rests"),
        pytest.param([(-1.2, 1.1), (-1.3, 0.8), (-2.1, 0.9), (-2, 2)], id="one-misses-its-limits-too"),
    ],
)
def test_radians_on_degrees(ends: list[tuple[float, float]]) -> None:
    (found,) = find(DEGREES, ends)
    assert (found.severity, found.unit, found.fix) == ("error", "rad", "--units all=rad")
    # A profile that nobody named may be the wrong one.
    assert find(DEGREES, ends, chosen=False)[0].severity == "warning"


def test_small_motion_in_degrees_is_no_radians() -> None:
    assert find(DEGREES, [(-3, 3), (-2, 3), (-4, -1), (0, 3)]) == []
    assert find(DEGREES, [(0.1, 0.2), (-0.1, 0.1), (-0.2, -0.1), (0, 0.2)]) == []


SO101 = RobotProfile.load("so101").joints
SERVO = RobotProfile.load("so101_normalized").joints


def test_the_range_of_a_servo_bus_on_degrees() -> None:
    ends = [(-100.0, 64.0), (-100.0, 100.0), (-80.0, 100.0), (3.0, 3.0), (-20.0, 30.0), (0.0, 100.0)]
    (found,) = find(SO101, ends, other_units="so101_normalized")
    assert (found.severity, found.unit, found.fix) == ("error", "normalized", "--robot so101_normalized")
    once = [(-100.0, 64.0), *[(-50.0, 40.0)] * 4, (0.0, 100.0)]
    assert [f.severity for f in find(SO101, once)] == ["warning"]
    nearly = [(-99.7, 64.0), (-99.9, 98.9), (-80.0, 99.5), (3.0, 3.0), (-20.0, 30.0), (0.0, 100.0)]
    assert [f.severity for f in find(SO101, nearly)] == ["warning"]
    beyond = [(-100.0, 64.0), (-100.0, 100.0), (-80.0, 100.0), (3.0, 3.0), (-150.0, 30.0), (0.0, 100.0)]
    assert find(SO101, beyond) == []
    # Simulations clip at the limits; the lift's are 100.
    assert find(SO101, [(-110.0, 110.0), (-100.0, 100.0), *[(-50.0, 40.0)] * 3, (0.0, 100.0)]) == []


def test_degrees_and_radians_on_the_range_of_a_servo_bus() -> None:
    ends = [(-105.0, 64.0), (0.0, 0.0), (-80.0, 90.0), (3.0, 50.0), (-150.0, 30.0), (0.0, 60.0)]
    (found,) = find(SERVO, ends, other_units="so101")
    assert (found.severity, found.unit, found.fix) == ("error", "deg", "--robot so101")
    ends = [(-1.2, 1.1), (0.0, 0.0), (-1.4, 1.5), (-1.0, 0.8), (-2.0, 2.0), (0.0, 60.0)]
    (found,) = find(SERVO, ends, other_units="so101")
    assert (found.severity, found.unit, found.fix) == ("error", "rad", "--robot so101 --units all=rad")
    # A policy's actions may ask for more than the bus reads.
    assert find(SERVO, [(-110.0, 105.0), *[(-50.0, 50.0)] * 4, (0.0, 60.0)], commanded=True) == []


@pytest.mark.parametrize("commanded", [False, True])
def test_motions_that_are_declared_as_minus_one_to_one_are_what_they_should_be(commanded: bool) -> None:
    joints = RobotProfile.load("metaworld").action_joints
    assert find(joints, [(-1.0, 1.0), (-0.54, 1.0), (-1.0, 1.0), (-1.0, 1.0)], commanded=commanded) == []
    (found,) = find(joints, [(-30.0, 25.0), (-0.54, 1.0), (-1.0, 1.0), (-1.0, 1.0)], commanded=commanded)
    assert found.severity == "error"


METERS, MILLIMETERS = joint("slide", "m", -0.2, 0.5), joint("slide", "mm", -200, 500)
WAYS: dict[str, Joint] = {
    "fraction": joint("hand", "normalized", 0, 1), "percent": joint("hand", "normalized", 0, 100),
    "byte": joint("hand", "byte", 0, 255),
}  # fmt: skip


@pytest.mark.parametrize(
    ("declared", "ends", "unit"),
    [
        pytest.param(METERS, (-120, 300), "mm", id="mm-on-m"),
        pytest.param(MILLIMETERS, (-0.12, 0.3), "m", id="m-on-mm"),
        pytest.param(WAYS["fraction"], (0, 93), "percent", id="percent-on-fraction"),
        pytest.param(WAYS["fraction"], (0, 240), "byte", id="byte-on-fraction"),
        pytest.param(WAYS["percent"], (0.02, 0.97), "fraction", id="fraction-on-percent"),
        pytest.param(WAYS["percent"], (0, 240), "byte", id="byte-on-percent"),
        pytest.param(WAYS["byte"], (0, 1), "fraction", id="fraction-on-byte"),
    ],
)
def test_lengths_and_ways_of_a_gripper(declared: Joint, ends: tuple[float, float], unit: str) -> None:
    # The arm beside it is sound, and one of its joints rests.
    (found,) = find([*ARM, declared], [(-1, 1), (0, 0), (-2, -0.5), (-3, 3), ends])
    assert (found.severity, found.unit, found.joints) == ("error", unit, (declared.name,))
    assert found.fix in (f"--units {declared.name}={unit}", f"--units all={unit}")


def test_a_gripper_that_nobody_uses_is_no_alarm() -> None:
    assert find([WAYS["percent"]], [(0.0, 0.15)]) == []
    assert find([WAYS["percent"]], [(0.6, 0.6)]) == []
    assert find([WAYS["fraction"]], [(-0.02, 1.15)]) == []


@pytest.mark.parametrize("name", list_profiles())
def test_sound_recordings_of_every_profile_give_no_error(name: str) -> None:
    generator = np.random.default_rng(7)
    joints = [j for j in RobotProfile.load(name).joints if j.position_limits is not None]
    limits = np.array([j.position_limits for j in joints]).reshape(-1, 2)
    for draw in range(60):
        reach = (limits[:, 1] - limits[:, 0]) * (1.0, 0.3, 0.01)[draw % 3]  # the whole way, a part of it, hardly at all
        low = limits[:, 0] + generator.random(len(joints)) * (limits[:, 1] - limits[:, 0] - reach)
        high = low + reach * generator.uniform(0.2, 1.0, len(joints))
        if len(joints):
            rests = generator.integers(len(joints))
            high[rests] = low[rests]
        for commanded in (False, True):
            found = unit_findings(joints, low, high, commanded=commanded)
            assert [f.text for f in found if f.severity == "error"] == []
