"""`smolpilot eval` and `smolpilot rollout` from the command line, on a tiny policy with random weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from smolpilot.cli.main import main
from smolpilot.common.keys import ACTION, STATE, TASK, image_key
from smolpilot.datasets import DatasetWriter, open_dataset
from smolpilot.environments.tabletop import TabletopEnv
from smolpilot.robots import RobotProfile
from smolpilot.smolvla import new_policy, save_bundle

SMALL = {"chunk_size": 4, "n_action_steps": 2, "num_steps": 2}


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three short episodes of the tabletop, with waving instead of reaching."""
    path = tmp_path_factory.mktemp("data") / "tabletop"
    env = TabletopEnv()
    names = [joint.name for joint in RobotProfile.load("tabletop").joints]
    sizes = {"top": (64, 64), "side": (64, 64)}
    with DatasetWriter(path, fps=10, state_names=names, action_names=names, cameras=sizes) as writer:
        for episode in range(3):
            frame, _ = env.reset(seed=episode)
            start = frame[STATE]
            for step in range(8):
                action = start + np.float32(0.05 * np.sin(step))
                writer.add_frame({**frame, ACTION: action})
                frame, *_ = env.step(action)
            writer.end_episode()
    return path


@pytest.fixture(scope="module")
def bundle(recording: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    meta = open_dataset(recording).meta
    policy = new_policy("tiny", meta=meta, profile=RobotProfile.load("tabletop"), overrides=SMALL, device="cpu")
    policy.lineage |= {"dataset_fingerprint": meta.fingerprint, "held_out_episodes": [2]}
    path = tmp_path_factory.mktemp("bundles") / "bundle"
    save_bundle(policy, path)
    return path


def test_eval_writes_its_three_files(
    recording: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "eval"
    assert main(["eval", str(bundle), "--dataset", str(recording), "--out", str(out), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert sorted(path.name for path in out.iterdir()) == ["metrics.json", "panels.png", "plots", "report.html"]
    assert json.loads((out / "metrics.json").read_text()) == printed
    assert printed["episodes"] == [2]
    assert printed["frames"] == 8
    assert {joint["unit"] for joint in printed["joints"]} == {"rad"}
    assert printed["latency"]["chunk"]["count"] > 0


def test_eval_prints_a_table_and_the_verdict(
    recording: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["eval", str(bundle), "--dataset", str(recording), "--episodes", "0-1", "--every", "4", "--num-steps", "1"]
    assert main([*args, "--out", str(tmp_path / "eval")]) == 0
    out = capsys.readouterr().out
    for joint in RobotProfile.load("tabletop").joints:
        assert joint.name in out
    assert "95 % interval" in out
    assert "over 2 episodes: mean error" in out
    assert "An interval over 2 episodes means little" in out
    assert "training saw 2 of the 2" in out
    assert json.loads((tmp_path / "eval" / "metrics.json").read_text())["settings"]["denoising_steps"] == 1


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        (["--episodes", "7"], 2, "no episode 7"),
        (["--episodes", "some"], 2, "cannot be read"),
        (["--every", "0"], 2, "--every is 0"),
        (["--seed", "-1"], 2, "--seed is -1"),
        # `none` leaves a camera out, here one that the policy needs.
        (["--camera-map", "top=top", "side=none"], 2, "No camera is mapped to slot 'side'"),
        (["--camera-map", "top=top", "side=nowhere"], 2, "no camera slot of the policy"),
        (["--tokenizer", "nowhere"], 2, "no folder nowhere with a tokenizer"),
        (["--seed", str(2**64)], 2, f"--seed is {2**64}"),
        (["--dataset", "nowhere"], 2, "nowhere"),
    ],
)
def test_bad_options_are_one_clear_error(
    change: list[str],
    code: int,
    message: str,
    recording: Path,
    bundle: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    args = ["eval", str(bundle), "--dataset", str(recording), "--out", str(tmp_path / "out"), *change]
    assert main(args) == code
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert list(tmp_path.iterdir()) == []  # nothing half-made


def test_existing_output_and_missing_bundle_are_refused(
    recording: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", str(bundle), "--dataset", str(recording), "--out", str(tmp_path)]) == 2
    assert "exists already" in capsys.readouterr().err
    missing = str(tmp_path / "no" / "such" / "bundle")
    assert main(["eval", missing, "--dataset", str(recording), "--out", str(tmp_path / "x")]) == 2
    assert "no/such/bundle" in capsys.readouterr().err


def test_dataset_of_another_robot_is_refused(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other"
    with DatasetWriter(other, fps=10, state_names=["a"], action_names=["a"], cameras={"top": (64, 64)}) as writer:
        frame = {STATE: np.zeros(1, np.float32), ACTION: np.zeros(1, np.float32), TASK: "wait"}
        writer.add_frame({**frame, image_key("top"): np.zeros((64, 64, 3), np.uint8)})
        writer.end_episode()
    args = ["eval", str(bundle), "--dataset", str(other), "--episodes", "all", "--out", str(tmp_path / "out")]
    assert main(args) == 2
    assert "no joint 'a'" in capsys.readouterr().err


def test_rollout_is_repeatable_and_writes_a_video(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = []
    for name in ("first", "second"):
        args = ["rollout", str(bundle), "--episodes", "3", "--video-episodes", "2", "--out", str(tmp_path / name)]
        assert main([*args, "--json"]) == 0
        results.append(json.loads(capsys.readouterr().out))
        assert all(run.pop("planning_s") > 0 for run in results[-1]["runs"])
    assert results[0]["runs"] == results[1]["runs"]
    assert results[0]["episodes"] == results[0]["successes"] + sum(results[0]["failures"].values()) == 3
    assert sorted(path.name for path in (tmp_path / "first").iterdir()) == [
        "episodes.jsonl", "episodes.robostats.jsonl", "eval_info.json", "plots", "report.html", "results.json",
        "video.mp4", "videos",
    ]  # fmt: skip
    assert results[0]["success_rate"] == results[0]["successes"] / 3
    low, high = results[0]["interval"]
    assert low <= results[0]["success_rate"] <= high


def test_swapped_and_untrained_rollouts(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["rollout", str(bundle), "--episodes", "2", "--video-episodes", "0", "--n-action-steps", "4"]
    documents = {}
    for name, more in {"usual": [], "swapped": ["--swap-instruction"], "untrained": ["--untrained"]}.items():
        assert main([*common, *more, "--out", str(tmp_path / name)]) == 0
        documents[name] = json.loads((tmp_path / name / "results.json").read_text())
    assert "95 % interval" in capsys.readouterr().out
    for usual, swapped in zip(documents["usual"]["runs"], documents["swapped"]["runs"], strict=True):
        assert usual["seed"] == swapped["seed"]
        assert usual["groups"]["color"] != swapped["groups"]["color"]
    assert documents["untrained"]["untrained"] is True
    assert documents["usual"]["execution_horizon"] == 4
    assert main([*common[:-1], "5", "--out", str(tmp_path / "x")]) == 2
    assert "execution horizon n_action_steps is 5" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["eval", "rollout"])
def test_help_loads_no_heavy_library(verb: str) -> None:
    code = (
        "import sys\nfrom smolpilot.cli.main import main\n"
        f"try:\n    main(['{verb}', '--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'matplotlib', 'av', 'pyarrow'} & set(sys.modules)\nassert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode == 0, done.stderr
    assert f"smolpilot {verb}" in done.stdout
