"""no-op and random: what they command, for how long, and what they have to know for it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smolpilot.common.errors import UsageError
from smolpilot.common.keys import ACTION, STATE
from smolpilot.contracts import POLICIES, RANDOM, Embodiment, PolicyOptions
from smolpilot.datasets import open_dataset
from smolpilot.policies.baselines import hold_state
from smolpilot.policies.floor_policies import FLOORS, HOLD, floors_of, no_op, random_targets
from smolpilot.robots import Joint, RobotProfile

from .helpers_conformance import check_policy

PLAIN = PolicyOptions()
ARM = RobotProfile(
    name="arm",
    description="a test",
    rate=10.0,
    joints=[
        Joint(name="pan", unit="rad", position_limits=(-1.0, 2.0), velocity_limit=None),
        Joint(name="lift", unit="rad", position_limits=(0.5, 0.75), velocity_limit=None),
    ],
)


@pytest.mark.parametrize("name", ["no-op", "random"])
def test_they_keep_the_contract(name: str, embodiment: Embodiment, observations: list[dict[str, Any]]) -> None:
    policy = POLICIES.get(name)("", PLAIN, embodiment)
    assert policy.spec.name == name
    assert policy.spec.cameras == ()
    check_policy(policy, observations)


def test_no_op_commands_the_start_pose_for_the_whole_episode() -> None:
    policy = no_op("", PLAIN, Embodiment("the arm", profile=ARM, max_steps=120))
    assert (policy.spec.chunk_size, policy.spec.n_action_steps) == (120, 120)
    chunk = policy.predict([{STATE: np.array([0.25, 0.6])}])[0]
    np.testing.assert_array_equal(chunk, np.tile(np.array([0.25, 0.6], np.float32), (120, 1)))


def test_an_action_that_is_no_read_joint_gets_zero_within_its_limits(observations: list[dict[str, Any]]) -> None:
    other = ARM.model_copy(update={"state": ["pan"], "action": ["lift", "pan"]})
    policy = no_op("", PLAIN, Embodiment("the arm", profile=other))
    np.testing.assert_allclose(policy.predict([{STATE: np.array([1.5])}])[0, 7], [0.5, 1.5])
    assert policy.spec.facts.notes == (
        "no-op commands 0, or the limit next to it, where no state is read: 1 joint (lift).",
    )  # fmt: skip
    bare = Embodiment("the arm", state_names=("a",), action_names=("b", "a"))
    np.testing.assert_allclose(no_op("", PLAIN, bare).predict([{STATE: np.array([1.5])}])[0, 0], [0, 1.5])


def test_random_targets_are_held_within_the_limits_and_fixed_by_the_seed() -> None:
    policy = random_targets("", PLAIN, Embodiment("the arm", profile=ARM, max_steps=60))
    seen = [{STATE: np.zeros(2)}] * 2
    first, second = policy.predict(seen, seeds=[3, 4])
    assert first.shape == (60, 2)
    assert policy.spec.n_action_steps == 60
    assert policy.spec.capabilities == {RANDOM}
    low, high = np.array([(-1.0, 2.0), (0.5, 0.75)]).T
    assert ((low <= first) & (first <= high)).all()
    changes = np.flatnonzero((np.diff(first, axis=0) != 0).any(axis=1)) + 1
    assert changes.tolist() == list(range(HOLD, 60, HOLD))
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(policy.predict(seen[:1], seeds=[3])[0], first)
    # Spread over the whole range, not over a part of it.
    many = np.concatenate(policy.predict(seen * 50, seeds=range(100)))
    np.testing.assert_allclose(many.min(axis=0), low, atol=0.02)
    np.testing.assert_allclose(many.max(axis=0), high, atol=0.02)


def test_where_the_profile_has_no_limits_the_environment_or_demonstrations_have(
    tiny_dataset: Path, embodiment: Embodiment, observations: list[dict[str, Any]]
) -> None:
    actions = open_dataset(tiny_dataset).actions
    for body, options in (
        (embodiment, PLAIN),
        (dataclasses.replace(embodiment, statistics={}), PolicyOptions(stats_from=tiny_dataset)),
    ):
        chunks = random_targets("", options, body).predict(observations, seeds=[1, 2, 3])
        assert (chunks >= actions.min(axis=0) - 1e-6).all()
        assert (chunks <= actions.max(axis=0) + 1e-6).all()
    told = dataclasses.replace(embodiment, action_range=((5.0, 6.0),) * 3)
    assert random_targets("", PLAIN, told).predict(observations).min() >= 5


def test_where_actions_are_changes_the_environment_says_what_leaves_all_as_it_is(
    embodiment: Embodiment, observations: list[dict[str, Any]]
) -> None:
    told = dataclasses.replace(embodiment, rest=(0.0, 0.0, -1.0), max_steps=60)
    for policy, steps in ((no_op("", PLAIN, told), 60), (hold_state("", PLAIN, told), 50)):
        chunks = policy.predict(observations)
        np.testing.assert_array_equal(chunks, np.full((len(observations), steps, 3), [0.0, 0.0, -1.0]))
        assert "commands the action that leaves the robot where it is" in policy.spec.facts.notes[0]
    assert floors_of(told) == ("no-op", "random"), "to hold the state is to do nothing there"
    assert floors_of(embodiment) == FLOORS


def test_what_is_unknown_is_asked_for(embodiment: Embodiment) -> None:
    with pytest.raises(
        UsageError, match=r"the dataset has none for 3 joints \(pan, lift, gripper\)\.[\s\S]*--policy-stats-from"
    ):
        random_targets("", PLAIN, dataclasses.replace(embodiment, statistics={}))
    short = dataclasses.replace(embodiment, statistics={ACTION: {"min": np.zeros(2), "max": np.ones(2)}})
    with pytest.raises(UsageError, match="has none for 3 joints"):
        random_targets("", PLAIN, short)
    with pytest.raises(UsageError, match="no robot, environment or dataset is named"):
        no_op("", PLAIN, None)
    with pytest.raises(UsageError, match="random takes no source, but was given 'walk'"):
        random_targets("walk", PLAIN, embodiment)
    with pytest.raises(UsageError, match="--policy-stats-from is given, but no-op has no such option"):
        no_op("", PolicyOptions(stats_from=Path("here")), embodiment)
