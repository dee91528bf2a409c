"""What `train --resume`, `status` and `watch` say of a path that is no run: a checkpoint, LeRobot's run, nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from smolpilot.cli.main import main
from smolpilot.smolvla.checkpoint.locate import locate

TINY = ["--preset", "tiny", "--from-scratch", "--batch-size", "4", "--chunk-size", "4", "--eval-frames", "4",
        "--device", "cpu"]  # fmt: skip
ADVICE_OF_TRAIN = ("leave out --resume", "check --out")


@pytest.fixture(scope="module")
def finished(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "first"
    args = ["train", "--dataset", str(tiny_dataset), *TINY, "--steps", "2", "--save-every", "1", "--keep", "3"]
    assert main([*args, "--out", str(run)]) == 0
    return run


def refused(capsys: pytest.CaptureFixture[str], args: list[str]) -> str:
    capsys.readouterr()
    assert main(args) == 2
    said = capsys.readouterr().err
    assert not any(words in said for words in ADVICE_OF_TRAIN)
    return said


@pytest.mark.parametrize("place", ["checkpoints/last", "checkpoints", "config.yaml", "checkpoints/step_000002"])
def test_a_place_in_a_run_stands_for_the_run(finished: Path, place: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(finished / place), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["run"] == str(finished)
    assert main(["watch", str(finished / place)]) == 0


def test_resume_takes_a_checkpoint_for_its_run_and_others_spellings(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run, symlinks=True)
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("steps: 2", "steps: 3"))
    assert main(["train", "--resume", str(run / "checkpoints" / "last")]) == 0
    assert (run / "checkpoints" / "step_000003").is_dir()
    config.write_text(config.read_text().replace("steps: 3", "steps: 4"))
    assert main(["train", "--resume=true", "--out", str(run / "checkpoints" / "step_000003" / "training_state")]) == 0
    assert (run / "checkpoints" / "step_000004").is_dir()


def test_resume_takes_no_older_checkpoint(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = finished / "checkpoints" / "step_000001"
    said = refused(capsys, ["train", "--resume", "--out", str(old)])
    assert f"--policy {old}" in said
    assert f"--resume --out {finished}" in said


def test_a_run_of_lerobot_is_named_with_what_can_be_done(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "outputs" / "train"
    weights = run / "checkpoints" / "000020" / "pretrained_model"
    shutil.copytree(finished / "checkpoints" / "last", weights)
    shutil.rmtree(weights / "training_state")
    (weights / "train_config.json").write_text(json.dumps({"dataset": {"repo_id": "me/rec"}, "policy": {}}))
    (run / "checkpoints" / "000020" / "training_state").mkdir()
    (run / "checkpoints" / "000003").mkdir()
    for links in (False, True):
        if links:
            (run / "checkpoints" / "last").symlink_to("000020")
        for place in (run, run / "checkpoints", weights, weights.parent, weights.parent / "training_state"):
            said = refused(capsys, ["train", "--resume", "--out", str(place)])
            assert "a run of LeRobot" in said
            assert "pretrained_model --dataset DATASET" in said
            said = refused(capsys, ["status", str(place)])
            assert "a run of LeRobot" in said
            assert "smolpilot eval" in said
        for place in (run, weights.parent, weights):
            assert locate(place).folder == weights
    assert main(["bundle", str(run), "--json"]) == 0


def test_other_paths(finished: Path, tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(finished / "checkpoints" / "last", tmp_path / "bundle")
    said = refused(capsys, ["train", "--resume", "--out", str(tmp_path / "bundle")])
    assert f"train --policy {tmp_path / 'bundle'}" in said
    assert f"smolpilot bundle {tmp_path / 'bundle'}" in refused(capsys, ["status", str(tmp_path / "bundle")])
    assert "is a dataset" in refused(capsys, ["status", str(tiny_dataset)])
    (tmp_path / "runs").mkdir()
    shutil.copytree(finished, tmp_path / "runs" / "one", symlinks=True)
    for verb in ("status", "watch"):
        said = refused(capsys, [verb, str(tmp_path / "runs" / "two")])
        assert f"Fix: smolpilot {verb} {tmp_path / 'runs' / 'one'}" in said
        assert str(tmp_path / "runs" / "one") in refused(capsys, [verb, str(tmp_path)])
    (tmp_path / "empty").mkdir()
    assert "There is no run in" in refused(capsys, ["status", str(tmp_path / "empty" / "a" / "b")])
    # Another program's config.yaml above is no run.
    (tmp_path / "config.yaml").write_text("hydra: 1\n")
    assert "There is no run in" in refused(capsys, ["status", str(tmp_path / "empty")])


def test_a_run_that_prepares_is_there_and_says_so(
    tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import smolpilot.training.run.run as run_module

    run, seen = tmp_path / "run", []
    ordinary = run_module.prepare  # type: ignore[attr-defined]

    def looked_at(*args: object, **kwargs: object) -> object:
        seen.append((main(["status", str(run)]), capsys.readouterr().out))
        seen.append((main(["train", *args_of_run]), capsys.readouterr().err))
        return ordinary(*args, **kwargs)  # type: ignore[arg-type]

    args_of_run = ["--dataset", str(tiny_dataset), *TINY, "--steps", "1", "--out", str(run)]
    # A kill in the preparation leaves a folder that the same command replaces.
    run.mkdir()
    (run / "preparing.json").write_text(json.dumps({"pid": 2**30, "created": 0, "steps": 1}))
    assert main(["status", str(run)]) == 1
    assert "stopped before its first step" in capsys.readouterr().out
    assert "without --resume" in refused(capsys, ["train", "--resume", "--out", str(run)])
    monkeypatch.setattr(run_module, "prepare", looked_at)
    assert main(["train", *args_of_run]) == 0
    (code, shown), (again, said) = seen
    assert code == 0
    assert "preparing" in shown
    assert again == 2
    assert "is preparing a run" in said
    assert sorted(path.name for path in run.iterdir()) == [
        "checkpoints", "config.yaml", "environment.json", "metrics.jsonl", "tensorboard",
    ]  # fmt: skip
    # What fails while it prepares leaves nothing.
    args_of_run[-1] = str(run := tmp_path / "other")
    monkeypatch.setattr(run_module, "prepare", ordinary)
    assert main(["train", *args_of_run, "--robot", "unitree_g1"]) != 0
    assert not run.exists()
