"""What every Policy promises, checked on one: for ours, and for whoever writes another."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest

from smolpilot.common.errors import TransformError, UsageError
from smolpilot.common.keys import STATE, TASK, image_key
from smolpilot.contracts import (
    GUIDED,
    HISTORY,
    RANDOM,
    TIMED,
    TOKENS,
    TWO_STAGE,
    Leftover,
    Policy,
    TokenizedPolicy,
)

SEEDS = (11, 12, 13)
_CLOSE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5}  # sums over a batch may be taken in another order


def check_policy(policy: Policy, observations: Sequence[dict[str, Any]]) -> None:
    """Three different observations that fit the policy; AssertionError where it breaks the contract. Closes it."""
    assert len(observations) == len(SEEDS), "three observations are needed"
    assert isinstance(policy, Policy), "it has spec, predict, reset and close"
    check_spec(policy)
    spec, before = policy.spec, copy.deepcopy(list(observations))
    policy.reset()
    chunks = policy.predict(observations, seeds=SEEDS)
    assert isinstance(chunks, np.ndarray), "chunks are a numpy array"
    assert chunks.shape == (3, spec.chunk_size, spec.action_dim), f"chunks have the shape {chunks.shape}"
    assert chunks.dtype == np.float32, f"chunks are {chunks.dtype}"
    assert np.isfinite(chunks).all(), "chunks are finite"
    for given, kept in zip(observations, before, strict=True):
        _assert_same(given, kept)
    check_seeds(policy, observations, chunks)
    check_refusals(policy, observations[0])
    if TIMED in spec.capabilities:
        assert hasattr(policy, "last_ms"), "who is TIMED has last_ms"
        times = policy.last_ms
        assert 0 <= times["transforms"] < times["total"], f"times are {times}"
    if TOKENS in spec.capabilities:
        check_tokens(cast(TokenizedPolicy, policy), observations[0][TASK])
    policy.close()


def check_tokens(policy: TokenizedPolicy, instruction: str) -> None:
    """An instruction that fits has room; a longer one has more tokens."""
    count, room = policy.token_room(instruction)
    assert 1 <= count <= room, "the instruction fits"
    assert policy.token_room(instruction * room)[0] > room, "a long one does not"
    with pytest.raises(TransformError, match="instruction"):
        policy.token_room(" ")


def _assert_same(given: dict[str, Any], kept: dict[str, Any]) -> None:
    assert given.keys() == kept.keys(), "an observation was changed"
    for key, value in kept.items():
        if key == HISTORY:
            for one, other in zip(given[key], value, strict=True):
                _assert_same(one, other)
        else:
            np.testing.assert_array_equal(given[key], value, "an observation was changed")


def check_spec(policy: Policy) -> None:
    """What it says of itself fits together."""
    spec = policy.spec
    assert spec.name, "it has a name"
    assert spec.facts.kind, "its facts name a kind"
    assert spec.facts.source, "its facts name a source"
    assert min(spec.state_dim, spec.action_dim, spec.n_obs_steps) >= 1, "dimensions and steps are at least 1"
    assert 1 <= spec.n_action_steps <= spec.chunk_size, "n_action_steps lies within a chunk"
    assert spec.rate is None or spec.rate > 0, "the rate is positive"
    assert spec.capabilities <= {RANDOM, TIMED, TOKENS, GUIDED, TWO_STAGE}, "capabilities are those of the contract"
    assert len(spec.action_names) in (0, spec.action_dim), "action_names are as many as actions"
    assert len(spec.action_units) in (0, spec.action_dim), "action_units are as many as actions"
    assert len(set(spec.cameras)) == len(spec.cameras), "each camera is named once"
    assert set(spec.image_sizes) <= set(spec.cameras), "image_sizes are of the cameras"
    if spec.facts.camera_map:
        used = [camera for camera, slot in spec.facts.camera_map.items() if slot is not None]
        assert used == list(spec.cameras), "the camera map uses the cameras"
    for feature, width in ((STATE, spec.state_dim), ("action", spec.action_dim)):
        for name, values in spec.statistics.get(feature, {}).items():
            assert name == "count" or np.shape(values) == (width,), f"{feature} has {width} values of {name}"
    if spec.profile is not None:
        actions = spec.profile.action_joints
        assert len(spec.profile.state_joints) == spec.state_dim, "the profile has the state's joints"
        assert tuple(joint.name for joint in actions) == spec.action_names, "action_names are the profile's"
        assert tuple(joint.unit for joint in actions) == spec.action_units, "action_units are the profile's"


def check_seeds(policy: Policy, observations: Sequence[dict[str, Any]], chunks: Any) -> None:
    """The seed fixes a chunk, whatever came before, whatever else is in the batch; only RANDOM ones look at it."""
    again = policy.predict(observations, seeds=SEEDS)
    np.testing.assert_array_equal(again, chunks, "the same seeds give the same chunks")
    policy.reset()
    turned = policy.predict(observations[::-1], seeds=SEEDS[::-1])[::-1]
    np.testing.assert_allclose(turned, chunks, err_msg="the order in a batch does not matter", **_CLOSE)
    for one, seed, chunk in zip(observations, SEEDS, chunks, strict=True):
        alone = policy.predict([one], seeds=[seed])[0]
        np.testing.assert_allclose(alone, chunk, err_msg="what else is in a batch does not matter", **_CLOSE)
    others = policy.predict(observations, seeds=[seed + 100 for seed in SEEDS])
    if RANDOM in policy.spec.capabilities:
        assert not np.allclose(others, chunks), "who is RANDOM gives other chunks for other seeds"
    else:
        np.testing.assert_array_equal(others, chunks, "who is not RANDOM does not look at seeds")
    free = policy.predict(observations)
    assert free.shape == chunks.shape, "without seeds the shape is the same"
    assert np.isfinite(free).all(), "without seeds chunks are finite"


def check_refusals(policy: Policy, observation: dict[str, Any]) -> None:
    """One error that names what is wrong; afterwards the policy works as before."""
    before = policy.predict([observation], seeds=[1])
    for camera in policy.spec.cameras:
        less = {key: value for key, value in observation.items() if key != image_key(camera)}
        with pytest.raises(TransformError, match=re.escape(camera)):
            policy.predict([less], seeds=[1])
    with pytest.raises(TransformError, match=re.escape(STATE)):
        policy.predict([{key: value for key, value in observation.items() if key != STATE}], seeds=[1])
    state = np.asarray(observation[STATE])
    with pytest.raises(TransformError, match=str(len(state) + 1)):
        policy.predict([{**observation, STATE: np.append(state, state[-1:])}], seeds=[1])
    for bad in (np.nan, np.inf):
        spoilt = state.copy()
        spoilt[-1] = bad
        with pytest.raises(TransformError, match=r"not finite|NaN|infinite"):
            policy.predict([{**observation, STATE: spoilt}], seeds=[1])
    if GUIDED not in policy.spec.capabilities:
        with pytest.raises(UsageError, match="previous is given"):
            policy.predict([observation], seeds=[1], previous=Leftover(before[0]))
    after = policy.predict([observation], seeds=[1])
    np.testing.assert_array_equal(after, before, "a refusal leaves nothing behind")
