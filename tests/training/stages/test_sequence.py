"""Stages in sequence with the tiny policy: what is trained, judged, kept, gone on with, and stopped."""

from __future__ import annotations

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from smolpilot.cli.main import main
from smolpilot.common.errors import TrainingError, UsageError
from smolpilot.common.keys import ACTION
from smolpilot.datasets import DatasetWriter, open_dataset
from smolpilot.evaluation import embodiment_of, evaluate
from smolpilot.evaluation.metrics import chunk_errors
from smolpilot.policies import open_policy
from smolpilot.robots import RobotProfile
from smolpilot.smolvla import load_policy, new_policy, save_bundle
from smolpilot.training import TrainOptions, train
from smolpilot.training.run.run_folder import load_config
from smolpilot.training.stages.plan import load_plan, plan_text
from smolpilot.training.status import run_status

DEFAULTS = """
defaults:
  preset: tiny
  from_scratch: true
  chunk_size: 5
  n_action_steps: 5
  batch_size: 4
  log_every: 2
  eval_frames: 6
  save_every: 2
  held_out: 0.34
  device: cpu
evaluation: {frames: 12, resamples: 50, against: [hold-state]}
"""
RED = "  - {name: red, dataset: DATA, episodes: '0,2,4', steps: 4, options: {augment: {crop: 0.5}}}\n"
BLUE = (
    "  - {name: blue, dataset: DATA, episodes: '1,3,5', instruction: push the blue block, steps: 4, lr: 1.0e-3, "
    "replay: [0.4, 0.6]GATE}\n"
)


def plan_file(folder: Path, dataset: Path, *, gate: str = "") -> Path:
    path = folder / "plan.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = f"{DEFAULTS}stages:\n{RED}{BLUE}".replace("DATA", str(dataset)).replace("GATE", gate and f", gate: {gate}")
    path.write_text(text, encoding="utf-8")
    return path


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "checkpoints" / "last" / "model.safetensors")


@pytest.fixture(scope="module")
def finished(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sequence")
    return train(TrainOptions(stages=plan_file(folder, tiny_dataset), out=folder / "out"))


@pytest.fixture(scope="module")
def report(finished: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((finished / "report.json").read_text())
    return found


def test_the_matrix_holds_the_error_of_every_stage_on_every_task_so_far(
    finished: Path, report: dict[str, Any], tiny_dataset: Path
) -> None:
    assert report["tasks"] == ["red", "blue"]
    assert [len(row) for row in report["error"]["matrix"]] == [1, 2]
    whole = open_dataset(tiny_dataset)
    policies = [load_policy(finished / "stages" / name, device="cpu") for name in ("1_red", "2_blue")]
    for stage, task in ((0, 0), (1, 0), (1, 1)):
        (held_out,) = report["stages"][task]["held_out_episodes"]
        dataset = whole if task == 0 else whole.with_instruction("push the blue block")
        scored = evaluate(policies[stage], dataset, str(held_out), max_frames=12, latency=False).scored
        mae = chunk_errors(scored.predicted, scored.target, scored.is_pad).mae
        cell = report["error"]["matrix"][stage][task]
        assert cell["value"] == pytest.approx(mae.mean(), rel=1e-5)
        assert report["joint_mae"][stage][task] == pytest.approx(mae.tolist(), rel=1e-5)
        assert cell["interval"] is None  # one held-out episode says nothing of the spread
    before, after = (report["error"]["matrix"][stage][0]["value"] for stage in (0, 1))
    assert report["error"]["forgetting"][0]["value"] == pytest.approx(after - before)
    assert report["error"]["backward_transfer"][0]["value"] == pytest.approx(before - after)
    assert report["success"] is None


def test_other_policies_are_scored_once_on_each_task(report: dict[str, Any], tiny_dataset: Path) -> None:
    dataset = open_dataset(tiny_dataset)
    held = open_policy("hold-state", embodiment=embodiment_of(dataset.meta))
    (found,) = report["references"]
    assert (found["policy"], found["success"]) == ("hold-state", [None, None])
    for task, stage in enumerate(report["stages"]):
        (held_out,) = stage["held_out_episodes"]
        document = evaluate(held, dataset, str(held_out), max_frames=12, latency=False).document
        assert found["error"][task]["value"] == pytest.approx(document["mean_over_joints"]["mae"], rel=1e-5)


def test_the_report_is_there_to_be_read(finished: Path) -> None:
    text = (finished / "report.md").read_text()
    assert "| after stage | red | blue |" in text
    assert "| blue | tiny (" in text
    assert "| 0.4, 0.6 |" in text
    assert "| hold-state (to compare) | " in text
    assert (finished / "report.png").read_bytes().startswith(b"\x89PNG")
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert "Mean forgetting" in page
    assert "遗忘量" in page


def test_one_scale_is_settled_before_the_first_stage_and_kept(finished: Path, tiny_dataset: Path) -> None:
    actions = open_dataset(tiny_dataset).actions.astype(np.float64)
    for name in ("1_red", "2_blue"):
        found = load_policy(finished / "stages" / name).statistics[ACTION]
        np.testing.assert_allclose(found["mean"], actions.mean(axis=0), atol=1e-6)
        np.testing.assert_allclose(found["std"], actions.std(axis=0), atol=1e-6)


def test_every_bundle_says_which_stages_it_went_through(finished: Path, report: dict[str, Any]) -> None:
    first, second = (load_policy(finished / "stages" / name).lineage for name in ("1_red", "2_blue"))
    assert [stage["name"] for stage in first["stages"]] == ["red"]
    assert second["stages"] == report["stages"]
    assert (second["stages"][1]["replay"], second["stages"][1]["lr"]) == ([0.4, 0.6], 1e-3)
    assert second["stages"][0]["init"] == "preset tiny"
    # The fine-tuned policy names its parent, and what it drew its samples from.
    assert second["parent"]["stages"] == first["stages"]
    assert [(entry["name"], entry["share"]) for entry in second["mixture"]] == [("blue", 0.6), ("red", 0.4)]


def test_the_last_bundle_keeps_the_highest_limits_of_all_stages(finished: Path, tiny_dataset: Path) -> None:
    dataset = open_dataset(tiny_dataset)
    policies = [load_policy(finished / "stages" / name) for name in ("1_red", "2_blue")]
    highest = np.zeros(3)
    for policy in policies:
        own = policy.lineage.get("mixture") or [policy.lineage]
        for entry in own:
            parts = [dataset.actions[dataset.episode_index == one].astype(float) for one in entry["trained_episodes"]]
            steps = np.concatenate([np.abs(np.diff(part, axis=0)) for part in parts])
            highest = np.maximum(highest, 1.5 * np.quantile(steps, 0.999, axis=0) * dataset.meta.fps)
        assert policy.demonstrated is not None
        assert [joint.velocity for joint in policy.demonstrated.joints] == pytest.approx(highest.tolist())
    first, second = (policy.demonstrated for policy in policies)
    assert first is not None
    assert second is not None
    # What is replayed in the second stage are the demonstrations of the first, and counted once.
    assert len(second.origins) == 2
    assert second.origins[1] == first.origins[0]


def test_the_folder_stands_for_its_last_policy(finished: Path) -> None:
    policy = load_policy(finished)
    assert policy.instructions == ["push the blue block", "touch the red block"]
    assert (finished / "checkpoints").readlink() == Path("stages/2_blue/checkpoints")
    options = [load_config(finished / "stages" / name) for name in ("1_red", "2_blue")]
    assert [one.augment for one in options] == [{"crop": 0.5}, {}]
    assert [one.batch_size for one in options] == [4, 4]
    # Stage 2 begins with the best policy of stage 1.
    assert options[1].policy == str(finished / "stages" / "1_red" / "checkpoints" / "best")


def test_its_status_is_that_of_the_stage_it_stands_in(finished: Path, tmp_path: Path) -> None:
    status = run_status(finished)
    assert (status.state, status.stage, status.run) == ("finished", "stage 2 of 2: blue", str(finished))
    stopped = tmp_path / "out"
    shutil.copytree(finished, stopped, symlinks=True)
    shutil.rmtree(stopped / "stages" / "2_blue")
    assert (run_status(stopped).state, run_status(stopped).stage) == ("stopped", "stage 1 of 2: red")


@pytest.mark.parametrize(("stage", "step"), [("1_red", 1), ("2_blue", 3)])
def test_a_killed_sequence_resumes_in_its_stage_and_ends_in_the_same_bits(
    finished: Path, tiny_dataset: Path, tmp_path: Path, stage: str, step: int
) -> None:
    out = tmp_path / "out"
    script = (
        "import os, signal, sys; from smolpilot.cli.main import main; from smolpilot.training.run.loop import Trainer\n"
        "ordinary = Trainer._step\n"
        "def with_kill(self, inputs):\n"
        "    ordinary(self, inputs)\n"
        f"    if self.options.out.name == '{stage}' and self.state.step == {step}:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "Trainer._step = with_kill\n"
        f"main(['train', '--stages', '{plan_file(tmp_path, tiny_dataset)}', '--out', '{out}'])\n"
    )
    killed = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert (out / "stages" / stage).is_dir()
    torch.manual_seed(999)
    train(TrainOptions(out=out, resume=True))
    for name in ("1_red", "2_blue"):
        expected, found = weights(finished / "stages" / name), weights(out / "stages" / name)
        assert expected.keys() == found.keys()
        assert [key for key in expected if not torch.equal(expected[key], found[key])] == []
    assert (out / "report.json").read_text() == (finished / "report.json").read_text()


def test_killed_between_training_and_judging_only_judges(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out, symlinks=True)
    result = out / "stages" / "2_blue" / "stage.json"
    expected = result.read_text()
    result.unlink()
    for name in ("report.json", "report.md", "report.png", "report.html"):
        (out / name).unlink()
    before = (out / "stages" / "2_blue" / "checkpoints" / "last" / "model.safetensors").stat().st_mtime_ns
    train(TrainOptions(out=out, resume=True))
    assert result.read_text() == expected
    assert (out / "report.json").read_text() == (finished / "report.json").read_text()
    assert (out / "stages" / "2_blue" / "checkpoints" / "last" / "model.safetensors").stat().st_mtime_ns == before


def copy_before_blue(finished: Path, out: Path, gate: str, tiny_dataset: Path) -> None:
    """The sequence as it stood after its first stage, with another gate for the second."""
    shutil.copytree(finished, out, symlinks=True, ignore=shutil.ignore_patterns("2_*", "report.*"))
    plan = load_plan(plan_file(out.parent, tiny_dataset, gate=gate))
    (out / "stages.yaml").write_text(plan_text(plan))


def test_a_stage_that_fails_its_gate_is_tried_again_and_then_stops(
    finished: Path, tiny_dataset: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    copy_before_blue(
        finished, out, "{new: 1.0e-6, old: 100, retries: 1, retry_lr: 0.1, retry_steps: 0.5}", tiny_dataset
    )
    with pytest.raises(
        TrainingError, match=r"blue did not pass its gate: the error on blue is .* its gate 1e-06"
    ) as stop:
        train(TrainOptions(out=out, resume=True))
    assert "after 2 attempts" in stop.value.expected
    first, second = (load_config(out / "stages" / name) for name in ("2_blue.attempt1", "2_blue"))
    assert (first.lr, first.steps, second.steps) == (1e-3, 4, 2)
    assert second.lr == pytest.approx(1e-4)
    assert load_policy(out / "stages" / "2_blue").lineage["stages"][1]["attempt"] == 2
    # The policy to use is still that of the stage that passed.
    assert (out / "checkpoints").readlink() == Path("stages/1_red/checkpoints")
    # A gate may be edited, and is read anew.
    with pytest.raises(TrainingError, match="did not pass its gate"):
        train(TrainOptions(out=out, resume=True))
    (out / "stages.yaml").write_text((out / "stages.yaml").read_text().replace("new: 1.0e-06", "new: 100.0"))
    train(TrainOptions(out=out, resume=True))
    assert (out / "checkpoints").readlink() == Path("stages/2_blue/checkpoints")
    assert load_config(out / "stages" / "2_blue").steps == 2


def test_a_gate_on_old_tasks_may_let_the_sequence_go_on(
    finished: Path, tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy_before_blue(finished, tmp_path / "out", "{old: 1.0e-6, otherwise: continue}", tiny_dataset)
    train(TrainOptions(out=tmp_path / "out", resume=True))
    assert "WARNING: stage blue: the error on red is" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": Path("x")}, "--dataset and --stages exclude each other"),
        ({"steps": 4}, "--steps and --stages exclude each other"),
        ({"out": None}, "--out is missing"),
        ({"held_out": 0.0001, "units": {"elbow": "deg"}}, "names the joint 'elbow'"),
        ({"tokenizer": None, "policy": "x"}, "Stage red: --policy and --preset/--from-scratch exclude each other"),
        ({"clip": -1.0}, "Stage red: --clip is -1.0"),
    ],
)
def test_contradictory_options_are_refused_before_anything_is_trained(
    tiny_dataset: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    options = TrainOptions(stages=plan_file(tmp_path, tiny_dataset), out=tmp_path / "out")
    with pytest.raises(UsageError, match=message):
        train(dataclasses.replace(options, **changes))
    assert not (tmp_path / "out").exists()


def test_a_stage_without_held_out_episodes_is_refused(tiny_dataset: Path, tmp_path: Path) -> None:
    path = plan_file(tmp_path, tiny_dataset)
    path.write_text(path.read_text().replace("'1,3,5'", "'1'"))
    with pytest.raises(UsageError, match="Stage blue holds no episode out"):
        train(TrainOptions(stages=path, out=tmp_path / "out"))


def test_an_existing_folder_is_not_written_into(finished: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="already contains a run") as error:
        train(TrainOptions(stages=plan_file(tmp_path, tiny_dataset), out=finished))
    assert "--resume" in error.value.fix


def test_the_command_prints_the_tables_and_resumes(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--resume", "--out", str(finished)]) == 0
    out = capsys.readouterr().out
    assert "after stage" in out
    assert "backward transfer" in out
    assert str(finished / "report.md") in out


def kuavo_recording(path: Path, profile: RobotProfile, text: str, seed: int) -> Path:
    """Three short made-up episodes of 16 joints, with the profile's cameras at a small size."""
    names = [joint.name for joint in profile.joints]
    cameras = dict.fromkeys(profile.camera_names, (32, 32))
    generator = np.random.default_rng(seed)
    with DatasetWriter(
        path, fps=10, state_names=names, action_names=names, cameras=cameras, robot_type="kuavo"
    ) as writer:
        for _ in range(3):
            start = generator.uniform(0.0, 0.3, len(names))
            for frame in range(9):
                value = (start * np.cos(frame / 4 + np.arange(len(names)))).astype(np.float32)
                pictures = {
                    f"observation.images.{name}": np.full((32, 32, 3), 20 * frame, np.uint8) for name in cameras
                }
                writer.add_frame({"observation.state": value, "action": value, "task": text, **pictures})
            writer.end_episode()
    return path


def test_the_kuavo_recipe_runs_on_sixteen_joints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = RobotProfile.load("kuavo")
    recipe = Path(__file__).parents[3] / "examples" / "kuavo_stages.yaml"
    for number, stage in enumerate(load_plan(recipe).stages):
        kuavo_recording(tmp_path / stage.dataset, profile, stage.name, number)
    meta = open_dataset(tmp_path / "data" / "kuavo" / "pick").meta
    base = save_bundle(new_policy("tiny", meta=meta, profile=profile, device="cpu"), tmp_path / "base")
    monkeypatch.chdir(tmp_path)  # the recipe's paths are relative
    Path("plan.yaml").write_text(recipe.read_text().replace("epochs: 20", "epochs: 0.2"))
    words = ["train", "--stages", "plan.yaml", "--out", "out", "--policy", str(base), "--batch-size", "2",
             "--eval-frames", "4", "--device", "cpu", "--norm-stats", "dataset"]  # fmt: skip
    assert main(words) == 0
    report = json.loads(Path("out/report.json").read_text())
    assert [len(row) for row in report["error"]["matrix"]] == [1, 2, 3, 4]
    assert report["unit"] == "std"  # radians and opened hands have no common unit
    assert [stage["lr"] for stage in report["stages"]] == [1e-4, 5e-5, 3e-5, 2e-5]
    policy = load_policy("out")
    assert (policy.config.action_dim, policy.n_action_steps) == (16, 8)
    shares = [entry["share"] for entry in policy.lineage["mixture"]]
    assert shares == [0.6, 0.1, 0.1, 0.2]  # its own first
    assert not policy.model.context_is_trained
    # Frozen vision and language did not move in any stage; the expert did.
    before, after = (load_file(folder / "model.safetensors") for folder in (base, Path("out/checkpoints/last")))
    moved = [key for key in before if not torch.equal(before[key], after[key])]
    assert moved
    assert not [key for key in moved if "vlm.model" in key]
