"""`smolpilot status` and `watch`: read from the folder alone, honest about life and trouble."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from smolpilot.cli.main import main
from smolpilot.common.errors import UsageError
from smolpilot.training import TrainOptions
from smolpilot.training.options.train_options import resolve
from smolpilot.training.run.run_folder import PROCESS, create, run_lock
from smolpilot.training.status import run_status


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder of 100 steps without a line."""
    out = tmp_path / "run"
    create(out, resolve(TrainOptions(dataset=tmp_path, out=out, preset="tiny", from_scratch=True, steps=100)), {})
    return out


def write(run: Path, losses: list[Any], *, start: int = 1, **changes: Any) -> None:
    values = {"lr": 1e-3, "grad_norm": 1.0, "epoch": 0.5, "samples_per_s": 64.0, "data_wait": 0.02, "memory_gb": 1.0}
    with (run / "metrics.jsonl").open("a") as file:
        for number, loss in enumerate(losses):
            line = {"step": start + number, "kind": "train", "loss": loss, **values, **changes}
            file.write(json.dumps(line) + "\n")


def validate(run: Path, scores: list[float | None]) -> None:
    with (run / "metrics.jsonl").open("a") as file:
        for number, score in enumerate(scores):
            line = {"step": 10 * number, "kind": "validation", "score": score, "unit": "rad"}
            file.write(json.dumps(line) + "\n")


def advice(run: Path) -> str:
    return json.dumps(run_status(run).warnings)


def test_a_healthy_run(run: Path) -> None:
    write(run, [1 / (1 + step) for step in range(40)])
    validate(run, [0.5, 0.4, 0.3])
    (run / "checkpoints" / "step_000040").mkdir()
    (run / "checkpoints" / "best").symlink_to("step_000040")
    with run_lock(run):
        status = run_status(run)
        assert status.state == "running"
    assert (status.step, status.steps, status.trend, status.best) == (40, 100, "falling", "step_000040")
    assert status.left_s == pytest.approx(60 * 32 / 64)
    assert [value["score"] for value in status.validations] == [0.5, 0.4, 0.3]
    assert status.warnings == []
    assert run_status(run).state == "stopped"
    (run / "checkpoints" / "step_000100").mkdir()
    assert run_status(run).state == "finished"


def test_another_process_with_the_same_number_is_not_the_run(run: Path) -> None:
    created = psutil.Process().create_time()
    (run / PROCESS).write_text(json.dumps({"pid": os.getpid(), "created": created - 1000}))
    assert run_status(run).state == "stopped"
    (run / PROCESS).write_text("{")
    assert run_status(run).state == "stopped"


def test_a_run_that_lives_but_says_nothing(run: Path) -> None:
    write(run, [1.0, 0.9])
    os.utime(run / "metrics.jsonl", (1e9, 1e9))
    with run_lock(run):
        status = run_status(run)
    assert status.state == "silent"
    assert "has written nothing for long" in json.dumps(status.warnings)


@pytest.mark.parametrize(
    ("losses", "changes", "words"),
    [
        ([1.0] * 40, {}, "The loss is flat"),
        ([0.1 * 1.1**i for i in range(40)], {}, "The loss is rising"),
        ([1 / (1 + i) for i in range(40)], {"data_wait": 0.6}, "60% of the time"),
        ([1 / (1 + i) for i in range(40)], {"lr": 5e-5}, "at its floor"),
        ([0.5, 0.4, None], {}, "not a finite number"),
    ],
)
def test_trouble_is_named_with_advice(run: Path, losses: list[Any], changes: dict[str, Any], words: str) -> None:
    write(run, losses, **changes)
    assert words in advice(run)


def test_validation_trouble(run: Path) -> None:
    write(run, [1 / (1 + step) for step in range(40)])
    validate(run, [0.5, 0.3, 0.4, 0.45])
    assert "has grown since its best" in advice(run)
    validate(run, [None])
    assert "predicted NaN" in advice(run)


def test_before_the_first_line(run: Path) -> None:
    status = run_status(run)
    assert (status.step, status.loss, status.trend, status.warnings) == (0, None, None, [])


def test_command_line(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(run, [1 / (1 + step) for step in range(40)])
    assert main(["status", str(run)]) == 0
    shown = capsys.readouterr().out
    assert "step         40 of 100 (40%)" in shown
    assert "resume with: smolpilot train --resume" in " ".join(shown.split())
    assert main(["status", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 100
    write(run, [1.0] * 30, start=41)
    assert main(["status", str(run)]) == 1
    assert "warning: The loss is" in capsys.readouterr().out
    assert main(["status", str(tmp_path)]) == 2
    assert "There is no run" in capsys.readouterr().err
    with pytest.raises(UsageError, match=r"There is no run in .*nowhere"):
        run_status(tmp_path / "nowhere")


def test_watch_ends_with_the_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(run, [1 / (1 + step) for step in range(40)])
    assert main(["watch", str(run), "--every", "0.01"]) == 0
    assert "40 of 100" in capsys.readouterr().out
    assert main(["watch", str(run), "--every", "0"]) == 2


def test_status_loads_no_torch(run: Path) -> None:
    write(run, [1.0])
    code = "import sys; from smolpilot.cli.main import main; main(sys.argv[1:]); assert 'torch' not in sys.modules"
    words = [sys.executable, "-c", code, "status", str(run)]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "1 of 100" in ended.stdout


def test_status_shows_memory_and_cores_of_a_running_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(run, [1.0, 0.9])
    with run_lock(run):
        status = run_status(run)
        assert status.cpu_cores is not None
        assert status.process_gb is not None
        assert 0 < status.process_gb < 100
        main(["status", str(run)])
    assert "CPU cores" in capsys.readouterr().out
    assert run_status(run).cpu_cores is None


def test_a_gpu_is_asked_only_for_a_run_that_uses_one(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho '0, 87, 6123, 8192, 71'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tool.parent), prepend=":")
    with run_lock(run):
        assert run_status(run).gpu is None
        (run / "environment.json").write_text(json.dumps({"device": "cuda:0"}))
        assert run_status(run).gpu == "GPU 0: 87 % busy, 6123 of 8192 MiB, 71 °C"


def test_overflowing_steps_are_named(run: Path) -> None:
    write(run, [1 / (1 + step) for step in range(40)], skipped_steps=1)
    assert "overflowed float16" in advice(run)


# -- each warning from both sides --------------------------------------------------------------------------------------

FALLING = [1 / (1 + step) for step in range(60)]


def run_of(folder: Path, **changes: Any) -> Path:
    out = folder / "run"
    given: dict[str, Any] = {"preset": "tiny", "from_scratch": True, "steps": 100, "decay_lr": 5e-5}
    create(out, resolve(TrainOptions(dataset=folder, out=out, **given | changes)), {})
    return out


@pytest.mark.parametrize(
    ("warmup", "step", "rate", "warned"),
    [
        # A rate at the floor is the warm-up's until it is over for as long as it took.
        (0, 1, 5e-5, True),
        (0, 1, 5.1e-5, False),
        (0, 1, 5.04e-5, True),
        (10, 20, 5e-5, False),
        (10, 21, 5e-5, True),
        # Near the end it is where it belongs.
        (0, 89, 5e-5, True),
        (0, 90, 5e-5, False),
    ],
)
def test_a_rate_at_its_floor(tmp_path: Path, warmup: int, step: int, rate: float, warned: bool) -> None:
    run = run_of(tmp_path, warmup_steps=warmup)
    write(run, [1.0], start=step, lr=rate)
    assert ("at its floor" in advice(run)) == warned


@pytest.mark.parametrize(
    ("losses", "start", "words"),
    [
        # The mean of the last fifth of the lines against the fifth before: 98 % is flat, 105 % is not yet rising.
        ([1.0] * 48 + [0.99] * 12, 1, "The loss is flat"),
        ([1.0] * 48 + [0.97] * 12, 1, ""),
        ([1.0] * 48 + [1.04] * 12, 1, "The loss is flat"),
        ([1.0] * 48 + [1.06] * 12, 1, "The loss is rising"),
        # Not before a fifth of the run, and not at its end.
        ([1.0] * 20, 1, ""),
        ([1.0] * 21, 1, "The loss is flat"),
        ([1.0] * 21, 69, "The loss is flat"),
        ([1.0] * 21, 70, ""),
        # Two lines are no trend.
        ([1.0] * 9, 41, ""),
        ([1.0] * 10, 41, "The loss is flat"),
    ],
)
def test_a_loss_that_does_not_fall(tmp_path: Path, losses: list[float], start: int, words: str) -> None:
    run = run_of(tmp_path)
    write(run, losses, start=start)
    said = [one["what"] for one in run_status(run).warnings]
    assert said == ([f"{words}."] if words else [])


@pytest.mark.parametrize(("waits", "warned"), [([0.9] + [0.29] * 5, False), ([0.0] + [0.31] * 5, True),
                                               ([0.0, 0.0, 0.4, 0.4, 0.4, 0.4], True),
                                               ([0.0, 0.0, 0.0, 0.4, 0.4, 0.4], False)])  # fmt: skip
def test_waiting_for_data_is_the_mean_of_the_last_five_lines(run: Path, waits: list[float], warned: bool) -> None:
    for number, wait in enumerate(waits):
        write(run, [FALLING[number]], start=number + 1, data_wait=wait)
    assert ("waiting for data" in advice(run)) == warned


@pytest.mark.parametrize(("lines", "skipped", "warned"), [(11, 1, False), (11, 2, True), (10, 5, False)])
def test_steps_left_out(run: Path, lines: int, skipped: int, warned: bool) -> None:
    """More than a fifth of the steps of the last five lines, once there are more than ten lines."""
    write(run, FALLING[: lines - 1])
    write(run, [FALLING[lines - 1]], start=lines, skipped_steps=skipped)
    assert ("overflowed float16" in advice(run)) == warned


@pytest.mark.parametrize(
    ("scores", "warned"),
    [
        ([0.5, 0.3, 0.32, 0.344], False),
        ([0.5, 0.3, 0.32, 0.346], True),
        # The best is one of the last two, or there are too few.
        ([0.5, 0.4, 0.3, 0.4], False),
        ([0.3, 0.4], False),
    ],
)
def test_a_held_out_error_that_grows(run: Path, scores: list[float | None], warned: bool) -> None:
    write(run, FALLING)
    validate(run, scores)
    assert ("has grown since its best" in advice(run)) == warned


@pytest.mark.parametrize(("seconds", "state"), [(110, "running"), (130, "silent")])
def test_silence_begins_after_two_minutes(run: Path, seconds: float, state: str) -> None:
    write(run, [1.0, 0.9])
    then = time.time() - seconds
    os.utime(run / "metrics.jsonl", (then, then))
    with run_lock(run):
        assert run_status(run).state == state


def test_a_slow_run_may_be_silent_for_ten_of_its_steps(run: Path) -> None:
    write(run, [1.0, 0.9], samples_per_s=1.0)  # a batch of 32: a step takes 32 s
    with run_lock(run):
        for seconds, state in ((310, "running"), (330, "silent")):
            then = time.time() - seconds
            os.utime(run / "metrics.jsonl", (then, then))
            assert run_status(run).state == state


@pytest.mark.parametrize(("losses", "warned"), [([None, 0.5, 0.4, 0.3], False), ([None, 0.5, 0.4], True)])
def test_a_loss_that_is_no_number_is_told_of_the_last_three_lines(
    run: Path, losses: list[float | None], warned: bool
) -> None:
    write(run, losses)
    assert ("not a finite number" in advice(run)) == warned


def test_how_long_patience_still_lasts(tmp_path: Path) -> None:
    run = run_of(tmp_path, patience=5)
    validate(run, [0.5, 0.3, 0.4, 0.45])
    assert run_status(run).patience == "2 of 5"
    validate(run, [None])
    assert run_status(run).patience == "3 of 5"
    (tmp_path / "never").mkdir()
    never = run_of(tmp_path / "never", patience=5)
    validate(never, [None, None])
    assert run_status(never).patience == "2 of 5"
