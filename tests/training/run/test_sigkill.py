"""SIGKILL at any point: the run that goes on ends in the same bits as one that was never interrupted.

The processes run the real command. They are forked from one that has imported everything, since most of the seconds of
a start are imports, in which nothing can be lost.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from smolpilot.common.errors import UsageError
from smolpilot.training import TrainOptions, train
from smolpilot.training.run.checkpoints import Checkpoints, TrainingState
from smolpilot.training.run.metrics_log import read_metrics
from smolpilot.training.run.run_folder import PROCESS

_UNTIMED = {"samples_per_s", "data_wait", "memory_gb"}
_STEPS = 12
# Forks a process for each line of arguments, prints its number, and its exit status when it has ended.
_SERVER = """
import json, os, sys
import torch._dynamo, torch.distributed.fsdp, torch.utils.tensorboard, smolpilot.training.run.run
from smolpilot.cli.main import main
print("ready", flush=True)
for line in sys.stdin:
    words, log = json.loads(line)
    child = os.fork()
    if child == 0:
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(out, 1), os.dup2(out, 2)
        os._exit(main(words))
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""


class Commands:
    """Runs `smolpilot` commands in processes of their own, and kills them."""

    def __init__(self, log: Path) -> None:
        self.log = log
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self._server = subprocess.Popen(
            [sys.executable, "-c", _SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        assert self._line() == "ready"

    def run(self, words: list[str], kill: Callable[[], bool] | None = None) -> int:
        """The wait status of the command; it is killed as soon as `kill` says so."""
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps([words, str(self.log)]) + "\n")
        self._server.stdin.flush()
        process = int(self._line())
        while kill is not None and Path(f"/proc/{process}").exists() and not _ended(process):
            if kill():
                os.kill(process, signal.SIGKILL)
                break
        return int(self._line())

    def close(self) -> None:
        with self._server:  # which closes both pipes and waits
            pass

    def _line(self) -> str:
        assert self._server.stdout is not None
        return self._server.stdout.readline().strip()


def _ended(process: int) -> bool:
    try:
        return " Z " in Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return True


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    found = Commands(tmp_path_factory.mktemp("log") / "log.txt")
    yield found
    found.close()


def words(dataset: Path, out: Path) -> list[str]:
    return [
        *("train", "--dataset", str(dataset), "--out", str(out), "--preset", "tiny", "--from-scratch"),
        *(
            "--steps",
            str(_STEPS),
            "--batch-size",
            "4",
            "--micro-batch",
            "2",
            "--chunk-size",
            "5",
            "--n-action-steps",
            "5",
        ),
        *("--log-every", "1", "--eval-every", "3", "--save-every", "2", "--eval-frames", "6", "--device", "cpu"),
        *("--ema", "0.9", "--patience", "9", "--keep", "3", "--augment", "crop=0.5", "color=0.5"),
    ]


@pytest.fixture(scope="module")
def whole(commands: Commands, tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("sigkill") / "whole"
    assert commands.run(words(tiny_dataset, run)) == 0, commands.log.read_text()
    return run


def lines(run: Path) -> list[dict[str, Any]]:
    found = read_metrics(run / "metrics.jsonl")
    return [{key: value for key, value in line.items() if key not in _UNTIMED} for line in found]


def assert_same(run: Path, whole: Path) -> None:
    assert lines(run) == lines(whole)
    for link in ("last", "best"):
        assert (run / "checkpoints" / link).readlink() == (whole / "checkpoints" / link).readlink()
    for name in ("model.safetensors", "training_state/tensors.safetensors"):
        expected, found = (load_file(folder / "checkpoints" / "last" / name) for folder in (whole, run))
        assert expected.keys() == found.keys()
        assert [key for key in expected if not torch.equal(expected[key], found[key])] == []
    states = [(f / "checkpoints" / "last" / "training_state" / "state.json").read_text() for f in (whole, run)]
    assert states[0] == states[1]
    folders = [sorted(entry.name for entry in (f / "checkpoints").iterdir()) for f in (whole, run)]
    assert folders[0] == folders[1], "something is left over"


def after(condition: Callable[[], bool], seconds: float) -> Callable[[], bool]:
    """True `seconds` after the condition was first met."""
    begin: list[float] = []

    def due() -> bool:
        if not begin and condition():
            begin.append(time.perf_counter())
        return bool(begin) and time.perf_counter() - begin[0] >= seconds

    return due


def said_more(run: Path) -> Callable[[], bool]:
    """Whether the run has written a line since now."""
    path = run / "metrics.jsonl"
    before = path.stat().st_mtime_ns if path.exists() else 0
    return lambda: path.exists() and path.stat().st_mtime_ns > before


def is_saving(run: Path) -> Callable[[], bool]:
    """Whether a checkpoint is being written; leftovers from before now do not count."""
    folder = run / "checkpoints"
    before = set(folder.glob(".step_*")) if folder.exists() else set()
    return lambda: folder.exists() and bool(set(folder.glob(".step_*")) - before)


def test_killed_anywhere_and_gone_on_with(commands: Commands, whole: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    run, draw, kills = tmp_path / "run", random.Random(0), {"saving": 0, "training": 0}
    for kind in ("training", "saving", "saving", "training", "saving", "saving"):
        condition = is_saving(run) if kind == "saving" else said_more(run)
        resumed = ["train", "--resume", "--out", str(run)] if (run / "config.yaml").exists() else None
        status = commands.run(resumed or words(tiny_dataset, run), after(condition, draw.uniform(0, 0.2)))
        if status == 0:
            break
        assert status == signal.SIGKILL, commands.log.read_text()[-3000:]
        kills[kind] += 1
        assert (run / "checkpoints").is_dir()
    else:
        assert commands.run(["train", "--resume", "--out", str(run)]) == 0, commands.log.read_text()[-3000:]
    assert kills["saving"], "no process was killed while it saved"
    assert_same(run, whole)


# -- what a kill can leave, one by one ---------------------------------------------------------------------------------


def test_a_validation_that_the_checkpoint_does_not_know_is_made_once_more(
    commands: Commands, whole: Path, tmp_path: Path
) -> None:
    """Stopped where a validation is due, gone on with, killed after the validation's line."""
    run = tmp_path / "run"
    shutil.copytree(whole, run, symlinks=True)
    (state_file,) = (run / "checkpoints" / "step_000012").rglob("state.json")
    state = json.loads(state_file.read_text())
    state.pop("digests")  # changed on purpose below
    assert state["validated_at"] == 12
    improved = state["best_step"] == 12
    assert not improved, "the test needs a run whose last validation is not its best"
    state_file.write_text(json.dumps({**state, "validated_at": 9, "without_gain": state["without_gain"] - 1}))
    assert commands.run(["train", "--resume", "--out", str(run)]) == 0, commands.log.read_text()[-3000:]
    assert_same(run, whole)


def test_half_done_pointers_and_torn_folders_are_put_right(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    for name in (
        "step_000002",
        "step_000004",
        "step_000006",
        ".step_000005.host-1-0123abcd.partial",
        ".step_000001.old",
    ):
        (folder / name).mkdir(parents=True)
    (folder / "last").symlink_to("step_000004")
    (folder / "best").symlink_to("step_000009")
    Checkpoints(folder, keep=2).finalize(TrainingState(step=6, best_step=2))
    assert sorted(entry.name for entry in folder.iterdir()) == [
        "best", "last", "step_000002", "step_000004", "step_000006",
    ]  # fmt: skip
    assert (folder / "last").readlink() == Path("step_000006")
    assert (folder / "best").readlink() == Path("step_000002")


def test_two_processes_never_train_in_one_folder(whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run, symlinks=True)
    before = (run / "metrics.jsonl").read_bytes()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        created = psutil.Process(other.pid).create_time()
        (run / PROCESS).write_text(json.dumps({"pid": other.pid, "created": created}))
        with pytest.raises(UsageError, match=f"Process {other.pid} is already training in"):
            train(TrainOptions(out=run, resume=True))
        other.communicate(b"\n")
    assert (run / "metrics.jsonl").read_bytes() == before
    # Dead now: the folder is free.
    train(TrainOptions(out=run, resume=True))
    assert not (run / PROCESS).exists()
