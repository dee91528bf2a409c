"""Fine-tuning: whose statistics, which cameras, which units; and everything that must be refused."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smolpilot.common.errors import ProfileError, TrainingError, UsageError
from smolpilot.datasets import DatasetMeta, DatasetWriter, open_dataset
from smolpilot.datasets.read.joint_units import derive_profile, find_profile
from smolpilot.evaluation.offline.dataset_adapter import adapt
from smolpilot.robots import CameraProfile, Joint, RobotProfile
from smolpilot.smolvla import load_policy
from smolpilot.training import TrainOptions, train
from smolpilot.training.options.train_options import resolve
from smolpilot.training.run.setup import Prepared, prepare

JOINTS = ["pan", "lift"]


def record(path: Path, *, shift: float = 0.0, scale: float = 1.0, cameras: tuple[str, ...] = ("front",)) -> Path:
    """Four episodes of two joints that swing between -1 and 1, times `scale`, plus `shift`."""
    sizes = dict.fromkeys(cameras, (32, 32))
    with DatasetWriter(
        path, fps=10, state_names=JOINTS, action_names=JOINTS, cameras=sizes, robot_type="arm"
    ) as writer:
        for episode in range(4):
            for frame in range(8):
                phase = frame / 4 * math.pi + episode
                state = np.array([math.sin(phase), math.cos(phase)], dtype=np.float32) * scale + shift
                pictures = {
                    f"observation.images.{name}": np.full((32, 32, 3), 20 * frame, np.uint8) for name in cameras
                }
                writer.add_frame({"observation.state": state, "action": state, "task": "swing", **pictures})
            writer.end_episode()
    return path


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    joints = [Joint(name=name, unit="rad", position_limits=None, velocity_limit=None) for name in JOINTS]
    arm = RobotProfile(name="arm", description="two joints", rate=10, joints=joints)
    path = tmp_path_factory.mktemp("robot") / "arm.yaml"
    path.write_text(arm.to_yaml())
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("data") / "arm")


@pytest.fixture(scope="module")
def parent(data: Path, profile: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = train(
        TrainOptions(
            dataset=data,
            robot=str(profile),
            out=tmp_path_factory.mktemp("runs") / "parent",
            preset="tiny",
            from_scratch=True,
            steps=2,
            batch_size=4,
            chunk_size=4,
            eval_frames=2,
            device="cpu",
        )
    )
    return run / "checkpoints" / "last"


def prepared(dataset: Path, parent: Path | None, profile: Path | None, **changes: Any) -> Prepared:
    base = TrainOptions(dataset=dataset, out=Path("never"), steps=2, batch_size=4, device="cpu")
    if parent is not None:
        base = dataclasses.replace(base, policy=str(parent))
    else:
        base = dataclasses.replace(base, preset="tiny", from_scratch=True)
    changes = {"robot": str(profile) if profile else None, **changes}
    return prepare(resolve(dataclasses.replace(base, **changes)))


def _observation(result: Prepared) -> dict[str, Any]:
    return {key: value for key, value in result.datasets[0].train[3].items() if not key.startswith("action")}


def test_the_same_robot_keeps_the_parents_statistics_and_says_how_far_the_data_lies(
    parent: Path, profile: Path, tmp_path: Path
) -> None:
    near = record(tmp_path / "near", shift=0.2)
    result = prepared(near, parent, profile)
    assert result.options.norm_stats == "parent"
    np.testing.assert_allclose(
        result.policy.statistics["action"]["mean"], load_policy(parent).statistics["action"]["mean"], atol=1e-6
    )
    assert any("0.2" in note and "standard deviations" in note for note in result.notes)
    assert result.policy.lineage["parent"]["source"] == str(parent)


def test_a_large_drift_stops_unless_the_user_chose(parent: Path, profile: Path, tmp_path: Path) -> None:
    far = record(tmp_path / "far", shift=50.0)
    with pytest.raises(TrainingError, match="differs too much from the parent's statistics") as caught:
        prepared(far, parent, profile)
    assert "--norm-stats dataset" in caught.value.fix
    own = prepared(far, parent, profile, norm_stats="dataset")
    assert own.policy.statistics["action"]["mean"] == pytest.approx([50, 50], abs=0.5)
    kept = prepared(far, parent, profile, norm_stats="parent")
    assert any(note.startswith("WARNING") for note in kept.notes)
    scaled = record(tmp_path / "scaled", scale=57.3)
    with pytest.raises(TrainingError, match="deviation 57"):
        prepared(scaled, parent, profile)


def test_a_fine_tuned_policy_starts_from_the_parents_weights_and_keeps_its_lineage(
    parent: Path, profile: Path, data: Path, tmp_path: Path
) -> None:
    run = train(
        TrainOptions(
            dataset=data,
            robot=str(profile),
            out=tmp_path / "run",
            policy=str(parent),
            steps=1,
            batch_size=4,
            lr=1e-9,
            held_out=0.0,
            device="cpu",
        )
    )
    child, before = load_policy(run / "checkpoints" / "last"), load_policy(parent)
    expected = dict(before.model.named_parameters())
    for name, value in child.model.named_parameters():
        np.testing.assert_allclose(value.detach().numpy(), expected[name].detach().numpy(), atol=1e-7)
    assert child.lineage["parent"]["source"] == str(parent)
    assert child.lineage["dataset_fingerprint"] == open_dataset(data).meta.fingerprint


def test_cameras_fill_the_slots_that_the_map_names(profile: Path, parent: Path, tmp_path: Path) -> None:
    two = record(tmp_path / "two", cameras=("left", "right"))
    result = prepared(two, parent, profile, camera_map={"right": "front", "left": "none"})
    assert result.policy.transforms.camera_map == {"right": "front", "left": None}
    assert result.policy.config.cameras == ["front"]
    assert result.options.camera_map == {"right": "front", "left": "none"}
    with pytest.raises(UsageError, match="says nothing about the dataset's camera 'left'"):
        prepared(two, parent, profile, camera_map={"right": "front"})
    with pytest.raises(UsageError, match="does not have") as caught:
        prepared(two, parent, profile, camera_map={"rigth": "front", "left": "none", "right": "other"})
    assert "'right'" in caught.value.fix


def test_a_recording_in_degrees_trains_a_policy_in_the_profiles_radians(
    data: Path, profile: Path, tmp_path: Path
) -> None:
    degrees = record(tmp_path / "degrees", scale=180 / math.pi)
    ours = prepared(degrees, None, profile, units={"all": "deg"})
    plain = prepared(data, None, profile)
    np.testing.assert_allclose(
        ours.policy.statistics["action"]["std"], plain.policy.statistics["action"]["std"], rtol=1e-5
    )
    left, right = (
        result.policy.transforms.for_source(result.datasets[0].layout).inputs([_observation(result)]).state
        for result in (ours, plain)
    )
    np.testing.assert_allclose(left.numpy(), right.numpy(), atol=1e-5)
    # Evaluation converts the same recording the same way.
    binding = adapt(ours.policy, ours.datasets[0].train.meta)
    np.testing.assert_allclose(binding.action.factors, [math.pi / 180] * 2)
    assert adapt(plain.policy, plain.datasets[0].train.meta).action.factors == (1.0, 1.0)
    with pytest.raises(UsageError, match="the unit 'degrees'"):
        prepared(degrees, None, profile, units={"all": "degrees"})
    with pytest.raises(UsageError, match="joint 'elbow'"):
        prepared(degrees, None, profile, units={"elbow": "deg"})


def test_unknown_joints_and_cameras_are_refused(data: Path, parent: Path, tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="'pan'"):
        prepared(data, None, None, robot="so101")
    with pytest.raises(ProfileError, match="no joint 'pan' of the recorded state"):
        prepared(data, parent, None, robot="pusht", norm_stats="parent")
    joints = [Joint(name=name, unit="rad", position_limits=None, velocity_limit=None) for name in JOINTS]
    other = RobotProfile(
        name="arm",
        description="another camera",
        rate=10,
        joints=joints,
        cameras=[CameraProfile(name="top", width=32, height=32)],
    )
    (tmp_path / "other.yaml").write_text(other.to_yaml())
    with pytest.raises(ProfileError, match="camera 'front'"):
        prepared(data, None, tmp_path / "other.yaml")


def test_the_robot_is_found_by_the_datasets_robot_type(tmp_path: Path) -> None:
    names = [joint.name for joint in RobotProfile.load("so101").joints]
    with DatasetWriter(
        tmp_path / "so", fps=10, state_names=names, action_names=names, cameras={"front": (32, 32)}, robot_type="SO101"
    ) as writer:
        values = np.zeros(len(names), np.float32)
        picture = np.zeros((32, 32, 3), np.uint8)
        for _ in range(3):
            writer.add_frame(
                {"observation.state": values, "action": values, "observation.images.front": picture, "task": "rest"}
            )
        writer.end_episode()
    meta = open_dataset(tmp_path / "so").meta
    notes: list[str] = []

    def chosen(meta: DatasetMeta, notes: list[str]) -> RobotProfile:
        return find_profile(meta, None, notes) or derive_profile(meta)

    assert chosen(meta, notes).name == "so101"
    assert "by the dataset's robot_type" in notes[0]
    unknown = chosen(dataclasses.replace(meta, robot_type="arm"), notes)
    assert {joint.unit for joint in unknown.joints} == {"unknown"}
    assert "--robot" in notes[-1]
    # A shipped profile of that name with other joints is not forced onto the data, and that is said.
    other = chosen(dataclasses.replace(meta, robot_type="koch"), notes[:0])
    assert [joint.name for joint in other.joints] == names
    misfit: list[str] = []
    chosen(dataclasses.replace(meta, robot_type="pusht"), misfit)
    assert "does not fit" in misfit[0]


def test_horizon_and_chunk_follow_the_options(data: Path, parent: Path, profile: Path) -> None:
    scratch = prepared(data, None, profile, chunk_size=20)
    assert (scratch.policy.config.chunk_size, scratch.policy.n_action_steps) == (20, 10)
    longer = prepared(data, parent, profile, chunk_size=9, n_action_steps=3)
    assert (longer.policy.config.chunk_size, longer.policy.n_action_steps) == (9, 3)
    assert (longer.options.chunk_size, longer.options.n_action_steps) == (9, 3)
    with pytest.raises(UsageError, match="n_action_steps"):
        prepared(data, None, profile, chunk_size=5, n_action_steps=6)


def test_chosen_episodes_alone_give_frames_statistics_and_lineage(profile: Path, tmp_path: Path) -> None:
    path = tmp_path / "uneven"
    sizes = {"front": (32, 32)}
    with DatasetWriter(path, fps=10, state_names=JOINTS, action_names=JOINTS, cameras=sizes) as writer:
        for episode in range(5):
            for frame in range(8):
                state = np.array([frame, frame % 3], dtype=np.float32) + (100.0 if episode in (1, 4) else 0.0)
                picture = np.full((32, 32, 3), 20 * frame, np.uint8)
                writer.add_frame(
                    {"observation.state": state, "action": state, "task": "go", "observation.images.front": picture}
                )
            writer.end_episode()
    result = prepared(path, None, profile, episodes="0,2-3", held_out=0.3)
    held = result.policy.lineage["held_out_episodes"]
    assert sorted(held + result.policy.lineage["trained_episodes"]) == [0, 2, 3]
    assert len(held) == 1
    (used,) = result.datasets
    assert used.held_out is not None
    assert (used.train.episodes, used.held_out.episodes) == (result.policy.lineage["trained_episodes"], held)
    np.testing.assert_allclose(result.policy.statistics["action"]["mean"], [3.5, 0.875], rtol=1e-6)
    np.testing.assert_allclose(result.policy.statistics["observation.state"]["max"], [7, 2], rtol=1e-6)


def test_held_out_episodes_that_the_parent_saw_are_named(parent: Path, profile: Path, data: Path) -> None:
    (own,) = load_policy(parent).lineage["held_out_episodes"]
    others = ",".join(str(index) for index in range(4) if index != own)
    result = prepared(data, parent, profile, episodes=others, held_out=0.3)
    assert any("the parent was trained on 1 of these 1 episodes" in note for note in result.notes)
    same = prepared(data, parent, profile)
    assert not any("the parent was trained on" in note for note in same.notes)


def test_merged_statistics_are_those_of_both_recordings_together(parent: Path, profile: Path, tmp_path: Path) -> None:
    near = record(tmp_path / "near", shift=0.3)
    result = prepared(near, parent, profile, norm_stats="merged")
    old, new = load_policy(parent).statistics["action"], open_dataset(near).meta.statistics["action"]
    found = result.policy.statistics["action"]
    assert result.options.norm_stats == "merged"
    np.testing.assert_allclose(found["mean"], (old["mean"] + new["mean"]) / 2, atol=1e-6)
    spread = (old["std"] ** 2 + new["std"] ** 2) / 2 + ((old["mean"] - new["mean"]) / 2) ** 2
    np.testing.assert_allclose(found["std"], np.sqrt(spread), rtol=1e-5)
    np.testing.assert_allclose(found["count"], old["count"] + new["count"])
