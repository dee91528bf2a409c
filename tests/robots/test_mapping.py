"""Mapping a dataset's joints to a profile's: order, aliases, units, statistics, and the errors."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from smolpilot.common.errors import ProfileError
from smolpilot.robots import Joint, JointLayout, RobotProfile, Unit, map_joints


def joint(name: str, unit: Unit = "rad", *aliases: str) -> Joint:
    return Joint(name=name, unit=unit, position_limits=None, velocity_limit=None, aliases=list(aliases))


JOINTS = [joint("a", "deg", "a.pos"), joint("b", "rad"), joint("c", "normalized", "grip")]
SOURCE = JointLayout(("grip", "a.pos", "b"), ("normalized", "rad", "rad"))


def test_order_aliases_and_units_with_known_numbers() -> None:
    mapping = map_joints(SOURCE, JOINTS)
    values = np.array([[0.5, math.pi, 2.0], [1.0, -math.pi / 2, 3.0]], dtype=np.float32)
    out = mapping.forward(values)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, [[180.0, 2.0, 0.5], [-90.0, 3.0, 1.0]], rtol=1e-6)
    np.testing.assert_allclose(mapping.backward(out), values, rtol=1e-6)
    assert not mapping.is_identity


def test_torch_tensors_keep_type_and_leading_dimensions() -> None:
    mapping = map_joints(SOURCE, JOINTS)
    values = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    out = mapping.forward(values)
    assert isinstance(out, torch.Tensor)
    assert out.dtype == torch.float32
    assert out.shape == (2, 5, 3)
    np.testing.assert_allclose(out.numpy(), mapping.forward(values.numpy()), rtol=1e-6)
    torch.testing.assert_close(mapping.backward(out), values)


def test_same_layout_is_the_identity_and_units_may_be_left_out() -> None:
    assert map_joints(JointLayout.of(JOINTS), JOINTS).is_identity
    values = np.arange(3.0)
    np.testing.assert_array_equal(map_joints(JointLayout(("a", "b", "grip")), JOINTS).forward(values), values)


def test_unknown_units_pass_unconverted_on_either_side() -> None:
    joints = [joint("a", "unknown"), joint("b", "deg")]
    mapping = map_joints(JointLayout(("b", "a"), ("unknown", "rad")), joints)
    assert mapping.factors == (1.0, 1.0)
    assert mapping.order == (1, 0)


def test_statistics_follow_their_joints() -> None:
    mapping = map_joints(SOURCE, JOINTS)
    data = np.random.default_rng(0).normal(size=(500, 3)) * [0.1, 2.0, 1.0] + [0.5, -1.0, 3.0]

    def describe(x: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        return {
            "mean": x.mean(0),
            "std": x.std(0),
            "min": x.min(0),
            "max": x.max(0),
            "q01": np.quantile(x, 0.01, axis=0),
            "q99": np.quantile(x, 0.99, axis=0),
            "count": np.array([len(x)]),
        }

    moved = mapping.forward_statistics(describe(data))
    expected = describe(mapping.forward(data))
    assert moved.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_allclose(moved[key], value, rtol=1e-12, err_msg=key)
    back = mapping.backward_statistics(moved)
    for key, value in describe(data).items():
        np.testing.assert_allclose(back[key], value, rtol=1e-12, err_msg=key)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 64).flatmap(lambda n: st.tuples(st.permutations(range(n)), st.integers(0, 2**32 - 1))))
def test_round_trip_for_any_order_and_units(case: tuple[list[int], int]) -> None:
    permutation, seed = case
    rng = np.random.default_rng(seed)
    units: list[Unit] = ["rad" if u else "deg" for u in rng.integers(0, 2, len(permutation))]
    joints = [joint(f"j{d}", units[d]) for d in range(len(permutation))]
    source_units: tuple[Unit, ...] = tuple("rad" if u else "deg" for u in rng.integers(0, 2, len(permutation)))
    mapping = map_joints(JointLayout(tuple(f"j{d}" for d in permutation), source_units), joints)
    values = rng.normal(size=(3, len(permutation)))
    np.testing.assert_allclose(mapping.backward(mapping.forward(values)), values, rtol=1e-12)
    out = mapping.forward(values)
    for i, d in enumerate(permutation):
        factor = {("rad", "deg"): 180 / math.pi, ("deg", "rad"): math.pi / 180}.get((source_units[i], units[d]), 1.0)
        np.testing.assert_allclose(out[:, d], values[:, i] * factor, rtol=1e-12)


@pytest.mark.parametrize(
    ("layout", "parts"),
    [
        (JointLayout(("a", "b", "d")), ["no joint 'd'", "dataset: a, b, d", "profile: a, b, c"]),
        (JointLayout(("a", "b", "gripp")), ["no joint 'gripp'", "Did you mean 'grip'?"]),
        (JointLayout(("a", "b")), ["lacks 1 of the profile's 3 joints: c", "dataset: a, b", "profile: a, b, c"]),
        (JointLayout(("a", "a.pos", "b")), ["'a' and 'a.pos'", "both joint 'a'"]),
        (JointLayout(("a", "b", "c"), ("m", "rad", "normalized")), ["'a' is in 'm'", "'deg' in the profile"]),
        (JointLayout(("a", "b", "c"), ("deg", "rad", "rad")), ["'c' is in 'rad'", "'normalized'"]),
        (JointLayout(("a", "b", "c", "e")), ["no joint 'e'"]),
    ],
)
def test_errors_show_both_lists(layout: JointLayout, parts: list[str]) -> None:
    with pytest.raises(ProfileError) as caught:
        map_joints(layout, JOINTS)
    for part in parts:
        assert part in str(caught.value)


def test_layouts_refuse_equal_names_and_wrong_number_of_units() -> None:
    with pytest.raises(ProfileError, match=r"(?s)not unique.*`smolpilot dataset repair SRC DST` numbers equal names"):
        JointLayout(("a", "a"))
    with pytest.raises(ProfileError, match="2 names and 1 units"):
        JointLayout(("a", "b"), ("rad",))


def test_a_vector_of_another_length_is_refused() -> None:
    mapping = map_joints(SOURCE, JOINTS)
    with pytest.raises(ProfileError, match="for 3 joints"):
        mapping.forward(np.zeros((4, 2)))
    with pytest.raises(ProfileError, match="for 3 joints"):
        mapping.backward_statistics({"mean": np.zeros(4)})


def test_made_up_names_match_by_position_and_say_so() -> None:
    mapping = map_joints(JointLayout(("joint_0", "joint_1", "joint_2")), JOINTS)
    assert mapping.positional
    assert mapping.is_identity
    assert not map_joints(SOURCE, JOINTS).positional
    with pytest.raises(ProfileError, match="no joint 'joint_0'"):
        map_joints(JointLayout(("joint_0", "joint_1")), JOINTS)


@pytest.mark.parametrize("robot", ["so101", "koch"])
def test_lerobots_names_of_small_arms_are_known(robot: str) -> None:
    names = ["shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper"]
    layout = JointLayout(tuple(f"{name}.pos" for name in names))
    assert map_joints(layout, RobotProfile.load(robot).state_joints).is_identity


@pytest.mark.real
def test_the_names_of_a_real_g1_recording_are_known(real_data: Path) -> None:
    info = real_data / "g1_bottle_v21" / "meta" / "info.json"
    if not info.is_file():
        pytest.skip("the recording is not here")
    names = json.loads(info.read_text(encoding="utf-8"))["features"]["observation.state"]["names"][0]
    profile = RobotProfile.load("unitree_g1_inspire")
    assert map_joints(JointLayout(tuple(names)), profile.state_joints).is_identity
