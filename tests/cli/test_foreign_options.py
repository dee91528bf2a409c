"""Options, files and verbs of LeRobot and of other trainers, typed by habit: a line each, and our command."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from smolpilot.cli.main import main
from smolpilot.cli.parsing.options import parse
from smolpilot.training import TrainOptions


def refused(capsys: pytest.CaptureFixture[str], args: list[str]) -> str:
    """Run the command, expect misuse without a traceback, and return what it said."""
    assert main(args) == 2
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    assert captured.out == ""
    return captured.err


def command_in(said: str) -> list[str]:
    """The words of the command after `Fix:`, without the program's name."""
    (found,) = re.findall(r"Fix: smolpilot (.*)", said)
    return shlex.split(found)


def test_the_command_of_lerobots_documentation_is_answered_line_by_line(capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(
        capsys,
        ["train", "--policy.path=data/base", "--policy.device=cpu", "--dataset.root=data/my rec",
         "--dataset.repo_id=me/rec", "--batch_size=2", "--num_workers=0", "--steps=2", "--output_dir=data/run",
         "--job_name=x", "--save_freq=1000", "--wandb.enable=false", "--policy.type=smolvla", "--env.type=pusht"],
    )  # fmt: skip
    for line in (
        "--policy.path -> --policy data/base",
        "--dataset.root -> --dataset 'data/my rec'",
        "--dataset.repo_id: not needed",
        "--num_workers -> --workers 0",
        "--output_dir -> --out data/run",
        "--save_freq -> --save-every 1000",
        "--wandb.enable: not needed",
        "--policy.type: not needed",
        "--env.type: no equivalent",
    ):
        assert line in said
    verb, *words = command_in(said)
    assert verb == "train"
    found = parse(TrainOptions, words, verb="train")
    assert (found.policy, str(found.dataset), str(found.out)) == ("data/base", "data/my rec", "data/run")
    assert (found.steps, found.batch_size, found.workers, found.save_every, found.device) == (2, 2, 0, 1000, "cpu")


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        (["--policy.optimizer_lr", "3e-4"], "lr", 3e-4),
        (["--learning-rate=3e-4"], "lr", 3e-4),
        (["--Learning_Rate", "3e-4"], "lr", 3e-4),
        (["--lr_rate", "3e-4"], "lr", 3e-4),
        (["--max_steps=7"], "steps", 7),
        (["--dataset.episodes=[0, 3, 5]"], "episodes", "0,3,5"),
        (["--use_amp"], "dtype", "bfloat16"),
        (["--policy.use_amp=false"], "dtype", "float32"),
        (["--fp16"], "dtype", "float16"),
        (["--eval_freq", "50"], "eval_every", 50),
        (["--eval_steps=50"], "eval_every", 50),
        (["--dataset.eval_split=0.2"], "held_out", 0.2),
        (["--peft.r=8"], "lora", 8),
        (["--policy.use_peft=true"], "lora", 16),
        (["--policy.train_expert_only=false"], "train_expert_only", False),
        (["--policy.freeze_vision_encoder=true"], "freeze_vision", True),
        (["--policy.compile_model=true"], "compile", True),
        (["--wandb.enable=true"], "track", "wandb"),
        (["--dataset.image_transforms.enable=true"], "augment", {"crop": 0.8, "color": 0.8}),
        (
            ['--rename_map={"observation.images.top": "observation.images.camera1", "observation.images.a": "b"}'],
            "camera_map",
            {"top": "camera1", "a": "b"},
        ),
        (["--model", "some/base"], "policy", "some/base"),
        (["--max_grad_norm", "1"], "clip", 1.0),
        (["--early_stopping_patience=3"], "patience", 3),
    ],
)  # fmt: skip
def test_the_suggested_command_carries_the_value(
    capsys: pytest.CaptureFixture[str], words: list[str], field: str, value: object
) -> None:
    given = ["--out", "run", *(["--steps", "5"] if field != "steps" else [])]
    _, *suggested = command_in(refused(capsys, ["train", *given, *words]))
    text = [word for word in suggested if word not in ("STEPS", "DATASET", "POLICY")]
    text = [word for word, after in zip(text, [*text[1:], "--"], strict=True) if not (
        word in ("--dataset", "--policy") and after.startswith("--"))]  # fmt: skip
    assert getattr(parse(TrainOptions, text, verb="train"), field) == value


def test_what_is_missing_and_what_nobody_knows_is_said_in_the_same_error(capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, ["train", "--num-epochs=3", "--gradient_accumulation_steps", "4", "--stepz", "9"])
    assert "--num-epochs: no equivalent (the length is in steps" in said
    assert "--micro-batch" in said
    assert "--stepz: unknown. Did you mean '--steps'?" in said
    assert {"--policy", "--dataset", "--steps", "--out"} <= set(command_in(said))
    assert "no option --stepz" in refused(capsys, ["train", "--stepz", "9"])


@pytest.mark.parametrize(
    ("args", "suggested"),
    [
        (
            ["eval", "--policy.path=base", "--dataset.root=rec", "--policy.device=cpu", "--output_dir=ev"],
            "eval base --dataset rec --device cpu --out ev",
        ),
        (
            ["rollout", "--policy.path=base", "--eval.n_episodes=3", "--env.type=tabletop", "--output_dir", "r"],
            "rollout base --episodes 3 --env tabletop --out r",
        ),
        (["bench", "--policy.path=base", "--policy.num_steps=5"], "bench base --num-steps 5"),
        (["export", "--policy.path=base", "--output_dir=e"], "export base --out e"),
        (["dataset", "info", "--root", "rec"], "dataset info rec"),
        (
            ["dataset", "view", "--root=rec", "--repo-id=me/rec", "--episode-index", "2"],
            "dataset view rec --episodes 2",
        ),
        (
            ["dataset", "exclude", "--root=rec", "--new_root=rest", "--operation.episode_indices=[0, 2]"],
            "dataset exclude rec rest --episodes 0,2",
        ),
        (
            ["record", "--dataset.root=rec", "--dataset.num_episodes=5", "--robot.type=x"],
            "record --out rec --episodes 5",
        ),
        (["preflight", "--policy.path=base", "--dataset.root=rec"], "preflight --policy base --dataset rec"),
    ],
)
def test_other_verbs_answer_too(capsys: pytest.CaptureFixture[str], args: list[str], suggested: str) -> None:
    assert command_in(refused(capsys, args)) == suggested.split()


def test_lerobots_training_configuration_is_recognized(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_LEROBOT_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "pretrained_model"
    folder.mkdir()
    values = {
        "dataset": {"repo_id": "me/rec", "root": None, "episodes": None},
        "env": None,
        "policy": {"type": "smolvla", "optimizer_lr": 5e-5, "device": "cpu", "push_to_hub": True},
        "output_dir": "outputs/train/x", "job_name": "x", "resume": False, "seed": 1000, "num_workers": 4,
        "batch_size": 8, "steps": 20000, "save_freq": 1000,
    }  # fmt: skip
    config = folder / "train_config.json"
    config.write_text(json.dumps(values, indent=2))
    said = refused(capsys, ["train", "--config", str(config)])
    assert "LeRobot's training configuration" in said
    words = command_in(said)
    for option in ("--lr 5e-05", "--batch-size 8", "--steps 20000", "--save-every 1000", "--dataset me/rec"):
        assert option in " ".join(words)
    assert "outputs/train/x" not in said  # that is the other run's folder
    # Beside its weights it is the checkpoint that one goes on from; a folder that holds it is the same.
    (folder / "model.safetensors").write_bytes(b"")
    (tmp_path / "cache" / "me" / "rec" / "meta").mkdir(parents=True)
    (tmp_path / "cache" / "me" / "rec" / "meta" / "info.json").write_text("{}")
    for given in (config, folder):
        words = command_in(refused(capsys, ["train", "--config", str(given)]))
        assert words[words.index("--policy") + 1] == str(folder)
        assert words[words.index("--dataset") + 1] == str(tmp_path / "cache" / "me" / "rec")
    (folder / "config.json").write_text(json.dumps({"type": "smolvla", "input_features": {}}))
    assert f"--policy {folder}" in refused(capsys, ["train", "--config", str(folder / "config.json")])


def test_values_and_flags_of_our_own_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert "Did you mean 'bfloat16'?" in refused(capsys, ["train", "--dtype", "bf16"])
    assert "one of 8, 12, 24, 80, cpu" in refused(capsys, ["train", "--memory=16"])
    for words, value in ((["--compile=true"], True), (["--compile", "false"], False), (["--no_compile"], False)):
        assert parse(TrainOptions, words, verb="train").compile is value
    for words, wanted in (
        (["--freeze-vision"], True), (["--no-freeze-vision"], False), (["--freeze_vision=False"], False), ([], None),
    ):  # fmt: skip
        assert parse(TrainOptions, words, verb="train").freeze_vision is wanted


def test_everything_that_is_missing_is_told_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, ["train", "--device", "cpu"])
    for missing in ("--dataset is missing", "nothing to train", "--steps is missing", "--out is missing"):
        assert missing in said
    said = refused(capsys, ["eval"])
    assert "POLICY, --dataset PATH, --out PATH" in said


@pytest.mark.parametrize(
    ("verb", "ours"),
    [("lerobot-train", "train"), ("fine-tune", "train"), ("evaluate", "eval"), ("info", "dataset info"),
     ("lerobot-dataset-viz", "dataset view"), ("lerobot-record", "record")],
)  # fmt: skip
def test_verbs_of_others(capsys: pytest.CaptureFixture[str], verb: str, ours: str) -> None:
    assert f"smolpilot {ours}." in refused(capsys, [verb])
    assert "lerobot-calibrate" in refused(capsys, ["calibrate"])


def test_keys_of_a_yaml_file_are_answered_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "run.yaml"
    for line, words in (
        ("learning_rate: 1", "Here it is `lr`."),
        ("save_freq: 1", "Here it is `save_every`."),
        ("num_epochs: 3", "the length is in steps"),
        ("stepz: 3", "Did you mean 'steps'?"),
        ("batch-size: 0", "--batch-size is 0"),
    ):
        config.write_text(f"policy: p\ndataset: d\nout: {tmp_path / 'run'}\nsteps: 1\n{line}\n")
        assert words in refused(capsys, ["train", "--config", str(config)])


def test_lerobots_way_to_resume_is_a_new_run_from_its_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "outputs" / "checkpoints" / "last" / "pretrained_model"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "train_config.json").write_text("{}")
    said = refused(capsys, ["train", f"--config_path={folder / 'train_config.json'}", "--resume=true"])
    assert "--resume: no equivalent" in said
    words = command_in(said)
    assert "--resume" not in words
    assert words[words.index("--policy") + 1] == str(folder)
    assert "--dataset" in words
