"""A recording's joints on the simulated arm: what is shown, in which units, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from smolpilot.cli.main import main
from smolpilot.common.errors import ProfileError, UsageError
from smolpilot.common.keys import ACTION, STATE, TASK, image_key
from smolpilot.datasets import DatasetWriter
from smolpilot.environments.replaying import replay_joints
from smolpilot.environments.simulators.so101 import So101Simulation
from smolpilot.robots import RobotProfile

JOINTS = [joint.name for joint in RobotProfile.load("so101").joints]
POSES = [[0.0, -75.0, 45.0, 83.0, 0.0, 0.0], [60.0, -20.0, 10.0, 40.0, 80.0, 100.0]]


def recording(path: Path, poses: list[list[float]], names: list[str] = JOINTS) -> Path:
    """Two episodes: the poses, and the poses backward, six frames each; its camera shows one color."""
    with DatasetWriter(
        path, fps=30, state_names=names, action_names=names, cameras={"front": (48, 64)}, robot_type="so101"
    ) as writer:
        for way in (1, -1):
            for pose in np.repeat(np.array(poses, np.float32)[::way], 6, axis=0):
                image = np.full((48, 64, 3), (200, 30, 30), np.uint8)
                writer.add_frame({STATE: pose, ACTION: pose, TASK: "hold it", image_key("front"): image})
            writer.end_episode()
    return path


def frames_of(path: Path) -> Any:
    container: Any
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    raise AssertionError("PyAV swallows no exception")


def close_to(seen: Any, pose: list[float], simulation: So101Simulation) -> float:
    """Mean difference of the simulated half of a frame from the arm at a pose."""
    simulation.pose(pose)
    return float(np.abs(seen[:, -640:].astype(int) - simulation.render().astype(int)).mean())


def test_the_arm_is_where_it_was_beside_the_recordings_image(tmp_path: Path) -> None:
    data, out = recording(tmp_path / "data", POSES), tmp_path / "replay.mp4"
    shown = replay_joints(data, out, name="so101", settings={}, episode=1)
    assert (shown.frames, shown.instruction, shown.cameras) == (12, "hold it", ("front",))
    frames = frames_of(out)
    assert len(frames) == 12
    assert frames[0].shape == (480, 640 + 640, 3), "the recording's image, as high as the simulation's"
    assert np.abs(frames[0][100:300, 100:500].mean(axis=(0, 1)) - (200, 30, 30)).max() < 12
    simulation = So101Simulation()
    assert close_to(frames[0], POSES[1], simulation) < 4 < close_to(frames[0], POSES[0], simulation)
    assert close_to(frames[-1], POSES[0], simulation) < 4
    simulation.close()


def test_other_units_and_another_order_are_converted_by_name(tmp_path: Path) -> None:
    turned = [[*np.radians(pose[:5][::-1]), pose[5]] for pose in POSES]
    names = [*JOINTS[:5][::-1], JOINTS[5]]
    data, out = recording(tmp_path / "data", turned, names), tmp_path / "replay.mp4"
    units = dict.fromkeys(JOINTS[:5], "rad")
    replay_joints(data, out, name="so101", settings={}, units=units)
    simulation = So101Simulation()
    assert close_to(frames_of(out)[0], POSES[0], simulation) < 4
    simulation.close()


def test_what_cannot_be_shown_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    data, out = recording(tmp_path / "data", POSES), tmp_path / "replay.mp4"
    with pytest.raises(UsageError, match="has no episode 7") as error:
        replay_joints(data, out, name="so101", settings={}, episode=7)
    assert error.value.expected == "0 to 1"
    with pytest.raises(UsageError, match="'pusht' shows no recorded joints"):
        replay_joints(data, out, name="pusht", settings={})
    other = recording(tmp_path / "other", POSES, [f"joint_{i}" for i in "abcdef"])
    with pytest.raises(ProfileError, match="joint_a") as wrong:
        replay_joints(other, out, name="so101", settings={})
    assert wrong.value.fix.startswith("use a recording of that arm, by its joints' names: shoulder_pan")
    out.write_bytes(b"mine")
    with pytest.raises(UsageError, match="exists"):
        replay_joints(data, out, name="so101", settings={})
    assert out.read_bytes() == b"mine"
    assert {path.name for path in tmp_path.iterdir()} == {"data", "other", "replay.mp4"}


def test_the_command_says_what_it_has_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = recording(tmp_path / "data", POSES), tmp_path / "replay.mp4"
    assert main(["env", "replay", str(data), "--out", str(out)]) == 0
    assert f"{out}: 12 frames of so101, beside front: “hold it”" in capsys.readouterr().out
    assert main(["env", "replay", str(data), "--out", str(tmp_path / "b.mp4"), "--episode", "9"]) == 2
    assert "has no episode 9" in capsys.readouterr().err
