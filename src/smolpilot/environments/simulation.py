"""A simulation as an Environment, whether it runs in this process, in another, or in another interpreter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

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
    make_observation,
)
from smolpilot.robots import RobotProfile

from .actions import checked_action
from .simulators.worker import demonstrate, draws, run
from .worker_process import WorkerProcess, state_and_images

type Floats = npt.NDArray[np.float32]
type Images = Literal["always", "running", "never"]
type Played = tuple[Mapping[str, Any], int, Mapping[str, Any]]  # how an episode began, its steps, how it ended
type Seen = tuple[Floats, Mapping[str, Image]]  # the state [S], and an image [h, w, 3] of each camera that was drawn


class Simulation(Protocol):
    """What the files of `simulators` are: episodes without smolpilot's types.

    They raise ValueError(found, expected, fix) for what the user can put right. `facts`: rate, max_steps, goal, labels,
    cameras (name -> [h, w]); `instructions`, where its scenes have their own; `action_range` and `rest` where
    EnvironmentSpec is to have them; for the record `render`, `physics` and `packages`; `expert`: whether it has one, by
    `expert()`, whose `action()` is the next one; `weak_expert`, where it often fails though all is as it should be.
    """

    facts: dict[str, Any]

    def reset(self, seed: int) -> Mapping[str, Any]: ...
    def act(self, action: Any) -> Mapping[str, Any] | None: ...
    def observe(self, *, images: bool = True) -> Seen: ...
    def render(self) -> Image: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class Run:
    """What a number of actions led to: how many were executed, what is seen then, and how the episode ended, if so."""

    steps: int
    seen: Seen
    outcome: Mapping[str, Any] | None
    frames: list[Image] = field(default_factory=list)  # a view for people after each step, where asked for


@dataclass(frozen=True)
class Advance:
    """The same in the contract's types; the observation holds the images that were drawn."""

    steps: int
    observation: Observation
    outcome: Outcome | None
    frames: list[Image]


@contextmanager
def told() -> Iterator[None]:
    """What a simulation says that the user can put right, as a UsageError."""
    try:
        yield
    except ValueError as error:
        if len(error.args) != 3 or not all(isinstance(part, str) for part in error.args):
            raise
        found, expected, fix = error.args
        raise UsageError(found, expected=expected, fix=fix) from error


class LocalSimulation:
    """One that runs in this process."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation, self.facts = simulation, simulation.facts

    def reset(self, seed: int, instruction: str | None, images: Images = "always") -> tuple[Mapping[str, Any], Seen]:
        more = {} if instruction is None else {"instruction": instruction}
        with told():
            return self._simulation.reset(seed, **more), self._simulation.observe(images=draws(images, ended=False))

    def demonstrate(self, seed: int, instruction: str | None) -> Played:
        with told():
            return demonstrate(self._simulation, seed, instruction)

    def run(self, actions: Floats, images: Images, frames: bool) -> Run:
        with told():
            steps, outcome, shown = run(self._simulation, actions, frames=frames)
            seen = self._simulation.observe(images=draws(images, outcome is not None))
        return Run(steps, seen, outcome, shown)

    def render(self) -> Image:
        with told():
            return self._simulation.render()

    def close(self) -> None:
        self._simulation.close()


class RemoteSimulation:
    """One that runs in a worker; several may share it, each in its slot."""

    def __init__(self, worker: WorkerProcess, slot: int, name: str, settings: Mapping[str, Any]) -> None:
        self.worker, self._slot = worker, slot
        header, _ = worker.ask("make", slot=slot, name=name, settings=dict(settings))
        self.facts: dict[str, Any] = header["facts"]

    def reset(self, seed: int, instruction: str | None, images: Images = "always") -> tuple[Mapping[str, Any], Seen]:
        header, arrays = self.worker.ask("reset", slot=self._slot, seed=seed, instruction=instruction, images=images)
        return header["info"], state_and_images(arrays)

    def demonstrate(self, seed: int, instruction: str | None) -> Played:
        header, _ = self.worker.ask("demonstrate", slot=self._slot, seed=seed, instruction=instruction)
        return header["info"], header["steps"], header["outcome"]

    def run(self, actions: Floats, images: Images, frames: bool) -> Run:
        header, arrays = self.worker.ask(
            "act", {"actions": np.asarray(actions)}, slot=self._slot, images=images, frames=frames
        )
        return Run(header["steps"], state_and_images(arrays), header["outcome"], [*arrays.get("frames", ())])

    def render(self) -> Image:
        frame: Image = self.worker.ask("render", slot=self._slot)[1]["frame"]
        return frame

    def close(self) -> None:
        """Close the simulation; the worker goes on with its other slots."""
        self.worker.ask("close", slot=self._slot)


class SimulatedEnvironment(Environment):
    """A simulation behind the contract. Actions pass as they are: no scaling and no clipping."""

    def __init__(self, simulation: LocalSimulation | RemoteSimulation, spec: EnvironmentSpec) -> None:
        """spec: what an episode's info leaves out is the spec's only instruction."""
        self.simulation, self._spec = simulation, spec
        self._instruction = ""
        self._begun = False

    @property
    def spec(self) -> EnvironmentSpec:
        return self._spec

    @property
    def facts(self) -> Mapping[str, Any]:
        """How it is drawn and computed, and with which packages: part of every record of what was done in it."""
        return self.simulation.facts

    @property
    def has_expert(self) -> bool:
        """Whether `demonstrate` has anybody to play."""
        return bool(self.simulation.facts.get("expert"))

    def reset(
        self, seed: int, *, instruction: str | None = None, images: Images = "always"
    ) -> tuple[Observation, EpisodeInfo]:
        """The start of an episode; `images`: whether they are drawn."""
        info, seen = self.simulation.reset(seed, self._asked(instruction), images)
        self._begun = True
        found = self._info(info)
        self._instruction = found.instruction
        return self._observation(seen), found

    def demonstrate(self, seed: int, *, instruction: str | None = None) -> Demonstration:
        """An episode of the simulation's expert, where it has one; no image is drawn."""
        info, steps, outcome = self.simulation.demonstrate(seed, self._asked(instruction))
        self._begun = False
        return Demonstration(self._info(info), steps, _outcome(outcome))

    def _asked(self, instruction: str | None) -> str | None:
        """The instruction as the simulation is told it; UsageError for one that is not among those of the spec."""
        if len(self._spec.instructions) == 1:
            if instruction not in (None, *self._spec.instructions):
                raise UsageError(
                    f"The environment {self._spec.name} has no instruction {shown(instruction)}.",
                    expected=f"'{self._spec.instructions[0]}': the only one",
                )
            return None  # the simulation knows of none
        return instruction

    def _info(self, info: Mapping[str, Any]) -> EpisodeInfo:
        said = info.get("instruction") or self._spec.instructions[0]
        return EpisodeInfo(said, dict(info.get("groups", {})), tuple(info.get("alternatives", ())))

    def step(self, action: npt.ArrayLike) -> tuple[Observation, Outcome | None]:
        found = self.run(checked_action(action, len(self._spec.profile.action_joints))[None])
        return found.observation, found.outcome

    def run(self, actions: npt.NDArray[np.floating], *, images: Images = "always", frames: bool = False) -> Advance:
        """Actions [k, A] one after the other until the episode ends. images: whether to draw those of the last step,
        for a policy that plans on them; `running`: unless the episode has ended. frames: a view for people, each step.
        """
        if not self._begun:
            raise UsageError("The environment has no episode yet.", fix="call reset() before step()")
        found = self.simulation.run(np.asarray(actions, np.float32), images, frames)
        outcome = None if found.outcome is None else _outcome(found.outcome)
        return Advance(found.steps, self._observation(found.seen), outcome, found.frames)

    def render(self) -> Image:
        return self.simulation.render()

    def close(self) -> None:
        self.simulation.close()

    def _observation(self, seen: Seen) -> Observation:
        state, images = seen
        return make_observation(state, images, self._instruction)


def _outcome(found: Mapping[str, Any]) -> Outcome:
    """How an episode ended, in the contract's types. A text for `reached` stays one: whoever plays refuses it."""
    reached = found.get("reached", ())
    return Outcome(**{**found, "reached": reached if isinstance(reached, str) else tuple(reached)})


def spec_of(
    name: str, profile: RobotProfile, facts: Mapping[str, Any], instruction: str | None = None
) -> EnvironmentSpec:
    """The spec of a simulation with its own instructions, where it has any; else with one, by default the profile's."""
    said = facts.get("instructions") or [instruction or profile.default_instruction]
    if said == [None]:
        raise UsageError(f"The robot profile '{profile.name}' has no default instruction.", fix="give instruction=TEXT")
    return EnvironmentSpec(
        name=name, profile=profile, rate=facts["rate"], goal=facts["goal"], max_steps=facts["max_steps"],
        instructions=tuple(said), labels=facts["labels"],
        action_range=tuple((low, high) for low, high in facts.get("action_range", ())),
        rest=tuple(facts.get("rest", ())),
    )  # fmt: skip
