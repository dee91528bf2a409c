"""`smolpilot train` as a user types it: options, YAML, what is printed, exit codes, Ctrl-C and --resume."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from smolpilot.cli.main import main

TINY = [
    "--preset", "tiny", "--from-scratch", "--batch-size", "4", "--chunk-size", "4", "--eval-frames", "4",
    "--device", "cpu",
]  # fmt: skip


def error_of(capsys: pytest.CaptureFixture[str], args: list[str]) -> str:
    """Run the command, expect exit code 2 without a traceback, and return what it said."""
    code: int | str | None
    try:
        code = main(["train", *args])
    except SystemExit as stop:
        code = stop.code
    captured = capsys.readouterr()
    assert code == 2
    assert "Traceback" not in captured.err
    return re.sub(r"\s+", " ", re.sub(r"[│╭╮╰╯─]", " ", captured.out + captured.err))


def test_a_run_prints_its_settings_and_the_next_command(
    tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(["train", "--dataset", str(tiny_dataset), *TINY, "--steps", "2", "--out", str(out)]) == 0
    captured = capsys.readouterr()
    text = (out / "config.yaml").read_text()
    assert text in captured.out
    values = yaml.safe_load(text)
    assert (values["steps"], values["lr"], values["camera_map"]) == (2, 2e-3, {"front": "front", "wrist": "wrist"})
    assert "3 state and 3 action joints" in captured.out
    assert f"smolpilot eval {out}/checkpoints/best --dataset {tiny_dataset}" in captured.out
    assert "step 2/2" in captured.err
    assert "--episodes" not in captured.out
    # The saved settings, with another folder, are the same run.
    again = tmp_path / "again"
    assert main(["train", "--config", str(out / "config.yaml"), "--out", str(again)]) == 0
    weights = [(run / "checkpoints" / "last" / "model.safetensors").read_bytes() for run in (out, again)]
    assert weights[0] == weights[1]
    assert main(["train", "--config", str(out / "config.yaml")]) == 2
    assert "already contains a run" in capsys.readouterr().err


def test_options_on_the_command_line_win_over_the_yaml_file(
    tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(
        f"dataset: {tiny_dataset}\npreset: tiny\nfrom_scratch: true\nsteps: 0\nlr: 0.001\n"
        "camera_map:\n  front: main\n  wrist: none\n"
    )
    # Steps 0 would be refused: the error shows which value counts.
    assert "--steps is 0" in error_of(capsys, ["--config", str(config), "--out", str(tmp_path / "a")])
    args = ["--config", str(config), "--steps", "1", "--out", str(tmp_path / "b"), "--camera-map", "front=x", "wrist=y"]
    assert main(["train", *args, "--batch-size", "2", "--held-out", "0", "--dtype", "bfloat16", "--device", "cpu"]) == 0
    assert "--episodes all" in capsys.readouterr().out
    saved = yaml.safe_load((tmp_path / "b" / "config.yaml").read_text())
    assert (saved["lr"], saved["steps"], saved["camera_map"]) == (0.001, 1, {"front": "x", "wrist": "y"})


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--preset", "tiny"], "--from-scratch"),
        ([], "nothing to train"),
        (["--preset", "smolvla", "--from-scratch"], "tokenizer"),
        (["--preset", "tiny", "--from-scratch", "--stepz", "4"], "--steps"),
        (["--preset", "tiny", "--from-scratch", "--robot", "so-101"], "Did you mean 'so101'?"),
        (["--preset", "tiny", "--from-scratch", "--camera-map", "front"], "NAME=VALUE"),
        (["--policy", "no/such/folder"], "no/such/folder"),
        (["--preset", "tiny", "--from-scratch", "--device", "gpu"], "device"),
        (["--preset", "tiny", "--from-scratch", "--seed", str(2**64)], "--seed is"),
        (["--preset", "tiny", "--from-scratch", "--episodes", "0,77"], "no episode 77"),
        (["--preset", "tiny", "--from-scratch", "--augment", "colr=0.5"], "Did you mean 'color'?"),
        (["--preset", "tiny", "--from-scratch", "--augment", "crop=2"], "a probability from 0 to 1"),
    ],
)
def test_misuse_is_one_clear_error_with_exit_code_2(
    tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], args: list[str], words: str
) -> None:
    steps = [] if "--stepz" in args else ["--steps", "4"]
    said = error_of(capsys, ["--dataset", str(tiny_dataset), "--out", str(tmp_path / "run"), *steps, *args])
    assert words in said
    assert not (tmp_path / "run").exists()


def test_paths_and_config_keys_that_do_not_exist_are_misuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(tmp_path / "run")]
    assert "does not exist" in error_of(capsys, ["--dataset", str(tmp_path / "no"), *TINY, "--steps", "1", *out])
    (tmp_path / "file").write_text("")
    inside = ["--dataset", str(tmp_path), "--out", str(tmp_path / "file" / "run")]
    assert "which is a file" in error_of(capsys, [*TINY, "--steps", "1", *inside])
    assert "--dataset is missing" in error_of(capsys, [*TINY, "--steps", "1", *out])
    config = tmp_path / "c.yaml"
    config.write_text("learning_rate: 1\n")
    assert "learning_rate" in error_of(capsys, ["--config", str(config), *out])
    config.write_text("steps: 1\nlr: 0.1\nsteps: 2\n")
    assert "'steps' appears twice" in error_of(capsys, ["--config", str(config), *out])
    config.write_text("steps: 1\nunits: {pan: deg, pan: rad}\n")
    assert "'units.pan' appears twice" in error_of(capsys, ["--config", str(config), *out])
    config.write_text("resume: true\nsteps: 1\n")
    assert "`resume` is no setting" in error_of(capsys, ["--config", str(config), *out])
    config.write_bytes(b"\xff\xfe\x00")
    assert "not a text file" in error_of(capsys, ["--config", str(config), *out])
    assert "no run in" in error_of(capsys, ["--resume", *out])
    assert "--out" in error_of(capsys, ["--resume"])
    assert "leave --config out" in error_of(capsys, ["--resume", *out, "--config", str(config)])


def test_ctrl_c_saves_says_how_to_go_on_and_resume_finishes(
    tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-m", "smolpilot.cli.main", "train", "--dataset", str(tiny_dataset), *TINY,
               "--steps", "100000", "--out", str(out), "--log-every", "1"]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 200
        lines = out / "metrics.jsonl"
        try:
            while not (lines.exists() and lines.read_text().count("\n") >= 2):
                assert process.poll() is None, process.communicate()[1]
                assert time.monotonic() < deadline, "two steps were not written within 200 s: no Ctrl-C was tried"
                time.sleep(0.1)
            os.kill(process.pid, signal.SIGINT)
            _, said = process.communicate(timeout=100)
        finally:
            process.kill()
    assert process.returncode == 130, said
    assert re.search(r"Stopped after step \d+ of \d+ \(Ctrl-C\)\. A checkpoint was saved\.", said)
    assert f"smolpilot train --resume --out {out}" in said
    assert "Traceback" not in said
    step = int((out / "checkpoints" / "last").readlink().name.removeprefix("step_"))
    assert lines.read_text().count("\n") == step
    # Shorten the run so that going on ends; the steps are part of what --resume keeps.
    assert "--steps 100000 -> 5" in error_of(capsys, ["--resume", "--out", str(out), "--steps", "5"])
    config = out / "config.yaml"
    config.write_text(config.read_text().replace("steps: 100000", f"steps: {step + 1}"))
    assert main(["train", "--resume", "--out", str(out), "--keep", "1"]) == 0
    assert lines.read_text().count('"kind": "train"') == step + 1
    assert (out / "checkpoints" / "last").readlink().name == f"step_{step + 1:06d}"


def test_help_shows_every_option_without_loading_torch() -> None:
    code = (
        "import sys\nfrom smolpilot.cli.main import main\n"
        "try:\n    main(['train', '--help-all'])\nexcept SystemExit:\n    pass\n"
        "assert 'torch' not in sys.modules and 'av' not in sys.modules and 'pyarrow' not in sys.modules\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for option in ("--dataset", "--robot", "--policy", "--preset", "--from-scratch", "--held-out", "--camera-map",
                   "--norm-stats", "--policy-stats-from", "--tokenizer", "--units", "--resume",
                   "--decay-lr"):  # fmt: skip
        assert option in shown
    assert "--config" in shown


def test_several_seeds_end_with_a_table_and_the_next_command(
    tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "recipe"
    words = ["--dataset", str(tiny_dataset), *TINY, "--steps", "1", "--out", str(out)]
    assert "--seed and --seeds exclude each other" in error_of(capsys, [*words, "--seeds", "0,1", "--seed", "0"])
    assert "--overfit and --seeds exclude each other" in error_of(capsys, [*words, "--seeds", "0,1", "--overfit"])
    assert "seeds" in error_of(capsys, [*words, "--seeds", "0,x"])
    assert main(["train", *words, "--seeds", "0,1"]) == 0
    said = capsys.readouterr().out
    assert "== seed 1, 2 of 2 ==" in said
    assert "training seed" in said
    assert "A claim about a recipe needs 3 training seeds or more" in said
    assert f"smolpilot rollout {out} --env NAME --out {out}/rollout" in said
    assert main(["status", str(out)]) in (0, 1)
    assert "seed 1, 2 of 2" in capsys.readouterr().out
    assert main(["train", "--resume", "--out", str(out)]) == 0
    assert capsys.readouterr().out.count("trained already") == 2
