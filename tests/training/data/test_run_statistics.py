"""The one scale of all stages: the datasets' own, the parent's, or both together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from smolpilot.common.errors import TrainingError, UsageError
from smolpilot.common.statistics import Statistics
from smolpilot.datasets import DatasetWriter, open_dataset
from smolpilot.smolvla import new_policy, save_bundle
from smolpilot.training import TrainOptions
from smolpilot.training.stages.plan import Plan, load_plan
from smolpilot.training.stages.sequence_paths import SequencePaths
from smolpilot.training.stages.stage_options import open_stages, shared_statistics, stage_options

JOINTS = ["pan", "lift"]


def write(path: Path, middle: float, *, episodes: int = 2, camera: str = "front", size: int = 32) -> Path:
    with DatasetWriter(path, fps=10, state_names=JOINTS, action_names=JOINTS, cameras={camera: (size, size)},
                       robot_type="arm") as to:  # fmt: skip
        for episode in range(episodes):
            for frame in range(12):
                values = middle + np.sin(frame / 2 + episode + np.arange(2)).astype(np.float32)
                picture = np.full((size, size, 3), 20 * frame, np.uint8)
                to.add_frame({"observation.state": values, "action": values, f"observation.images.{camera}": picture,
                              "task": path.name})  # fmt: skip
            to.end_episode()
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Datasets around 0, 1 and 30, and a policy for one around 2."""
    root = tmp_path_factory.mktemp("scales")
    for name, middle in (("red", 0.0), ("blue", 1.0), ("far", 30.0), ("old", 2.0)):
        write(root / name, middle)
    write(root / "short", 0.0, episodes=1)
    save_bundle(new_policy("tiny", meta=open_dataset(root / "old").meta, device="cpu"), root / "parent")
    return root


def plan_of(place: Path, *names: str) -> Plan:
    stages = "".join(f"  - {{name: {name}, dataset: {place / name}, steps: 1}}\n" for name in names)
    (place / "stages.yaml").write_text(f"stages:\n{stages}")
    return load_plan(place / "stages.yaml")


def settled(place: Path, *names: str, **options: object) -> tuple[Statistics, str, list[str]]:
    plan = plan_of(place, *names)
    defaults = TrainOptions(held_out=0.5, **options)  # type: ignore[arg-type]
    opened = open_stages(plan, defaults, SequencePaths(place / "run"))
    statistics, origin = shared_statistics(opened)
    return statistics, origin, opened.notes


def mean(statistics: Statistics) -> float:
    return float(statistics["action"]["mean"].mean())


def test_without_a_parent_the_datasets_together(place: Path) -> None:
    statistics, origin, _ = settled(place, "red", "blue")
    assert origin == "the datasets of all 2 stages together"
    one, two = (open_dataset(place / name).actions for name in ("red", "blue"))
    np.testing.assert_allclose(statistics["action"]["mean"], np.concatenate([one, two]).mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(statistics["action"]["std"], np.concatenate([one, two]).std(axis=0), atol=1e-5)


def test_with_a_parent_of_the_same_joints_its_own(place: Path) -> None:
    parent = str(place / "parent")
    statistics, origin, notes = settled(place, "red", "blue", policy=parent)
    own = open_dataset(place / "old").actions
    np.testing.assert_allclose(statistics["action"]["mean"], own.mean(axis=0), atol=1e-5)
    assert origin == f"those of {parent}"
    # Every stage is compared, and named.
    assert {note.partition(":")[0] for note in notes if "the dataset's mean lies" in note} == {"red", "blue"}


def test_the_datasets_or_both_on_request(place: Path) -> None:
    parent = str(place / "parent")
    apart, _, _ = settled(place, "red", "blue", policy=parent, norm_stats="dataset")
    assert mean(apart) == pytest.approx(mean(settled(place, "red", "blue")[0]))
    both, origin, _ = settled(place, "red", "blue", policy=parent, norm_stats="merged")
    assert origin == "the parent's and the datasets of all 2 stages together"
    assert mean(apart) < mean(both) < mean(settled(place, "red", policy=parent)[0])


def test_a_later_stage_far_from_the_parent_stops_the_command_by_its_name(place: Path) -> None:
    with pytest.raises(TrainingError, match=r"Stage far: .*differs too much from the parent's statistics"):
        settled(place, "red", "far", "blue", policy=str(place / "parent"))
    # Asked for by name, it is a warning.
    notes = settled(place, "red", "far", policy=str(place / "parent"), norm_stats="parent")[2]
    assert any(note.startswith("far: WARNING: far from the parent's statistics") for note in notes)


def test_a_stage_that_holds_nothing_out_is_refused(place: Path) -> None:
    with pytest.raises(UsageError, match="Stage short holds no episode out"):
        settled(place, "red", "short")


def test_a_later_stage_of_other_cameras_is_refused(place: Path) -> None:
    for name, other in (("side", {"camera": "side"}), ("large", {"size": 48})):
        if not (place / name).exists():
            write(place / name, 0.0, **other)
    with pytest.raises(UsageError, match=r"side has the cameras side, .* has front"):
        settled(place, "red", "blue", "side")
    with pytest.raises(UsageError, match=r"Camera '.*front' is 48x48 in .*large, 32x32 in"):
        settled(place, "red", "blue", "large")


def test_each_try_of_a_stage_is_longer_and_slower(place: Path, tmp_path: Path) -> None:
    text = (
        f"stages:\n  - {{name: red, dataset: {place / 'red'}, steps: 10, lr: 0.01}}\n"
        f"  - {{name: blue, dataset: {place / 'blue'}, steps: 10, lr: 0.01, replay: [0.25, 0.75],\n"
        "     gate: {new: 0.1, retries: 2, retry_lr: 0.5, retry_steps: 1.5}}\n"
    )
    (place / "tries.yaml").write_text(text)
    plan, defaults = load_plan(place / "tries.yaml"), TrainOptions(held_out=0.5, preset="tiny", from_scratch=True)
    opened = open_stages(plan, defaults, SequencePaths(tmp_path))
    tries = [stage_options(opened, 2, attempt) for attempt in (1, 2, 3)]
    assert [one.steps for one in tries] == [10, 15, round(22.5)]
    assert [one.lr for one in tries] == pytest.approx([0.01, 0.005, 0.0025])
    first = stage_options(opened, 1, 3)
    assert (first.steps, first.lr) == (10, 0.01), "a stage without a gate is not tried again"
    # Its own dataset first, then what it replays.
    assert [(one.dataset.name, one.weight) for one in tries[0].mixture] == [("blue", 0.75), ("red", 0.25)]
