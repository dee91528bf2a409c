"""Environment: a world in which a policy acts and is judged, simulated or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy.typing as npt

from smolpilot.common.text import shown

from .observation import Image, Observation
from .spec_check import SpecCheck, is_rate

if TYPE_CHECKING:
    from smolpilot.robots import RobotProfile


@dataclass(frozen=True)
class EnvironmentSpec:
    """What an environment is.

    `profile`: the robot, whose joints and units states and actions have, and whose cameras observations hold.
    `rate`: steps per second. `goal`: how success is known, such as "the T covers 95 % of its target". `labels`: what
    each label of an Outcome says beside success, for reports, such as {"timeout": "ran out of time"}.
    `max_steps`: after how many steps every episode has ended. `action_range`: the least and the largest value of each
    action, where the environment itself has bounds and the profile may have none. `rest`: the action that leaves the
    robot where it is, for actions that are changes; without it, an action is where its joint shall go.
    """

    name: str
    profile: RobotProfile
    rate: float
    goal: str
    max_steps: int
    instructions: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    action_range: tuple[tuple[float, float], ...] = ()
    rest: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """SmolpilotError for what no environment can be: whoever reads a spec may rely on it."""
        check = SpecCheck(f"EnvironmentSpec {shown(self.name)}")
        for name in ("name", "goal"):
            found = getattr(self, name)
            check.that(name, found, isinstance(found, str) and bool(found), "a text")
        check.that("profile", self.profile, hasattr(self.profile, "action_joints"), "a RobotProfile")
        check.that("rate", self.rate, is_rate(self.rate), "steps per second, above 0")
        check.whole("max_steps", self.max_steps, 1)
        check.texts("instructions", self.instructions)
        check.that("labels", self.labels, isinstance(self.labels, Mapping), "label -> what it says")
        if self.action_range:
            size = len(self.profile.action_joints)
            check.that(
                "action_range", self.action_range, len(self.action_range) == size, f"{size} pairs, one for each action"
            )
        if self.rest:
            size = len(self.profile.action_joints)
            check.that("rest", self.rest, len(self.rest) == size, f"{size} numbers, one for each action")

    @property
    def cameras(self) -> tuple[str, ...]:
        """The cameras that each observation holds."""
        return tuple(camera.name for camera in self.profile.cameras)


@dataclass(frozen=True)
class EpisodeInfo:
    """What is known at the start of an episode.

    `groups`: by which results are broken down, such as {"color": "red"}. `alternatives`: other instructions that the
    same scene could be given, each with another goal; `reset(seed, instruction=...)` takes one of them.
    """

    instruction: str
    groups: Mapping[str, str] = field(default_factory=dict)
    alternatives: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """How an episode ended. `success`: the goal was reached at any step. `label` is one word of the environment's for
    what happened; `facts` are numbers with names that say their unit, such as {"coverage": 0.93, "distance_m": 0.02}.
    `success_at_end`: whether the goal still held at the last step; None where success ends the episode.
    `reached`: which of the scene's instructions, the episode's own and its alternatives, had their goals reached, in
    the order in which they were; empty where none was, and where the environment cannot tell.
    """

    success: bool
    label: str
    facts: Mapping[str, float] = field(default_factory=dict)
    success_at_end: bool | None = None
    reached: tuple[str, ...] = ()


@runtime_checkable
class Environment(Protocol):
    """A class that inherits from this one need only give `spec`, `reset`, `step` and `render`."""

    if TYPE_CHECKING:
        # A plain attribute will do: at run time nothing is in the way of `self.spec = ...`.
        @property
        def spec(self) -> EnvironmentSpec: ...

    def reset(self, seed: int, *, instruction: str | None = None) -> tuple[Observation, EpisodeInfo]:
        """A new episode; the same seed gives the same one.

        instruction: the episode's own or one of its alternatives, for the same scene with that goal. UsageError for
        another one.
        """
        ...

    def step(self, action: npt.ArrayLike) -> tuple[Observation, Outcome | None]:
        """One action [A] in the robot's units for 1 / rate seconds; an Outcome when the episode has ended.

        UsageError for an action of another shape, and for NaN and infinity.
        """
        ...

    def render(self) -> Image:
        """An image for people, uint8 [h, w, 3]; sides are even numbers, as video wants them."""
        ...

    def close(self) -> None:
        """Free what the environment holds."""
        return


@dataclass(frozen=True)
class Demonstration:
    """An episode that an environment's own expert played: how it began and ended, and in how many steps."""

    info: EpisodeInfo
    steps: int
    outcome: Outcome


class ExpertEnvironment(Environment, Protocol):
    """An environment with an expert of its own, which sees the state of the simulation. Callers ask `has_expert`."""

    has_expert: bool

    def demonstrate(self, seed: int, *, instruction: str | None = None) -> Demonstration:
        """The expert plays the episode that `reset(seed, instruction=...)` begins. No image is drawn."""
        ...


class EnvironmentFactory(Protocol):
    """What a name in the group `smolpilot.environments` stands for: a function or class whose keyword arguments are the
    environment's settings, with annotations by which text is read; those without a default have to be given."""

    def __call__(self, **settings: Any) -> Environment: ...
