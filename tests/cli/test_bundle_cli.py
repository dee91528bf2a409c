"""`smolpilot bundle`: shows a checkpoint, localizes a bundle, one line per mistake."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from smolpilot.cli.main import main
from smolpilot.datasets import open_dataset
from smolpilot.datasets.statistics.operating_limits import demonstrated_by
from smolpilot.robots.layout import FrameLayout
from smolpilot.smolvla import new_policy, save_bundle


@pytest.fixture(scope="module")
def bundle(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    policy = new_policy("tiny", meta=open_dataset(tiny_dataset).meta, seed=3, device="cpu")
    return save_bundle(policy, tmp_path_factory.mktemp("cli") / "bundle")


def test_shows_what_a_person_wants_to_know(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bundle", str(bundle)]) == 0
    out = capsys.readouterr().out
    for words in ("toy_arm", "pan [unknown]", "front -> front", "touch the blue block", "10 of them", "fingerprint"):
        assert words in out


def test_json_is_one_document(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bundle", str(bundle), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["camera_map"] == {"front": "front", "wrist": "wrist"}
    assert facts["execution_horizon"] == 10
    assert len(facts["statistics"]["action"]["mean"]) == 3
    assert facts["report"]["missing"] == []


def test_limits_of_the_demonstrations_are_a_table_with_their_origin(
    tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = open_dataset(tiny_dataset)
    policy = new_policy("tiny", meta=dataset.meta, seed=3, device="cpu")
    assert policy.profile is not None
    policy.demonstrated = demonstrated_by(dataset, FrameLayout.of_dataset(dataset.meta), policy.profile)
    bundle = save_bundle(policy, tmp_path / "bundle")
    assert main(["bundle", str(bundle)]) == 0
    lines = capsys.readouterr().out.splitlines()
    (first,) = [i for i, line in enumerate(lines) if line.startswith("limits")]
    assert lines[first].endswith("6 episodes of tiny (123 frames, 10 per second)")
    assert lines[first + 1].split()[:3] == ["joint", "velocity", "acceleration"]
    pan, start = policy.demonstrated.joints[0], policy.demonstrated.start_poses[0]
    assert lines[first + 2].split()[:5] == [
        "pan", f"{pan.velocity:.4g}", "unknown/s", f"{pan.acceleration:.4g}", "unknown/s²"
    ]  # fmt: skip
    assert lines[first + 2].endswith(f"{start.q01:.4g} to {start.q99:.4g}")
    assert main(["bundle", str(bundle), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["operating_limits"] == policy.demonstrated.to_json()


def test_a_bundle_without_limits_says_so(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bundle", str(bundle)]) == 0
    assert "limits        none kept of the demonstrations" in capsys.readouterr().out
    assert main(["bundle", str(bundle), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["operating_limits"] is None


def test_localize(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bundle", "localize", str(bundle)]) == 0
    assert str(bundle / "vlm") in capsys.readouterr().out
    assert json.loads((bundle / "config.json").read_text())["vlm_model_name"] == str(bundle.resolve() / "vlm")


def test_localize_takes_a_run_folder_too(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    best = tmp_path / "run" / "checkpoints" / "best"
    shutil.copytree(bundle, best)
    assert main(["bundle", "localize", str(tmp_path / "run")]) == 0
    assert json.loads((best / "config.json").read_text())["vlm_model_name"] == str(best.resolve() / "vlm")


def test_a_warning_is_one_line_on_stderr_and_json_stays_pure(bundle: Path, tmp_path: Path) -> None:
    """A LeRobot checkpoint whose horizon is its whole chunk warns. In its own process: pytest catches warnings."""
    checkpoint = tmp_path / "lerobot"
    shutil.copytree(bundle, checkpoint)
    for name in ("smolpilot.json", "robot.yaml"):
        (checkpoint / name).unlink()
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps(config | {"n_action_steps": config["chunk_size"]}))
    command = [sys.executable, "-m", "smolpilot", "bundle", str(checkpoint), "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(ended.stdout)["execution_horizon"] == config["chunk_size"]
    assert ended.stderr.startswith("warning: n_action_steps is")
    assert len(ended.stderr.splitlines()) == 1


def test_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bundle", str(tmp_path / "nowhere")]) == 2
    assert main(["bundle", "localize", str(tmp_path / "nowhere")]) == 2
    assert main(["bundle", "localize", str(tmp_path)]) == 1
    err = capsys.readouterr().err
    assert "no checkpoint at" in err
    assert "no bundle at" in err
    assert "holds no checkpoint" in err
    assert "Traceback" not in err
