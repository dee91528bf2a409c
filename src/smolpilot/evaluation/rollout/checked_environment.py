"""Playing in an environment: what it answers is looked at, since anybody may have written it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from smolpilot.common.errors import SmolpilotError
from smolpilot.common.keys import STATE, image_key
from smolpilot.common.text import shown
from smolpilot.contracts import Demonstration, EpisodeInfo, Image, Outcome
from smolpilot.contracts.plugins import blamed

if TYPE_CHECKING:
    import numpy.typing as npt

    from smolpilot.contracts import Environment, Observation


class CheckedEnvironment:
    """One episode after the other in an environment; SmolpilotError, with seed and step, for what breaks the contract.

    `UsageError`s of the environment pass as they are.
    """

    def __init__(self, environment: Environment, *, images: bool = True) -> None:
        """images: whether anybody looks at them. Where nobody does, an environment that has `run` draws none."""
        self.environment, self._seed, self._step = environment, 0, 0
        # Others draw at every step, and are not to be told of images in `reset`.
        self._blind = not images and hasattr(environment, "run")
        self._shape: tuple[int, ...] | None = None
        self._own, self._texts = "", frozenset[str]()  # the episode's instruction, and all of its scene

    def reset(self, seed: int, instruction: str | None = None) -> tuple[Observation, EpisodeInfo]:
        """The start of the episode of that seed."""
        self._seed, self._step, self._shape = seed, 0, None
        with self._named():
            # An environment with one instruction need not know the argument.
            asked: dict[str, Any] = {} if instruction is None else {"instruction": instruction}
            asked |= {"images": "never"} if self._blind else {}
            observation, info = self.environment.reset(seed, **asked)
        self._check_info(info, "reset", "an observation and an EpisodeInfo")
        if instruction is not None:
            self._check(info.instruction == instruction, f"reset(..., instruction={instruction!r})", info.instruction,
                        "an episode with the instruction that was asked for")  # fmt: skip
        return self._seen(observation), info

    def demonstrate(self, seed: int, instruction: str | None = None) -> Demonstration:
        """An episode of the environment's own expert; only where it has one."""
        self._seed, self._step = seed, 0
        asked = {} if instruction is None else {"instruction": instruction}
        with self._named():
            found: Demonstration = cast(Any, self.environment).demonstrate(seed, **asked)
        self._check(isinstance(found, Demonstration), "demonstrate", found, "a Demonstration")
        self._check_info(found.info, "Demonstration.info", "an EpisodeInfo")
        self._check(found.outcome is not None, "Demonstration.outcome", found.outcome, "an Outcome")
        self._check_outcome(found.outcome)
        return found

    def _check_info(self, info: Any, what: str, expected: str) -> None:
        self._check(isinstance(info, EpisodeInfo), what, info, expected)
        self._check(isinstance(info.instruction, str), "EpisodeInfo.instruction", info.instruction, "a text")
        self._check(
            isinstance(info.groups, Mapping), "EpisodeInfo.groups", info.groups, "group -> this episode's value"
        )
        several = _are_texts(info.alternatives)
        self._check(several, "EpisodeInfo.alternatives", info.alternatives, "a tuple of texts")
        self._own, self._texts = info.instruction, frozenset((info.instruction, *info.alternatives))

    def step(self, action: npt.NDArray[np.float32]) -> tuple[Observation, Outcome | None]:
        """The environment's answer to an action."""
        self._step += 1
        with self._named():
            # A copy: an environment may write into its action, which is part of the plan.
            observation, outcome = self.environment.step(action.copy())
        self._check_outcome(outcome)
        return self._seen(observation), outcome

    def run(
        self, actions: npt.NDArray[np.float32], *, frames: bool = False
    ) -> tuple[int, Observation | None, Outcome | None, list[Image]]:
        """Actions [k, A] until the episode ends: how many were executed, what is seen then (None after the end), how it
        ended, and with `frames` a view after each step. Where the environment has `run`, it draws no image between.
        """
        run: Any = getattr(self.environment, "run", None)
        if run is None:
            shown: list[Image] = []
            for number, action in enumerate(actions, 1):
                observation, outcome = self.step(action)
                shown += [self.render()] if frames else []
                if outcome is not None or number == len(actions):
                    return number, observation, outcome, shown
        with self._named():
            found = run(actions.copy(), images="never" if self._blind else "running", frames=frames)
        self._step += found.steps
        self._check_outcome(found.outcome)
        images = [self._image(image) for image in found.frames]
        return found.steps, None if found.outcome is not None else self._seen(found.observation), found.outcome, images

    def _check_outcome(self, outcome: Outcome | None) -> None:
        if outcome is not None:
            self._check(isinstance(outcome, Outcome), "step", outcome, "an observation, and an Outcome or None")
            truth = isinstance(outcome.success, bool | np.bool_)
            self._check(truth, "Outcome.success", outcome.success, "True or False")
            self._check(isinstance(outcome.facts, Mapping), "Outcome.facts", outcome.facts, "name -> number")
            for name, value in outcome.facts.items():
                self._check(_is_number(value), f"Outcome.facts[{name!r}]", value, "a finite number")
            truth = outcome.success_at_end is None or isinstance(outcome.success_at_end, bool | np.bool_)
            self._check(truth, "Outcome.success_at_end", outcome.success_at_end, "True, False or None")
            self._check_reached(outcome)

    def _check_reached(self, outcome: Outcome) -> None:
        reached = outcome.reached
        self._check(_are_texts(reached), "Outcome.reached", reached, "a tuple of instructions")
        texts = " or ".join(map(shown, sorted(self._texts)))
        self._check(self._texts.issuperset(reached), "Outcome.reached", reached, f"instructions of this scene: {texts}")
        if outcome.success and reached:
            expected = f"{shown(self._own)}, whose goal was reached, among them"
            self._check(self._own in reached, "Outcome.reached", reached, expected)

    def render(self) -> Image:
        """An image of now, as large as the others of the episode."""
        with self._named():
            return self._image(self.environment.render())

    def _image(self, given: Any) -> Image:
        image = np.asarray(given)
        good = image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and min(image.shape) > 0
        self._check(good, "render", _form(image), "an image uint8 [h, w, 3]")
        self._shape = self._shape or image.shape
        self._check(image.shape == self._shape, "render", _form(image), f"{list(self._shape)} in the whole episode")
        return image

    def _seen(self, observation: Any) -> Observation:
        """The observation, where it holds what the profile promises."""
        self._check(isinstance(observation, Mapping), "the observation", observation, "a mapping with LeRobot's keys")
        profile = self.environment.spec.profile
        cameras = () if self._blind else profile.cameras
        for key in (STATE, *(image_key(camera.name) for camera in cameras)):
            self._check(key in observation, "the observation", sorted(map(str, observation)), f"{key} among its keys")
        for camera in cameras:
            key, wanted = image_key(camera.name), (camera.height, camera.width, 3)
            image = np.asarray(observation[key])
            self._check(image.dtype == np.uint8 and image.shape == wanted, key, _form(image),
                        f"an image uint8 {list(wanted)}, by the robot profile '{profile.name}'")  # fmt: skip
        found: Observation = observation
        return found

    def _check(self, holds: bool, what: str, found: Any, expected: str) -> None:
        if not holds:
            raise SmolpilotError(
                f"The environment {self.environment.spec.name} breaks its contract in the episode of seed "
                f"{self._seed}, at {self._where()}: {what} is {shown(found)}.",
                expected=expected,
            )

    def _where(self) -> str:
        return f"step {self._step}" if self._step else "the start"

    @contextmanager
    def _named(self) -> Iterator[None]:
        name = self.environment.spec.name
        fix = f"report it to the makers of {name} (SMOLPILOT_TRACEBACK=1 shows where), or start from another seed"
        at = f"at {self._where()}"
        with blamed(f"The environment {name} fails in the episode of seed {self._seed}, {at}", fix=fix):
            yield


def close_environment(environment: Environment) -> None:
    """Close it; SmolpilotError where that fails."""
    name = getattr(environment.spec, "name", type(environment).__name__)  # a spec that is none was told of before
    with blamed(f"The environment {name} fails in close", fix="SMOLPILOT_TRACEBACK=1 shows where"):
        environment.close()


def _is_number(value: Any) -> bool:
    try:
        return math.isfinite(float(value)) and not isinstance(value, str)
    except (TypeError, ValueError, OverflowError):
        return False


def _are_texts(value: Any) -> bool:
    return isinstance(value, tuple | list) and all(isinstance(text, str) for text in value)


def _form(image: npt.NDArray[Any]) -> str:
    return f"{image.dtype} {list(image.shape)}"
