"""hold-state and mean-action: what they command, and what they have to know for it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smolpilot.common.errors import UsageError
from smolpilot.common.keys import ACTION, STATE
from smolpilot.contracts import POLICIES, Embodiment, PolicyOptions
from smolpilot.datasets import open_dataset
from smolpilot.policies.baselines import hold_state, mean_action
from smolpilot.robots import RobotProfile

from .helpers_conformance import check_policy

PLAIN = PolicyOptions()


@pytest.mark.parametrize("name", ["hold-state", "mean-action"])
def test_they_keep_the_contract(name: str, embodiment: Embodiment, observations: list[dict[str, Any]]) -> None:
    policy = POLICIES.get(name)("", PLAIN, embodiment)
    assert policy.spec.name == name
    assert policy.spec.rate == 10
    assert policy.spec.chunk_size == 50
    check_policy(policy, observations)


def test_hold_state_lays_the_state_out_by_joint_name(
    embodiment: Embodiment, observations: list[dict[str, Any]]
) -> None:
    other = dataclasses.replace(embodiment, action_names=("gripper", "pan"))
    chunk = hold_state("", PLAIN, other).predict(observations[:1])[0]
    pan, _, gripper = observations[0][STATE]
    np.testing.assert_array_equal(chunk, np.tile(np.array([gripper, pan], np.float32), (50, 1)))


def test_a_profile_comes_before_the_names_of_the_dataset(observations: list[dict[str, Any]]) -> None:
    profile = RobotProfile.load("so101")
    policy = hold_state("", PLAIN, Embodiment("the robot", profile=profile, state_names=("a",), action_names=("a",)))
    assert policy.spec.action_names == tuple(joint.name for joint in profile.action_joints)
    assert policy.spec.rate == profile.rate
    assert policy.predict([{STATE: np.arange(6.0)}]).shape == (1, 50, 6)


def test_mean_action_is_the_mean_of_the_recorded_actions(
    tiny_dataset: Path, embodiment: Embodiment, observations: list[dict[str, Any]]
) -> None:
    expected = open_dataset(tiny_dataset).actions.mean(axis=0)
    known = mean_action("", PLAIN, embodiment).predict(observations)
    np.testing.assert_allclose(known[1, 7], expected, atol=1e-6)
    bare = dataclasses.replace(embodiment, statistics={})
    policy = mean_action("", PolicyOptions(stats_from=tiny_dataset), bare)
    np.testing.assert_allclose(policy.predict(observations), known, atol=1e-6)
    np.testing.assert_allclose(policy.spec.statistics[ACTION]["mean"], expected, atol=1e-6)


def test_what_is_unknown_is_asked_for(tiny_dataset: Path, embodiment: Embodiment) -> None:
    with pytest.raises(UsageError, match="no robot, environment or dataset is named"):
        hold_state("", PLAIN, None)
    with pytest.raises(UsageError, match="the arm names no joints"):
        mean_action("", PLAIN, Embodiment("the arm", cameras=("front",)))
    with pytest.raises(UsageError, match=r"reads no joint 'elbow'\.[\s\S]*mean-action"):
        hold_state("", PLAIN, dataclasses.replace(embodiment, action_names=("pan", "elbow")))
    with pytest.raises(UsageError, match=r"the dataset has no statistics of 'action'\.[\s\S]*--policy-stats-from"):
        mean_action("", PLAIN, dataclasses.replace(embodiment, statistics={}))
    with pytest.raises(UsageError, match=r"has 2 values, 2 of them finite\.[\s\S]*3 finite numbers"):
        mean_action("", PLAIN, dataclasses.replace(embodiment, statistics={ACTION: {"mean": np.zeros(2)}}))
    with pytest.raises(UsageError, match=r"has 3 values, 2 of them finite"):
        mean_action("", PLAIN, dataclasses.replace(embodiment, statistics={ACTION: {"mean": np.array([0, 1, np.nan])}}))
    reordered = dataclasses.replace(embodiment, action_names=("lift", "pan", "gripper"))
    with pytest.raises(UsageError, match="the same joints in the same order"):
        mean_action("", PolicyOptions(stats_from=tiny_dataset), reordered)
    with pytest.raises(UsageError, match="hold-state takes no source, but was given 'here'"):
        hold_state("here", PLAIN, embodiment)
    with pytest.raises(UsageError, match="--num-steps is given, but hold-state has no such option"):
        hold_state("", PolicyOptions(num_steps=3), embodiment)
    with pytest.raises(UsageError, match="--camera-map is given, but mean-action has no such option"):
        mean_action("", PolicyOptions(camera_map={"top": "x"}), embodiment)
