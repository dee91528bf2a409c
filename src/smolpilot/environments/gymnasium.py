"""Any gymnasium environment with a continuous action, as an Environment: where its state, images and success are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from smolpilot.common.errors import SmolpilotError, UsageError, did_you_mean
from smolpilot.common.text import LIMIT, plain, shown
from smolpilot.contracts import (
    Environment,
    EnvironmentSpec,
    EpisodeInfo,
    Image,
    Observation,
    Outcome,
    make_observation,
)
from smolpilot.robots import CameraProfile, RobotProfile

from .actions import checked_action
from .quiet import quiet
from .simulation import told
from .simulators.gymnasium_env import even, pick

RENDER = "render()"  # in place of an observation's key: the image that `render` gives
LABELS = {"failed": "ended without success", "timeout": "ran out of time"}


@dataclass(frozen=True)
class Wiring:
    """Where things are in what a gymnasium environment returns.

    Keys of nested mappings are joined by dots (`pixels.top`); empty, the observation itself. `state`: the joint values
    [S] in the profile's order and units. `images`: camera of the profile -> key of its image [h, w, 3] uint8, or
    RENDER. Success, which ends the episode, is what the info calls `success`, or a reward of at least `success_reward`.
    `facts`: name of a number in Outcome.facts -> its key in the last info; `peaks`: the same, the largest one of the
    episode.
    """

    state: str = ""
    images: Mapping[str, str] = field(default_factory=dict)
    success: str | None = None
    success_reward: float | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    peaks: Mapping[str, str] = field(default_factory=dict)


def make_gymnasium(
    id: str,
    robot: str,
    state: str = "",
    images: dict[str, str] = {},  # noqa: B006 - never changed
    success: str | None = None,
    success_reward: float | None = None,
    instruction: str | None = None,
    max_steps: int | None = None,
    rate: float | None = None,
    goal: str = "",
    facts: dict[str, str] = {},  # noqa: B006
    options: dict[str, Any] = {},  # noqa: B006
) -> Environment:
    """An environment of gymnasium's registry; `id` may be `module:Name-v0` to import what registers it.

    robot: name or file of the profile whose joints, units, order and cameras it has. instruction and rate: default the
    profile's. max_steps: default the registered limit. options: for the environment's own constructor. The rest: see
    Wiring. UsageError where the environment cannot be made or does not fit the profile.
    """
    for name, value in {"max_steps": max_steps, "rate": rate}.items():
        if value is not None and value <= 0:
            raise UsageError(f"Setting {name} is {value}.", expected="a number above 0")
    profile = RobotProfile.load(robot)
    said = instruction or profile.default_instruction
    if said is None:
        raise UsageError(f"The robot profile '{profile.name}' has no default instruction.", fix="give instruction=TEXT")
    env = open_gymnasium(id, max_steps, options)
    limit = max_steps or getattr(env.spec, "max_episode_steps", None)
    if limit is None:
        env.close()
        raise UsageError(f"{plain(id, LIMIT)} has no limit of steps.", fix="give max_steps=NUMBER")
    aim = f"the environment's own '{success}'" if success is not None else f"a reward of at least {success_reward}"
    spec = EnvironmentSpec(
        name=id, profile=profile, rate=rate or profile.rate, goal=goal or aim, max_steps=limit, instructions=(said,),
        labels=LABELS, action_range=_action_range(env, len(profile.action_joints)),
    )  # fmt: skip
    try:
        return GymnasiumEnvironment(env, spec, Wiring(state, images, success, success_reward, facts))
    except UsageError:
        env.close()
        raise


def open_gymnasium(id: str, max_steps: int | None = None, options: Mapping[str, Any] | None = None) -> Any:
    """`gymnasium.make` without its warnings and prints, rendering to images; what it refuses is a UsageError."""
    limit = {} if max_steps is None else {"max_episode_steps": max_steps}
    try:
        with quiet():
            return gymnasium.make(id, render_mode="rgb_array", disable_env_checker=True, **limit, **(options or {}))
    except SmolpilotError:
        raise
    except Exception as error:  # constructors raise what they like
        cause = plain(f"{type(error).__name__}: {error}", 2 * LIMIT)
        raise UsageError(f"gymnasium cannot make {shown(id)}: {cause}", fix="check the id and its options") from error


class GymnasiumEnvironment(Environment):
    """A gymnasium environment behind the contract. Actions pass as they are: no scaling and no clipping."""

    spec: EnvironmentSpec

    def __init__(self, env: gymnasium.Env[Any, Any], spec: EnvironmentSpec, wiring: Wiring) -> None:
        """spec: its only instruction is every episode's. UsageError where environment, profile and wiring differ."""
        self._env, self.spec, self._wiring = env, spec, wiring
        self._size = len(spec.profile.action_joints)
        self._steps: int | None = None
        self._peaks: dict[str, float] = {}
        self._closed = False
        _check_fit(env, spec, wiring)

    def reset(self, seed: int, *, instruction: str | None = None) -> tuple[Observation, EpisodeInfo]:
        if instruction not in (None, *self.spec.instructions):
            raise UsageError(
                f"The environment {self.spec.name} has no instruction {shown(instruction)}.",
                expected=f"'{self.spec.instructions[0]}': the only one",
            )
        seen, _ = self._env.reset(seed=seed)
        self._steps, self._peaks = 0, {}
        return self._observation(seen), EpisodeInfo(self.spec.instructions[0])

    def step(self, action: npt.ArrayLike) -> tuple[Observation, Outcome | None]:
        values = checked_action(action, self._size)
        if self._steps is None:
            raise UsageError("The environment has no episode yet.", fix="call reset() before step()")
        dtype = self._env.action_space.dtype
        seen, reward, terminated, truncated, info = self._env.step(values.astype(dtype))
        self._steps += 1
        for name, key in self._wiring.peaks.items():
            self._peaks[name] = max(self._peaks.get(name, -np.inf), self._number(info, key))
        late = truncated or self._steps >= self.spec.max_steps
        success = self._success(info, float(reward), last=bool(terminated or late))
        if not (success or terminated or late):
            return self._observation(seen), None
        facts = {name: self._number(info, key) for name, key in self._wiring.facts.items()} | self._peaks
        label = "success" if success else "failed" if terminated else "timeout"
        return self._observation(seen), Outcome(success, label, facts)

    def render(self) -> Image:
        image: Image = even(self._rendered())
        return image

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._env.close()

    def _observation(self, seen: Any) -> Observation:
        found = self._find(seen, self._wiring.state)
        if isinstance(found, Mapping):
            keys = ", ".join(plain(f"{self._wiring.state}.{key}".strip("."), LIMIT) for key in found)
            raise UsageError(f"The state of {self.spec.name} is a mapping.", fix=f"choose one of its keys: {keys}")
        state = np.asarray(found, dtype=np.float32)
        wanted = (len(self.spec.profile.state_joints),)
        if state.shape != wanted:
            raise UsageError(
                f"The state of {self.spec.name} has shape {state.shape}.",
                expected=f"{wanted}: the joints of the profile '{self.spec.profile.name}'",
                fix="choose the key of the state, or another profile",
            )
        images = {camera.name: self._image(seen, camera) for camera in self.spec.profile.cameras}
        return make_observation(state, images, self.spec.instructions[0])

    def _image(self, seen: Any, camera: CameraProfile) -> Image:
        key = self._wiring.images[camera.name]
        image = self._rendered() if key == RENDER else np.asarray(self._find(seen, key))
        if image.dtype != np.uint8 or image.shape != (camera.height, camera.width, 3):
            raise UsageError(
                f"Camera '{camera.name}' of {self.spec.name} gives {image.dtype} {image.shape}.",
                expected=f"uint8 ({camera.height}, {camera.width}, 3), as the profile '{self.spec.profile.name}' says",
            )
        # Some environments draw into one buffer.
        return image.copy()

    def _rendered(self) -> Image:
        image = self._env.render()
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise UsageError(
                f"{self.spec.name} renders {type(image).__name__} {getattr(image, 'shape', '')}.",
                expected="an image [h, w, 3] uint8 with render_mode rgb_array",
            )
        return image

    def _find(self, seen: Any, key: str) -> Any:
        with told():
            return pick(seen, plain(key, LIMIT), f"observation of {self.spec.name}")

    def _success(self, info: Mapping[str, Any], reward: float, *, last: bool) -> bool:
        key, least = self._wiring.success, self._wiring.success_reward
        if key is not None:
            # Some give it at the end only; never to have given it is a wrong key, not a failure.
            return bool(self._told(info, key)) if last or key in info else False
        return least is not None and reward >= least

    def _number(self, info: Mapping[str, Any], key: str) -> float:
        return float(self._told(info, key))

    def _told(self, info: Mapping[str, Any], key: str) -> Any:
        if key not in info:
            raise UsageError(
                f"The info of {self.spec.name} has no '{plain(key, LIMIT)}'.",
                expected=f"one of {', '.join(map(str, info))}" if info else "an info with anything in it",
                fix=did_you_mean(key, map(str, info)),
            )
        return info[key]


def _action_range(env: gymnasium.Env[Any, Any], size: int) -> tuple[tuple[float, float], ...]:
    """The bounds of the action space, where each action has finite ones."""
    space = env.action_space
    if not isinstance(space, gymnasium.spaces.Box) or space.shape != (size,):
        return ()  # told by `_check_fit`
    ends = np.stack([space.low, space.high], axis=1).astype(np.float64)
    return tuple((float(low), float(high)) for low, high in ends) if np.isfinite(ends).all() else ()


def _check_fit(env: gymnasium.Env[Any, Any], spec: EnvironmentSpec, wiring: Wiring) -> None:
    size, space = len(spec.profile.action_joints), env.action_space
    if not isinstance(space, gymnasium.spaces.Box) or space.shape != (size,):
        raise UsageError(
            f"The action of {spec.name} is {plain(space, LIMIT)}.",
            expected=f"a Box of shape ({size},): the joints of the profile '{spec.profile.name}'",
        )
    if (wiring.success is None) == (wiring.success_reward is None):
        raise UsageError(
            f"How success in {spec.name} is known is said {'twice' if wiring.success else 'nowhere'}.",
            fix="give success=KEY of the info, or success_reward=NUMBER",
        )
    if len(spec.instructions) != 1:
        raise UsageError(f"{spec.name} has {len(spec.instructions)} instructions.", expected="one, for every episode")
    for camera in spec.cameras:
        if camera not in wiring.images:
            raise UsageError(
                f"Camera '{camera}' of the profile '{spec.profile.name}' has no image in {spec.name}.",
                fix=f"give images={camera}:KEY, where KEY is the observation's, or {RENDER}",
            )
    for camera in wiring.images:
        if camera not in spec.cameras:
            raise UsageError(
                f"The profile '{spec.profile.name}' has no camera '{plain(camera, LIMIT)}'.",
                fix=did_you_mean(camera, spec.cameras),
            )
