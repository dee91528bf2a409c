"""What a merge says of the simulation that its parts were recorded in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smolpilot.common.errors import DatasetError
from smolpilot.datasets import DatasetWriter, read_meta
from smolpilot.datasets.edit import merge
from smolpilot.datasets.simulation_record import SimulationRecord

DRAWN = {"render": {"shadows": False}, "physics": {"mujoco": "3.3.0"}, "packages": {}}


def recorded(path: Path, simulation: SimulationRecord | None) -> Path:
    """A dataset of two episodes."""
    with DatasetWriter(path, fps=10, state_names=["a"], action_names=["a"], cameras={}, robot_type="arm") as writer:
        for _ in range(2):
            for step in range(3):
                value = np.array([step], np.float32)
                writer.add_frame({"observation.state": value, "action": value, "task": path.name})
            writer.end_episode()
        if simulation is not None:
            writer.add_note(simulation.FILE, json.dumps(simulation.document()))
    return path


def of_task(task: str, **more: Any) -> SimulationRecord:
    settings = {"task": task, "width": 32}
    return SimulationRecord(
        env="world", settings=settings, simulation=DRAWN, seeds=[3, 4], successes=[True] * 2, **more
    )


def merged(folder: Path, *parts: SimulationRecord | None) -> SimulationRecord | None:
    sources = [read_meta(recorded(folder / f"part_{number}", part)) for number, part in enumerate(parts)]
    merge(sources, folder / "all")
    return SimulationRecord.of(folder / "all")


def test_parts_of_one_task_keep_how_their_episodes_begin(tmp_path: Path) -> None:
    found = merged(tmp_path, of_task("reach", noise=0.1), of_task("reach"))
    assert found is not None
    assert (found.settings, found.seeds) == ({"task": "reach", "width": 32}, [3, 4, 3, 4])
    assert (found.successes, found.noise) == ([True] * 4, 0.1)


def test_parts_of_several_tasks_keep_how_they_were_drawn(tmp_path: Path) -> None:
    """Not the first one's task and seeds, which are not those of all."""
    found = merged(tmp_path, of_task("reach"), of_task("push"))
    assert found is not None
    assert (found.env, found.settings, found.simulation) == ("world", {"width": 32}, DRAWN)
    assert (found.seeds, found.successes) == ([], [])


@pytest.mark.parametrize("simulated_first", [True, False])
def test_a_part_that_is_no_simulation_leaves_no_seeds(simulated_first: bool, tmp_path: Path) -> None:
    parts = (of_task("reach"), None) if simulated_first else (None, of_task("reach"))
    found = merged(tmp_path, *parts)
    assert found is not None
    assert (found.simulation, found.seeds) == (DRAWN, [])


def test_no_simulation_leaves_no_record(tmp_path: Path) -> None:
    assert merged(tmp_path, None, None) is None
    assert not SimulationRecord.path(tmp_path / "all").exists()


def test_parts_that_were_drawn_otherwise_are_refused(tmp_path: Path) -> None:
    """A policy would learn from both, and no rollout could tell."""
    lit = SimulationRecord(env="world", simulation={**DRAWN, "render": {"shadows": True}})
    with pytest.raises(DatasetError, match="part_0 was recorded with shadows false, part_1 with shadows true"):
        merged(tmp_path, of_task("reach"), lit)
    assert not (tmp_path / "all").exists()
