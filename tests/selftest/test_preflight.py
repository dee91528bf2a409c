"""`smolpilot preflight`: each kind of trouble in its line, with the option that fixes it; no false alarm."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from smolpilot.cli.main import main
from smolpilot.compatibility.verdict import Line
from smolpilot.datasets import DatasetWriter, open_dataset
from smolpilot.robots import CameraProfile, Joint, RobotProfile
from smolpilot.selftest.preflight import preflight
from smolpilot.selftest.preflight_options import PreflightOptions
from smolpilot.smolvla import new_policy, save_bundle

JOINTS = ["pan", "lift", "roll"]


def record(path: Path, *, scale: float = 1.0, names: list[str] = JOINTS, camera: str = "front", fps: int = 10) -> Path:
    """Three joints that swing between -1 and 1 rad, times `scale`; the last one rests."""
    with DatasetWriter(path, fps=fps, state_names=names, action_names=names, cameras={camera: (32, 32)}) as writer:
        for episode in range(3):
            for frame in range(10):
                phase = frame / 5 * math.pi + episode
                state = np.array([math.sin(phase), math.cos(phase), 0.0], dtype=np.float32) * scale
                picture = np.full((32, 32, 3), 20 * frame, np.uint8)
                text = {"observation.state": state, "action": state, "task": "swing it"}
                writer.add_frame({**text, f"observation.images.{camera}": picture})
            writer.end_episode()
    return path


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    joints = [Joint(name=name, unit="rad", position_limits=(-1.5, 1.5), velocity_limit=None) for name in JOINTS]
    cameras = [CameraProfile(name="front", width=32, height=32, role="front")]
    arm = RobotProfile(name="arm", description="three joints", rate=10, joints=joints, cameras=cameras)
    path = tmp_path_factory.mktemp("robot") / "arm.yaml"
    path.write_text(arm.to_yaml())
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("data") / "arm")


@pytest.fixture(scope="module")
def bundle(data: Path, profile: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    meta = open_dataset(data).meta
    policy = new_policy("tiny", meta=meta, profile=RobotProfile.load(profile), seed=1, device="cpu")
    return save_bundle(policy, tmp_path_factory.mktemp("bundle") / "policy")


def lines(dataset: Path, profile: Path | None, **more: object) -> list[Line]:
    return preflight(PreflightOptions(dataset, robot=str(profile) if profile else None, **more))  # type: ignore[arg-type]


def of(found: list[Line], topic: str) -> list[Line]:
    return [line for line in found if line.topic == topic]


def test_a_dataset_robot_and_policy_that_fit_have_no_error(data: Path, profile: Path, bundle: Path) -> None:
    found = lines(data, profile, policy=str(bundle), instruction="swing it")
    assert {line.verdict for line in found} == {"ok", "warning"}
    assert [line.found for line in found if line.verdict == "warning"] == [
        f"{key}: without any motion: roll" for key in ("observation.state", "action")
    ]
    assert "a chunk of 12 lasts 1.20 s, 10 actions" in of(found, "rate")[0].found


def test_limits_of_the_demonstrations_are_shown_with_their_origin(
    data: Path, profile: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a dataset, and of what a training would keep; a table of its own, below the lines."""
    (alone,) = of(lines(data, profile), "operating limits")
    assert alone.found.startswith("by all its episodes: 1.5 times the 99.9 % quantile of the commanded motion in 3 epi")
    header, pan, lift, roll = alone.found.splitlines()[1:]
    actions = np.array([np.sin(np.arange(10) / 5 * math.pi + one) for one in range(3)], np.float32).astype(np.float64)
    speed = 1.5 * 10 * float(np.quantile(np.abs(np.diff(actions, axis=1)), 0.999))
    assert header.split()[:3] == ["joint", "velocity", "acceleration"]
    assert pan.split()[:3] == ["pan", f"{speed:.4g}", "rad/s"]
    assert lift.startswith("lift")
    assert roll.split()[:5] == ["roll", "not", "known", "not", "known"]
    (trained,) = of(lines(data, profile, policy=str(bundle)), "operating limits")
    assert trained.found.startswith("what training keeps in the bundle: ")
    assert main(["preflight", "--dataset", str(data), "--robot", str(profile)]) == 0
    assert pan in capsys.readouterr().out.splitlines()


def test_degrees_for_radians(tmp_path: Path, profile: Path) -> None:
    path = record(tmp_path / "deg", scale=80.0)
    found = of(lines(path, profile), "ranges")
    assert [(line.verdict, line.fix) for line in found] == [("error", "--units all=deg")] * 2
    assert {line.verdict for line in of(lines(path, profile, units={"all": "deg"}), "ranges")} == {"ok"}


def test_out_of_limits_otherwise(tmp_path: Path, profile: Path) -> None:
    found = of(lines(record(tmp_path / "far", scale=2.0), profile), "ranges")
    assert {line.verdict for line in found} == {"warning"}
    assert "pan -2 to" in found[0].found or "pan -1.9" in found[0].found


def test_other_joints(tmp_path: Path, profile: Path) -> None:
    found = lines(record(tmp_path / "other", names=["pan", "lift", "wrist"]), profile)
    (joints,) = of(found, "joints")
    assert joints.verdict == "error"
    assert "no joint 'wrist'" in joints.found
    assert not of(found, "ranges")
    assert of(found, "instruction")


def test_cameras_and_rate(tmp_path: Path, profile: Path, bundle: Path) -> None:
    path = record(tmp_path / "side", camera="side", fps=30)
    # A profile that the user named lacks the camera: train stops at it.
    assert [line.verdict for line in of(lines(path, profile), "cameras")] == ["error"]
    assert (
        "camera 'side', which robot 'arm' does not have"
        in of(lines(path, profile, policy=str(bundle)), "cameras")[0].found
    )
    (proposed,) = of(lines(path, None, policy=str(bundle)), "cameras")
    assert proposed.verdict == "warning"
    assert proposed.found.startswith("side -> front; camera 'side' fills slot 'front'")
    rate = of(lines(path, profile), "rate")
    assert rate[0].verdict == "warning"
    assert "recorded at 30 per second, the robot runs at 10 Hz" in rate[0].found


def test_statistics_far_from_the_policys(tmp_path: Path, profile: Path, bundle: Path) -> None:
    found = of(lines(record(tmp_path / "far", scale=5.0), profile, policy=str(bundle)), "statistics")
    (error,) = [line for line in found if line.verdict == "error"]
    assert "observation.state pan: deviation 5.0 times the policy's" in error.found
    assert "action lift: deviation 5.0 times the policy's" in error.found
    assert "mean" not in error.found  # the means lie near


def test_another_instruction_and_no_policy_at_the_path(data: Path, profile: Path, tmp_path: Path) -> None:
    found = lines(data, profile, instruction="swing", policy=str(tmp_path / "nothing"))
    assert of(found, "policy")[0].verdict == "error"
    (line,) = of(found, "instruction")
    assert (line.verdict, line.fix) == ("error", "say “swing it”")


def test_a_robot_nobody_knows(data: Path) -> None:
    assert of(lines(data, Path("so999")), "robot")[0].verdict == "error"
    (line,) = of(lines(data, None), "robot")
    assert (line.verdict, line.fix) == ("warning", "--robot NAME gives units and limits")


def test_command_line(data: Path, profile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["preflight", "--dataset", str(data), "--robot", str(profile)]
    assert main(args) == 0
    assert "within them" in " ".join(capsys.readouterr().out.split())
    assert main([*args, "--instruction", "jump", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)[-1]["verdict"] == "error"
    assert main(["preflight", "--dataset", str(tmp_path / "no"), "--json"]) == 1
    (line,) = json.loads(capsys.readouterr().out)
    assert line["topic"] == "dataset"


# -- train and eval stop on errors -------------------------------------------------------------------------------------


def train_words(dataset: Path, profile: Path, out: Path) -> list[str]:
    return [
        *("train", "--dataset", str(dataset), "--robot", str(profile), "--preset", "tiny", "--from-scratch"),
        *("--steps", "1", "--batch-size", "2", "--chunk-size", "4", "--device", "cpu", "--out", str(out)),
    ]


def test_train_stops_on_an_error_unless_told(profile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    degrees = record(tmp_path / "degrees", scale=80.0)
    words = train_words(degrees, profile, tmp_path / "run")
    assert main(words) == 1
    said = capsys.readouterr().err
    assert "looks like degrees" in said
    assert "--units all=deg" in said
    assert "--no-preflight" in said
    assert not (tmp_path / "run").exists()
    assert main([*words, "--no-preflight"]) == 0
    assert "error: ranges: observation.state looks like degrees" in capsys.readouterr().out
    assert main([*train_words(degrees, profile, tmp_path / "told"), "--units", "all=deg"]) == 0
    shown = capsys.readouterr().out
    assert "looks like degrees" not in shown
    assert "warning: statistics: observation.state: without any motion: roll" in shown
    # The recording that it was trained on, in the units that training was told.
    bundle = str(tmp_path / "told" / "checkpoints" / "last")
    assert main(["eval", bundle, "--dataset", str(degrees), "--out", str(tmp_path / "eval")]) == 0
    assert "degrees" not in capsys.readouterr().err


def test_eval_stops_on_an_error_unless_told(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    degrees = record(tmp_path / "degrees", scale=80.0)
    words = ["eval", str(bundle), "--dataset", str(degrees), "--out", str(tmp_path / "eval"), "--episodes", "0"]
    assert main(words) == 1
    said = capsys.readouterr().err
    assert "ranges: observation.state looks like degrees" in said
    assert "statistics: observation.state: " in said
    assert not (tmp_path / "eval").exists()
    assert main([*words, "--no-preflight", "--max-frames", "4", "--json"]) == 0
    shown = capsys.readouterr()
    assert "error: ranges" in shown.err
    assert json.loads(shown.out)["frames"] == 4
