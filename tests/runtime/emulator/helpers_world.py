"""A world of two joints, as a stranger's environment: small, exact, and with episodes that end."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from smolpilot.contracts.environment import Environment, EnvironmentSpec, EpisodeInfo, Outcome
from smolpilot.contracts.observation import Image, Observation, make_observation
from smolpilot.robots import CameraProfile, Joint, RobotProfile

PROFILE = RobotProfile(
    name="world", description="a test", rate=10.0, gripper=["grip"],
    joints=[
        Joint(name="pan", unit="rad", position_limits=(-1.5, 1.5), velocity_limit=None),
        Joint(name="grip", unit="normalized", position_limits=(0.0, 100.0), velocity_limit=None),
    ],
    cameras=[CameraProfile(name="top", width=8, height=6)],
)  # fmt: skip
_FASTEST = np.array([0.1, 20.0])  # of a step


class World(Environment):
    """Joints go to the action, `_FASTEST` a step at most. An episode begins at [0.1 seed, 50] and ends after some
    steps. Its image is as bright as steps have been taken in all."""

    spec: EnvironmentSpec

    def __init__(self, episode: int = 1000) -> None:
        self.spec = EnvironmentSpec("world", PROFILE, rate=10.0, goal="none", max_steps=episode)
        self.seeds, self.actions, self.closed = list[int](), list[npt.NDArray[np.float64]](), False
        self._left = 0

    def reset(self, seed: int, *, instruction: str | None = None) -> tuple[Observation, EpisodeInfo]:
        self.seeds.append(seed)
        self._at, self._left = np.array([0.1 * seed, 50.0]), self.spec.max_steps
        return self._observation(), EpisodeInfo("do nothing")

    def step(self, action: npt.ArrayLike) -> tuple[Observation, Outcome | None]:
        assert self._left > 0, "the episode has ended"
        self.actions.append(np.asarray(action, np.float64))
        self._at = self._at + np.clip(self.actions[-1] - self._at, -_FASTEST, _FASTEST)
        self._left -= 1
        return self._observation(), None if self._left else Outcome(False, "over")

    def render(self) -> Image:
        return np.full((6, 8, 3), len(self.actions) % 256, np.uint8)

    def close(self) -> None:
        self.closed = True

    def _observation(self) -> dict[str, Any]:
        return make_observation(self._at, {"top": self.render()})
