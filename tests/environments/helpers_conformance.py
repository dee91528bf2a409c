"""What holds for every Environment, whoever wrote it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from smolpilot.common.errors import UsageError
from smolpilot.common.keys import STATE, TASK, image_key
from smolpilot.contracts import Environment, EnvironmentSpec, EpisodeInfo, Observation, Outcome

SEEDS = (3, 1_000_000)


def check_environment(make: Callable[[], Environment]) -> None:
    """Everything that the contract says, on fresh environments; AssertionError where one breaks it."""
    env = make()
    _check_spec(env)
    for seed in SEEDS:
        observation, info = env.reset(seed)
        _check_observation(observation, env.spec, info.instruction)
        _check_same_again(env, make, seed)
        _check_alternatives(env, seed)
    _check_images_are_the_callers(env)
    _check_wrong_actions(env)
    _check_episode(env)
    _check_render(env)
    env.close()
    env.close()


def _check_spec(env: Environment) -> None:
    spec = env.spec
    assert isinstance(env, Environment)
    assert isinstance(spec, EnvironmentSpec)
    assert spec.name
    assert spec.goal
    assert spec.rate > 0
    assert spec.max_steps >= 1
    assert spec.cameras == tuple(camera.name for camera in spec.profile.cameras)
    assert all(isinstance(text, str) and text for text in (*spec.instructions, *spec.labels, *spec.labels.values()))


def _check_observation(observation: Observation, spec: EnvironmentSpec, instruction: str) -> None:
    """The keys, shapes and types that the profile promises."""
    assert set(observation) - {"captured_at"} == {STATE, TASK, *map(image_key, spec.cameras)}
    assert observation[STATE].dtype == np.float32
    assert observation[STATE].shape == (len(spec.profile.state_joints),)
    assert np.isfinite(observation[STATE]).all()
    assert observation[TASK] == instruction
    for camera in spec.profile.cameras:
        image = observation[image_key(camera.name)]
        assert image.dtype == np.uint8
        assert image.shape == (camera.height, camera.width, 3)


def _check_same_again(env: Environment, make: Callable[[], Environment], seed: int) -> None:
    """The same seed and actions give the same episode, in this environment and in another of its kind."""
    other = make()
    first, again, there = (_played(one, seed) for one in (env, env, other))
    other.close()
    for one in (again, there):
        assert first[0] == one[0]
        assert len(first[1]) == len(one[1])
        for a, b in zip(first[1], one[1], strict=True):
            _assert_equal(a, b)


def _played(env: Environment, seed: int, steps: int = 8) -> tuple[EpisodeInfo, list[Observation]]:
    """An episode's info, and what is seen in it under actions drawn around where the joints are."""
    rng = np.random.default_rng(seed)
    observation, info = env.reset(seed)
    seen: list[Observation] = [dict(observation)]
    for _ in range(steps):
        observation, outcome = env.step(_some_action(env, rng))
        seen.append(dict(observation))
        if outcome is not None:
            break
    return info, seen


def _some_action(env: Environment, rng: np.random.Generator) -> npt.NDArray[Any]:
    limits = [joint.position_limits or (-1.0, 1.0) for joint in env.spec.profile.action_joints]
    return rng.uniform(*np.array(limits).T)


def _assert_equal(a: Observation, b: Observation, *, but: tuple[str, ...] = ()) -> None:
    for key in set(a) - {"captured_at", *but}:
        assert np.array_equal(a[key], b[key]), f"{key} differs"


def _check_alternatives(env: Environment, seed: int) -> None:
    """Another instruction leaves the scene what it is; the own one changes nothing; a strange one is refused."""
    own, info = env.reset(seed)
    assert info.instruction not in info.alternatives
    _assert_equal(own, env.reset(seed, instruction=info.instruction)[0])
    for text in info.alternatives:
        other, there = env.reset(seed, instruction=text)
        _assert_equal(own, other, but=(TASK,))
        assert there.instruction == other[TASK] == text
        assert info.instruction in there.alternatives
        assert set(there.groups) == set(info.groups)
    with pytest.raises(UsageError, match="whistle a tune"):
        env.reset(seed, instruction="whistle a tune")
    assert env.reset(seed)[1] == info


def _check_images_are_the_callers(env: Environment) -> None:
    """An environment does not write into what it gave away, and what the caller writes there does not reach it."""
    observation, _ = env.reset(SEEDS[0])
    kept = {key: np.array(value) for key, value in observation.items() if key not in (TASK, "captured_at")}
    rng = np.random.default_rng(0)
    for _ in range(3):
        if env.step(_some_action(env, rng))[1] is not None:
            break
    _assert_equal(kept, observation)
    for camera in env.spec.cameras:
        observation[image_key(camera)][:] = 7
    _assert_equal(kept, env.reset(SEEDS[0])[0])


def _check_wrong_actions(env: Environment) -> None:
    size = len(env.spec.profile.action_joints)
    env.reset(SEEDS[0])
    bad: list[tuple[Any, str]] = [
        (np.zeros(size + 1), "shape"),
        (np.zeros((1, size)), "shape"),
        (np.full(size, np.nan), "not finite"),
        (np.full(size, np.inf), "not finite"),
        (["up"] * size, "numbers"),
    ]
    for action, words in bad:
        with pytest.raises(UsageError, match=words):
            env.step(action)


def _check_episode(env: Environment) -> None:
    """Every episode ends within `max_steps`, with an Outcome that reports can use."""
    rng = np.random.default_rng(0)
    for seed in SEEDS:
        _, info = env.reset(seed)
        for _ in range(env.spec.max_steps):
            observation, outcome = env.step(_some_action(env, rng))
            _check_observation(observation, env.spec, info.instruction)
            if outcome is not None:
                break
        assert outcome is not None, f"no outcome after {env.spec.max_steps} steps"
        _check_outcome(outcome, env.spec)


def _check_outcome(outcome: Outcome, spec: EnvironmentSpec) -> None:
    assert type(outcome.success) is bool
    assert outcome.label
    assert outcome.success or outcome.label in spec.labels
    assert all(type(value) is float and np.isfinite(value) for value in outcome.facts.values())
    assert type(outcome.reached) is tuple
    assert all(type(text) is str for text in outcome.reached)


def _check_render(env: Environment) -> None:
    env.reset(SEEDS[0])
    image = env.render()
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.shape[2] == 3
    assert image.shape[0] % 2 == image.shape[1] % 2 == 0
    assert np.ptp(image) > 0, "an empty image"
