"""How a policy does on one task of a sequence: action error on held-out episodes, success in an environment."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from smolpilot.common.errors import UsageError, errors_of
from smolpilot.common.statistics import Statistics
from smolpilot.contracts import Embodiment, Policy, PolicyOptions, PolicySpec
from smolpilot.datasets.splits import episode_ranges
from smolpilot.evaluation import evaluate, rollout
from smolpilot.robots import RobotProfile
from smolpilot.robots.layout import map_layout
from smolpilot.training.data.run_datasets import RunDataset
from smolpilot.training.run.validation import in_one_number

from .plan import Plan, Scoring, Simulation, Stage

if TYPE_CHECKING:
    from smolpilot.evaluation import Predictions

Floats = npt.NDArray[np.float64]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class TaskScore:
    """One task after one stage.

    `mae` [K, A] (robot units) and `error` [K] (one number, in `unit`) of the K held-out `episodes`; `success` of each
    simulated episode.
    """

    name: str
    episodes: list[int]
    mae: Floats
    error: Floats
    unit: str
    joints: list[str]
    joint_units: list[str]
    success: Sequence[int] | None

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {**vars(self), "error": self.error.tolist(), "mae": self.mae.tolist()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TaskScore:
        """What `to_json` gave."""
        arrays = {key: np.array(values[key], dtype=np.float64) for key in ("error", "mae")}
        return cls(**{**values, **arrays})


@dataclass(frozen=True)
class Scale:
    """The robot and the statistics by which errors become one number: those of the sequence, for every policy."""

    profile: RobotProfile
    statistics: Statistics


def score_task(
    policy: Policy,
    part: RunDataset,
    scoring: Scoring,
    simulation: Simulation | None,
    scale: Scale,
    *,
    seed: int,
    units: dict[str, str] | None = None,
    progress: Progress | None = None,
) -> TaskScore:
    """Score `policy` on the held-out episodes of a task; every episode counts the same, whatever its length.

    simulation: as `simulation_of` gives it. units: as `evaluate` takes them, for a policy that was not trained here.
    """
    assert part.held_out is not None
    scored = evaluate(
        policy, part.held_out, episode_ranges(part.held_out.episodes), max_frames=scoring.frames, seed=seed,
        batch_size=32, latency=False, units=units, progress=progress,
    ).scored  # fmt: skip
    errors = scored.errors_by_episode()
    places = _places(scored, scale.profile, policy.spec)
    mae = np.stack([one.mae[places] for one in errors.values()])
    numbers = [in_one_number(scale.profile, scale.statistics, own) for own in mae]
    success = None
    if simulation is not None:
        from smolpilot.environments import environment_factory

        assert simulation.env is not None
        runs = rollout(
            policy, environment_factory(simulation.env, simulation.settings), episodes=simulation.episodes,
            seed=simulation.seed, settings=simulation.settings, instruction=simulation.instruction, progress=progress,
        ).runs  # fmt: skip
        success = [int(run.success) for run in runs]
    return TaskScore(
        part.title, list(errors), mae, np.array([number for number, _ in numbers]),
        numbers[0][1], [scored.joints[place] for place in places], [scored.units[place] for place in places], success,
    )  # fmt: skip


def simulation_of(stage: Stage, part: RunDataset) -> Simulation | None:
    """Where success at a task is counted, complete: as the stage says, else where the dataset was recorded.

    UsageError for a stage that asks for a simulation without naming it, of a dataset that no environment knows.
    """
    if stage.simulation is False:
        return None
    from smolpilot.environments.of_datasets import environment_of

    asked, found = stage.simulation, environment_of(part.meta.robot_type, part.recorded)
    if asked is None and found is None:
        return None
    asked = asked or Simulation()
    if asked.env is None and found is None:
        raise UsageError(
            f"Stage {stage.name}: its simulation names no environment, and none says that {stage.dataset} was recorded "
            "in it.",
            fix="name one: simulation: {env: NAME} (smolpilot plugins lists them), or simulation: false",
        )
    name, settings = found if found is not None else (asked.env, {})
    if asked.env not in (None, name):
        name, settings = asked.env, {}
    said = asked.instruction or part.source.instruction
    return dataclasses.replace(asked, env=name, settings={**settings, **asked.settings}, instruction=said)


def check_simulation(stage: Stage, part: RunDataset, profile: RobotProfile) -> None:
    """UsageError where a stage's environment cannot be made, has other settings or another robot than the stages."""
    simulation = simulation_of(stage, part)
    if simulation is None:
        return
    from smolpilot.environments import make_environment
    from smolpilot.evaluation.rollout.checked_environment import close_environment
    from smolpilot.evaluation.rollout.fit import check_fit

    assert simulation.env is not None
    state, action = len(profile.state_joints), len(profile.action_joints)
    trained = PolicySpec("of the stages", state, action, chunk_size=1, n_action_steps=1, profile=profile)
    with errors_of(f"Stage {stage.name}", UsageError):
        world = make_environment(simulation.env, simulation.settings)
        try:
            check_fit(trained, world.spec)
        finally:
            close_environment(world)


def open_reference(name: str, part: RunDataset, scale: Scale, device: str) -> Policy:
    """A policy that stages are compared with, opened for the robot of the sequence and a task's cameras."""
    from smolpilot.policies import open_policy

    profile, meta = scale.profile, part.meta
    state, action = (
        tuple(names[place] for place in mapping.order)  # as the dataset spells them, in the profile's order
        for names, mapping in zip((meta.state_names, meta.action_names), map_layout(part.layout, profile), strict=True)
    )
    embodiment = Embodiment(
        owner="the dataset",
        cameras=tuple(meta.camera_names),
        state_names=state,
        action_names=action,
        profile=profile,
        rate=meta.fps,
        statistics=scale.statistics,
        instructions=tuple(part.whole.instructions),
    )
    return open_policy(name, PolicyOptions(device=device), embodiment)


def check_references(plan: Plan, part: RunDataset, scale: Scale) -> None:
    """Open and close each policy of `evaluation.against`: that one cannot be opened is no news for after training."""
    for name in plan.evaluation.against:
        with errors_of(f"evaluation.against, {name}", UsageError):
            open_reference(name, part, scale, "cpu").close()


def _places(scored: Predictions, profile: RobotProfile, spec: PolicySpec) -> list[int]:
    """Where the joints of the sequence's robot stand in what was scored; UsageError where they are others."""
    names = [joint.name for joint in profile.action_joints]
    if len(scored.joints) != len(names):
        raise UsageError(f"The policy {spec.name} has {len(scored.joints)} joints, the stages' robot {len(names)}.")
    if set(scored.joints) != set(names):
        return list(range(len(names)))  # other spellings, or none: by their places
    return [scored.joints.index(name) for name in names]
