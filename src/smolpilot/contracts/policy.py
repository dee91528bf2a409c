"""Policy: observations in, chunks of actions in the robot's units out. What every policy says of itself, and does."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from smolpilot.common.errors import UsageError
from smolpilot.common.statistics import Statistics
from smolpilot.common.text import shown

from .observation import Floats, Observation
from .spec_check import SpecCheck, is_rate

if TYPE_CHECKING:
    from smolpilot.robots import RobotProfile
    from smolpilot.robots.demonstrated import Demonstrated

# What a policy may be able to do beside `predict`; callers ask `spec.capabilities`.
TWO_STAGE = "two-stage"  # begin(images, instruction), then finish(state): see TwoStagePolicy
GUIDED = "guided"  # predict(..., previous=) pulls the new chunk towards what is left of the last one
TIMED = "timed"  # last_ms: milliseconds of the newest prediction by stage
TOKENS = "tokens"  # an instruction has limited room: see TokenizedPolicy
# Not set: the same observation gives the same chunk, whatever the seed.
RANDOM = "random"

type EngineMode = Literal["plain", "exact", "fast", "int8"]


class UntrainedInstructionWarning(UserWarning):
    """An instruction differs from all the policy was trained with; rewording alone has cost whole tasks."""


@dataclass(frozen=True)
class PolicyFacts:
    """Where a policy comes from and what computes it, for reports; what is not known stays open."""

    source: str = ""  # path, hub id or name that it was opened by
    kind: str = ""  # smolvla, act, onnx, baseline ...
    device: str = "cpu"
    precision: str = ""
    parameters: int = 0
    memory_bytes: int = 0
    load_seconds: float = 0.0
    engine: str | None = None  # the engine's mode
    num_steps: int | None = None  # denoising steps
    camera_map: Mapping[str, str | None] = field(default_factory=dict)  # robot camera -> slot, None: left out
    lineage: Mapping[str, Any] = field(default_factory=dict)  # what it was trained on
    notes: tuple[str, ...] = ()  # what was decided when it was opened, a sentence each
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class PolicySpec:
    """What a policy is, as it stands now.

    S `state_dim` and A `action_dim` values in the order and units of `profile`; without a profile in the order of the
    dataset that it was trained on. `action_names`, `action_units` [A] are empty where nobody knows. `cameras`: the
    robot's cameras that it reads. `n_action_steps`: how many actions of a chunk it wants executed before planning
    again. `instructions`: those it was trained with, empty: any. `rate`: actions per second that it was trained at.
    `n_obs_steps`: how many observations it reads, one step apart; with more than one, callers give those before the
    newest as its `history` (contracts.History). `image_sizes`: camera -> (height, width) that it was trained with.
    `statistics`: of `observation.state` and `action` in training, in robot units; empty where unknown.
    `demonstrated`: how fast the joints were moved in training, and where episodes began; None where unknown.
    """

    name: str
    state_dim: int
    action_dim: int
    chunk_size: int
    n_action_steps: int
    cameras: tuple[str, ...] = ()
    profile: RobotProfile | None = None
    action_names: tuple[str, ...] = ()
    action_units: tuple[str, ...] = ()
    instructions: tuple[str, ...] = ()
    rate: float | None = None
    n_obs_steps: int = 1
    image_sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    statistics: Statistics = field(default_factory=dict)
    capabilities: frozenset[str] = frozenset()
    facts: PolicyFacts = field(default_factory=PolicyFacts)
    demonstrated: Demonstrated | None = None

    def __post_init__(self) -> None:
        """SmolpilotError for what no policy can be: whoever reads a spec may rely on it."""
        check = SpecCheck(f"PolicySpec {shown(self.name)}")
        check.that("name", self.name, isinstance(self.name, str) and bool(self.name), "a text")
        check.whole("state_dim", self.state_dim, 0)
        for name in ("action_dim", "chunk_size", "n_action_steps", "n_obs_steps"):
            check.whole(name, getattr(self, name), 1)
        check.that("n_action_steps", self.n_action_steps, self.n_action_steps <= self.chunk_size,
                   f"1 to {self.chunk_size}, the chunk_size")  # fmt: skip
        for name in ("cameras", "action_names", "action_units", "instructions"):
            check.texts(name, getattr(self, name))
        for name in ("action_names", "action_units"):
            found = getattr(self, name)
            check.that(
                name, found, len(found) in (0, self.action_dim), f"{self.action_dim} of them (action_dim), or none"
            )
        check.that("rate", self.rate, self.rate is None or is_rate(self.rate), "actions per second, above 0, or None")
        check.that("facts", self.facts, isinstance(self.facts, PolicyFacts), "a PolicyFacts")
        check.texts("capabilities", self.capabilities)


@dataclass(frozen=True)
class Leftover:
    """What was not executed of the last chunk, [L, A] in robot units: the new chunk goes on from it.

    `delay`: steps of it that are executed while the new chunk is computed. `horizon`: the step at which its pull ends,
    default L. `schedule`: how the pull falls in between; `max_gain` bounds it (None: the policy's own).
    """

    actions: Floats
    delay: int = 0
    horizon: int | None = None
    schedule: str = "linear"
    max_gain: float | None = None


@runtime_checkable
class Policy(Protocol):
    """SmolVLA, plain or by the engine, LeRobot's ACT, an ONNX export, a baseline, one of yours.

    A class that inherits from this one need only give `spec` and `predict`.
    """

    if TYPE_CHECKING:
        # A plain attribute will do: at run time nothing is in the way of `self.spec = ...`.
        @property
        def spec(self) -> PolicySpec: ...

    def predict(
        self,
        observations: Sequence[Observation],
        *,
        seeds: Sequence[int] | None = None,
        previous: Leftover | None = None,
    ) -> Floats:
        """A chunk for each observation, float32 [B, H, A] in the robot's units; NaN never leaves a policy.

        seeds: one for each observation, which fixes what is drawn at random; what is drawn is the policy's business.
        previous: only with GUIDED, for one observation. Raises TransformError for an observation that does not fit,
        NotFiniteError instead of a chunk that is not finite.
        """
        ...

    def reset(self) -> None:
        """Forget what an episode left behind; called at the start of each."""
        return

    def close(self) -> None:
        """Free what the policy holds; it is not used afterwards."""
        return


class TwoStagePolicy(Policy, Protocol):
    """TWO_STAGE: the images are worked on before the state is read, which may then be a chunk's computation newer."""

    def begin(self, images: Mapping[str, Any], instruction: str | None = None) -> int:
        """Start on a chunk; a ticket for `finish`. images: camera -> image, or a whole observation."""
        ...

    def finish(
        self, state: Any, *, ticket: int | None = None, seed: int | None = None, previous: Leftover | None = None
    ) -> Any:
        """The chunk [H, A] of what was begun, from the newest state [S]."""
        ...


class TimedPolicy(Policy, Protocol):
    """TIMED: how long the stages of the newest prediction took."""

    @property
    def last_ms(self) -> Mapping[str, float]:
        """Milliseconds by stage; `transforms` and `total` among them."""
        ...


class TokenizedPolicy(Policy, Protocol):
    """TOKENS: it reads an instruction as tokens, up to a number of them."""

    def token_room(self, instruction: str) -> tuple[int, int]:
        """How many tokens an instruction has, and how many there is room for. TransformError for an empty one."""
        ...


@dataclass(frozen=True)
class Embodiment:
    """What a policy is opened for: the robot, environment or dataset that it will be run on.

    `owner` names it in messages ("the dataset", "the environment pusht"). Policies that bring no robot of their own
    (baselines, LeRobot's) take joints, cameras and statistics from here. `max_steps`: after how many steps an episode
    has ended, None where nobody knows. `action_range`, `rest`: as EnvironmentSpec has them.
    """

    owner: str
    cameras: tuple[str, ...] = ()
    state_names: tuple[str, ...] = ()
    action_names: tuple[str, ...] = ()
    profile: RobotProfile | None = None
    rate: float | None = None
    statistics: Statistics = field(default_factory=dict)
    instructions: tuple[str, ...] = ()
    max_steps: int | None = None
    action_range: tuple[tuple[float, float], ...] = ()
    rest: tuple[float, ...] = ()


@dataclass(frozen=True)
class PolicyOptions:
    """What a user may ask for when a policy is opened; a policy refuses what it has not (`only`)."""

    device: str = "auto"
    engine: EngineMode = "plain"
    camera_map: Mapping[str, str | None] = field(default_factory=dict)
    stats_from: Path | None = None
    tokenizer: Path | None = None
    num_steps: int | None = None
    untrained: int | None = None  # the seed of random weights
    calibration: Callable[[Policy], Sequence[Observation]] | None = None  # frames for the engine's int8

    def only(self, what: str, *known: str) -> None:
        """UsageError when an option beside `known` is set: `what` (such as "an ACT policy") does not have it."""
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if value != getattr(_UNSET, item.name) and item.name not in known:
                flag = f"--{_FLAGS.get(item.name, item.name).replace('_', '-')}"
                raise UsageError(f"{flag} is given, but {what} has no such option.", fix=f"leave {flag} out")


_UNSET = PolicyOptions()
_FLAGS = {"stats_from": "policy-stats-from"}  # what the command line calls otherwise


class PolicyFactory(Protocol):
    """What a name in the group `smolpilot.policies` stands for: a function, or a class whose __init__ takes this.

    `source` is what follows the name, as in `NAME:SOURCE` (empty without). `embodiment` is None where nothing is known
    yet about what the policy will drive.
    """

    def __call__(self, source: str, options: PolicyOptions, embodiment: Embodiment | None) -> Policy: ...
