"""How a policy does on one task of a sequence: action error on held-out episodes, success in a simulation."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from smolpilot.datasets.splits import episode_ranges
from smolpilot.evaluation import evaluate, rollout
from smolpilot.metrics import chunk_errors
from smolpilot.policy import Policy
from smolpilot.simulation.colours import COLOURS, DEFAULT_COLOURS
from smolpilot.training.parts import Part
from smolpilot.training.validation import in_one_number

from .plan import Scoring, Simulation, Stage

Floats = npt.NDArray[np.float64]
Progress = Callable[[str, int, int], None]
_COLOUR = re.compile(r"touch the (\w+) block")


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
    success: list[bool] | None

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "name": self.name,
            "episodes": self.episodes,
            "unit": self.unit,
            "error": self.error.tolist(),
            "joints": self.joints,
            "joint_units": self.joint_units,
            "mae": self.mae.tolist(),
            "success": None if self.success is None else [int(one) for one in self.success],
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TaskScore:
        """What `to_json` gave."""
        arrays = {key: np.array(values[key], dtype=np.float64) for key in ("error", "mae")}
        return cls(**{**values, **arrays})


def score_task(
    policy: Policy,
    part: Part,
    scoring: Scoring,
    simulation: Simulation | None,
    *,
    seed: int,
    progress: Progress | None = None,
) -> TaskScore:
    """Score `policy` on the held-out episodes of a task; every episode counts the same, whatever its length."""
    assert part.held_out is not None
    scored = evaluate(
        policy, part.held_out, episode_ranges(part.held_out.episodes), max_frames=scoring.frames, seed=seed,
        batch_size=32, latency=False, progress=progress,
    ).scored  # fmt: skip
    episodes = np.unique(scored.episode_index)
    mae = np.stack(
        [
            chunk_errors(scored.predicted[rows], scored.target[rows], scored.is_pad[rows]).mae
            for rows in (scored.episode_index == episode for episode in episodes)
        ]
    )
    numbers = [in_one_number(policy, own) for own in mae]
    success = None
    if simulation is not None:
        settings: dict[str, Any] = {"colours": simulation.colours} if simulation.colours else {}
        if simulation.target is not None:
            settings["target"] = simulation.target
        runs = rollout(
            policy, simulation.env, episodes=simulation.episodes, seed=simulation.seed, env_settings=settings,
            instruction=part.source.instruction, progress=progress,
        ).runs  # fmt: skip
        success = [run.success for run in runs]
    return TaskScore(
        part.title, [int(episode) for episode in episodes], mae, np.array([number for number, _ in numbers]),
        numbers[0][1], scored.joints, scored.units, success,
    )  # fmt: skip


def simulation_of(stage: Stage, part: Part) -> Simulation | None:
    """Where success at a task is counted: as the stage says, else the tabletop for its own recordings of one block."""
    if stage.simulation is False:
        return None
    recorded = [match[1] for text in part.recorded if (match := _COLOUR.fullmatch(text)) and match[1] in COLOURS]
    target = recorded[0] if len(recorded) == len(part.recorded) == 1 else None
    if stage.simulation is not None:
        return _with_target(stage.simulation, stage.simulation.target or target)
    if part.meta.robot_type != "tabletop" or target is None:
        return None
    return _with_target(Simulation(), target)


def _with_target(simulation: Simulation, target: str | None) -> Simulation:
    colours = simulation.colours or tuple(dict.fromkeys([*DEFAULT_COLOURS, *([target] if target else [])]))
    return Simulation(simulation.env, target, colours, simulation.episodes, simulation.seed)
