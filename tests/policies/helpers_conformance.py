"""What every Policy promises, checked on one: for ours, and for whoever writes another."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from smolpilot.contracts import GUIDED, HISTORY, RANDOM, TIMED, TOKENS, TWO_STAGE, Policy, TimedPolicy
from smolpilot.errors import TransformError
from smolpilot.keys import STATE, image_key

SEEDS = (11, 12, 13)


def check_policy(policy: Policy, observations: Sequence[dict[str, Any]]) -> None:
    """Three different observations that fit the policy; AssertionError where it breaks the contract. Closes it."""
    assert len(observations) == len(SEEDS)
    assert isinstance(policy, Policy)
    check_spec(policy)
    spec, before = policy.spec, copy.deepcopy(list(observations))
    policy.reset()
    chunks = policy.predict(observations, seeds=SEEDS)
    assert isinstance(chunks, np.ndarray)
    assert chunks.shape == (3, spec.chunk_size, spec.action_dim)
    assert chunks.dtype == np.float32
    assert np.isfinite(chunks).all()
    # What was given is not changed.
    for given, kept in zip(observations, before, strict=True):
        _assert_same(given, kept)
    check_seeds(policy, observations, chunks)
    check_refusals(policy, observations[0])
    if TIMED in spec.capabilities:
        assert isinstance(policy, TimedPolicy)
        times = policy.last_ms
        assert 0 <= times["transforms"] < times["total"]
    policy.close()


def _assert_same(given: dict[str, Any], kept: dict[str, Any]) -> None:
    assert given.keys() == kept.keys()
    for key, value in kept.items():
        if key == HISTORY:
            for one, other in zip(given[key], value, strict=True):
                _assert_same(one, other)
        else:
            np.testing.assert_array_equal(given[key], value)


def check_spec(policy: Policy) -> None:
    """What it says of itself fits together."""
    spec = policy.spec
    assert spec.name
    assert spec.facts.kind
    assert spec.facts.source
    assert spec.state_dim >= 1
    assert spec.action_dim >= 1
    assert 1 <= spec.n_action_steps <= spec.chunk_size
    assert spec.n_obs_steps >= 1
    assert spec.rate is None or spec.rate > 0
    assert spec.capabilities <= {RANDOM, TIMED, TOKENS, GUIDED, TWO_STAGE}
    assert len(spec.action_names) in (0, spec.action_dim)
    assert len(spec.action_units) in (0, spec.action_dim)
    assert len(set(spec.cameras)) == len(spec.cameras)
    assert set(spec.image_sizes) <= set(spec.cameras)
    if spec.facts.camera_map:
        assert [camera for camera, slot in spec.facts.camera_map.items() if slot is not None] == list(spec.cameras)
    for feature, width in ((STATE, spec.state_dim), ("action", spec.action_dim)):
        for name, values in spec.statistics.get(feature, {}).items():
            assert name == "count" or np.shape(values) == (width,)
    if spec.profile is not None:
        assert len(spec.profile.state_joints) == spec.state_dim
        assert tuple(joint.name for joint in spec.profile.action_joints) == spec.action_names
        assert tuple(joint.unit for joint in spec.profile.action_joints) == spec.action_units


def check_seeds(policy: Policy, observations: Sequence[dict[str, Any]], chunks: Any) -> None:
    """The seed fixes a chunk, whatever came before, whatever else is in the batch; only RANDOM ones look at it."""
    np.testing.assert_array_equal(policy.predict(observations, seeds=SEEDS), chunks)
    policy.reset()
    close = {"rtol": 1e-5, "atol": 1e-5}  # sums over a batch may be taken in another order
    np.testing.assert_allclose(policy.predict(observations[::-1], seeds=SEEDS[::-1])[::-1], chunks, **close)
    for one, seed, chunk in zip(observations, SEEDS, chunks, strict=True):
        np.testing.assert_allclose(policy.predict([one], seeds=[seed])[0], chunk, **close)
    others = policy.predict(observations, seeds=[seed + 100 for seed in SEEDS])
    if RANDOM in policy.spec.capabilities:
        assert not np.allclose(others, chunks)
    else:
        np.testing.assert_array_equal(others, chunks)
    free = policy.predict(observations)
    assert free.shape == chunks.shape
    assert np.isfinite(free).all()


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
        with pytest.raises(TransformError, match="finite"):
            policy.predict([{**observation, STATE: spoilt}], seeds=[1])
    np.testing.assert_array_equal(policy.predict([observation], seeds=[1]), before)
