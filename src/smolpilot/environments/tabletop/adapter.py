"""The tabletop as an Environment: the named block is the goal, the scene's other blocks are alternatives."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from smolpilot.common.errors import UsageError
from smolpilot.common.text import shown
from smolpilot.contracts import (
    Demonstration,
    Environment,
    EnvironmentSpec,
    EpisodeInfo,
    Image,
    Observation,
    Outcome,
)
from smolpilot.environments.simulation import Advance, Images
from smolpilot.environments.simulators.worker import draws
from smolpilot.robots import RobotProfile

from .colors import COLORS, DEFAULT_COLORS
from .env import RATE, TIME_LIMIT, TabletopEnv, instruction_of

# As stages files up to the contracts wrote them, beside `env`.
OLD_SETTINGS = {"target": "target", "colors": "colors", "colours": "colors"}
_NAMED = re.compile(r"touch the (\w+) block")
_LABELS = {"other": "touched another block", "none": "ran out of time"}


def make_tabletop(colors: tuple[str, ...] | None = None, target: str | None = None) -> Environment:
    """The tabletop, where an arm touches the block that the instruction names.

    colors: from which each scene draws its two blocks: red, green, blue, yellow; default red and blue, and the target.
    target: the one that is in every scene and named in it; None: drawn anew for each.
    """
    if colors is None:
        colors = tuple(dict.fromkeys([*DEFAULT_COLORS, *([target] if target is not None else [])]))
    return Tabletop(TabletopEnv(colors=colors, target=target), colors if target is None else (target,))


def for_recording(robot_type: str | None, instructions: Sequence[str]) -> Mapping[str, str] | None:
    """The color that a dataset of one task names; None for other robots, and for datasets of several tasks."""
    if robot_type != "tabletop" or len(instructions) != 1:
        return None
    match = _NAMED.fullmatch(instructions[0])
    return {"target": match[1]} if match is not None and match[1] in COLORS else None


# What stages of training ask: see environments.of_datasets.
make_tabletop.for_recording = for_recording  # type: ignore[attr-defined]
make_tabletop.old_settings = OLD_SETTINGS  # type: ignore[attr-defined]


@functools.cache
def _profile() -> RobotProfile:
    return RobotProfile.load("tabletop")


class Tabletop(Environment):
    """The gymnasium environment behind the contract."""

    spec: EnvironmentSpec
    has_expert = True

    def __init__(self, env: TabletopEnv, named: Sequence[str] = DEFAULT_COLORS) -> None:
        """named: the colors that instructions name."""
        self._env = env
        self.spec = EnvironmentSpec(
            name="tabletop",
            profile=_profile(),
            rate=RATE,
            goal="the first block that the tip touches is the one that the instruction names",
            max_steps=TIME_LIMIT,
            instructions=tuple(map(instruction_of, named)),
            labels=_LABELS,
        )

    def reset(
        self, seed: int, *, instruction: str | None = None, images: Images = "always"
    ) -> tuple[Observation, EpisodeInfo]:
        self._env.begin(seed)
        info = self._env.info()
        if instruction is not None:
            texts = list(info["instructions"])
            if instruction not in texts:
                raise UsageError(
                    f"The scene of seed {seed} has no instruction {shown(instruction)}.", expected=" or ".join(texts)
                )
            # Named after the scene is drawn, so that it stays what the seed makes of it.
            self._env.name(info["colors"][texts.index(instruction)])
            info = self._env.info()
        others = tuple(text for text in info["instructions"] if text != instruction_of(info["target"]))
        found = EpisodeInfo(instruction_of(info["target"]), {"color": info["target"]}, others)
        return self._env.frame(images=draws(images, ended=False)), found

    def step(self, action: npt.ArrayLike) -> tuple[Observation, Outcome | None]:
        frame, _, terminated, truncated, info = self._env.step(action)
        return frame, _outcome(info) if terminated or truncated else None

    def run(self, actions: npt.NDArray[np.floating], *, images: Images = "always", frames: bool = False) -> Advance:
        """Actions [k, A] one after the other until the episode ends; images as `SimulatedEnvironment.run` has them."""
        steps, outcome, shown = 0, None, []
        while outcome is None and steps < len(actions):
            ended = self._env.move(actions[steps])
            steps += 1
            shown += [self.render()] if frames else []
            outcome = _outcome(self._env.info()) if ended else None
        return Advance(steps, self._env.frame(images=draws(images, outcome is not None)), outcome, shown)

    def demonstrate(self, seed: int, *, instruction: str | None = None) -> Demonstration:
        """The scripted expert plays the scene of that seed; no image is drawn."""
        from .scripted_expert import ScriptedExpert

        _, info = self.reset(seed, instruction=instruction, images="never")
        expert, steps, ended = ScriptedExpert(), 0, False
        while not ended:
            ended = self._env.move(expert.action(self._env))
            steps += 1
        return Demonstration(info, steps, _outcome(self._env.info()))

    def render(self) -> Image:
        return self._env.render()

    def close(self) -> None:
        self._env.close()


def _outcome(info: dict[str, Any]) -> Outcome:
    label = "none" if info["reached"] is None else "named" if info["success"] else "other"
    reached = () if info["reached"] is None else (instruction_of(info["reached"]),)
    return Outcome(info["success"], label, {"distance_m": info["distance"]}, reached=reached)
