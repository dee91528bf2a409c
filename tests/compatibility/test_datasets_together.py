"""Datasets of one mixture against each other, by names, rates and units; no profile is blamed that nobody chose."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from smolpilot.cli.main import main
from smolpilot.common.errors import ProfileError, SmolpilotError, UsageError
from smolpilot.compatibility.verdict import Line
from smolpilot.datasets import DatasetWriter, open_dataset
from smolpilot.robots import CameraProfile, Joint, RobotProfile
from smolpilot.smolvla import new_policy, save_bundle
from smolpilot.training import TrainOptions
from smolpilot.training.options.sources import Source
from smolpilot.training.run.setup import Prepared, prepare

JOINTS = ["pan", "lift", "grip"]


def record(path: Path, *, names: list[str] = JOINTS, fps: int = 10, scale: float = 1.0, camera: str = "front",
           robot_type: str = "arm") -> Path:  # fmt: skip
    """Two episodes in which every joint swings, each around its own place."""
    with DatasetWriter(path, fps=fps, state_names=names, action_names=names, cameras={camera: (32, 32)},
                       robot_type=robot_type) as writer:  # fmt: skip
        for episode in range(2):
            for frame in range(8):
                row = scale * np.sin(frame / 3 + np.arange(len(names)) + episode).astype(np.float32)
                picture = np.full((32, 32, 3), 20 * frame, np.uint8)
                values = {"observation.state": row, "action": row, "task": "swing"}
                writer.add_frame({**values, f"observation.images.{camera}": picture})
            writer.end_episode()
    return path


def mixed(*datasets: Path, robot: Path | None = None) -> Prepared:
    return prepare(
        TrainOptions(
            mixture=tuple(Source(path) for path in datasets), out=Path("never"), preset="tiny", from_scratch=True,
            steps=1, batch_size=2, chunk_size=4, n_action_steps=4, device="cpu", robot=str(robot) if robot else None,
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def arm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("data") / "arm")


@pytest.mark.parametrize("names", [[f"j{i}" for i in range(4)], ["pan", "lift", "wrist"], ["pan", "lift"]])
def test_other_joints_are_another_robot(arm: Path, tmp_path: Path, names: list[str]) -> None:
    other = record(tmp_path / "other", names=names)
    for first, second, found in ((arm, other, names), (other, arm, JOINTS)):
        with pytest.raises(UsageError) as caught:
            mixed(first, second)
        assert f"{second} has {len(found)} joints ({', '.join(found)})" in caught.value.found
        assert "not one robot" in caught.value.found
        assert "profile has" not in str(caught.value)
        assert not isinstance(caught.value, ProfileError)


def test_a_profile_that_the_user_named_is_the_measure(arm: Path, tmp_path: Path) -> None:
    joints = [Joint(name=name, aliases=[f"{name}.pos"], unit="unknown", position_limits=None, velocity_limit=None)
              for name in JOINTS]  # fmt: skip
    path = tmp_path / "arm.yaml"
    path.write_text(RobotProfile(name="arm", description="aliases", rate=10, joints=joints).to_yaml())
    dotted = record(tmp_path / "dotted", names=[f"{name}.pos" for name in reversed(JOINTS)])
    prepared = mixed(arm, dotted, robot=path)  # aliases join them
    assert prepared.policy.profile is not None
    # One scale for both: the second recording's joints were put into the first's order.
    both = np.concatenate([open_dataset(arm).actions, open_dataset(dotted).actions[:, ::-1]])
    np.testing.assert_allclose(prepared.policy.statistics["action"]["mean"], both.mean(axis=0), atol=1e-6)
    other = record(tmp_path / "other", names=["pan", "lift", "wrist"])
    with pytest.raises(ProfileError, match="other: "):
        mixed(arm, other, robot=path)


def of(prepared: Prepared, topic: str, verdict: str) -> list[Line]:
    return [line for line in prepared.preflight() if line.topic == topic and line.verdict == verdict]


def test_rates_and_units_are_compared(arm: Path, tmp_path: Path) -> None:
    fast = record(tmp_path / "fast", fps=25)
    (rate,) = of(mixed(arm, fast), "rate", "warning")
    assert "“arm” has 10, “fast” has 25" in rate.found
    degrees = record(tmp_path / "degrees", scale=57.3)
    for first, second in ((arm, degrees), (degrees, arm)):
        (units,) = of(mixed(first, second), "units", "error")
        assert "the values of “degrees” are 57 times those of “arm”" in units.found
    alike = mixed(arm, record(tmp_path / "alike", scale=3.0))
    assert not of(alike, "rate", "warning")
    assert not of(alike, "units", "error")


def test_eval_and_a_parent_name_the_joints_and_no_profile(
    arm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = save_bundle(new_policy("tiny", meta=open_dataset(arm).meta, device="cpu"), tmp_path / "bundle")
    other = record(tmp_path / "other", names=["a", "b", "c", "d"])
    tuned = TrainOptions(dataset=other, policy=str(bundle), out=Path("never"), steps=1, device="cpu")
    with pytest.raises(SmolpilotError) as caught:
        prepare(dataclasses.replace(tuned, norm_stats="parent"))
    assert "are for 3 joints (pan, lift, grip), this robot has 4 joints (a, b, c, d)" in caught.value.found
    # Without --norm-stats the dataset's statistics are taken, as for every other robot.
    assert prepare(tuned).stats == "dataset"
    assert main(["eval", str(bundle), "--dataset", str(other), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "The dataset's state has 4 joints (a, b, c, d), the policy's has 3 joints (pan, lift, grip)" in said
    assert "The profile" not in said


def test_a_profile_that_nobody_named_forbids_no_camera(tmp_path: Path) -> None:
    names = [joint.name for joint in RobotProfile.load("so101").joints]
    data = record(tmp_path / "so", names=names, camera="top", robot_type="so101", scale=20)
    prepared = prepare(
        TrainOptions(dataset=data, out=Path("never"), preset="tiny", from_scratch=True, steps=1, device="cpu")
    )
    profile = prepared.policy.profile
    assert profile is not None
    assert [camera.name for camera in profile.cameras] == ["top"]
    assert {joint.unit for joint in profile.joints} == {joint.unit for joint in RobotProfile.load("so101").joints}
    camera = CameraProfile(name="top", width=32, height=32, role="top")
    assert profile.cameras == [camera]
