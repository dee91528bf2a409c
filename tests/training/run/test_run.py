"""Whole runs of the tiny policy: the run folder, resume without a trace, the best checkpoint, errors on the way."""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from smolpilot.common.errors import CheckpointError, DatasetError, ProfileError, TrainingError, UsageError
from smolpilot.datasets import open_dataset
from smolpilot.datasets.read.prefetch import THREAD
from smolpilot.evaluation.metrics import chunk_errors, chunk_targets
from smolpilot.smolvla import load_policy
from smolpilot.training import TrainingStoppedError, TrainOptions, train
from smolpilot.training.data import batches
from smolpilot.training.run.metrics_log import read_metrics
from smolpilot.training.run.run_folder import load_config

_UNTIMED = {"samples_per_s", "data_wait", "memory_gb"}


def options(dataset: Path, out: Path, **changes: Any) -> TrainOptions:
    base = TrainOptions(
        dataset=dataset, out=out, preset="tiny", from_scratch=True, steps=6, batch_size=4, chunk_size=5,
        n_action_steps=5, log_every=2, eval_every=3, save_every=3, eval_frames=6, device="cpu",
        augment={"crop": 0.5, "color": 0.5},
    )  # fmt: skip
    return dataclasses.replace(base, **changes)


def metrics(run: Path) -> list[dict[str, Any]]:
    lines = read_metrics(run / "metrics.jsonl")
    return [{key: value for key, value in line.items() if key not in _UNTIMED} for line in lines]


def weights(run: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / name / "model.safetensors")


def points_at(run: Path, name: str) -> str:
    return (run / "checkpoints" / name).readlink().name


@pytest.fixture(scope="module")
def finished(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(options(tiny_dataset, tmp_path_factory.mktemp("runs") / "finished"))


def test_the_run_folder_holds_everything_and_loads_as_a_policy(finished: Path, tiny_dataset: Path) -> None:
    assert {"config.yaml", "environment.json", "metrics.jsonl", "tensorboard"} <= {p.name for p in finished.iterdir()}
    assert json.loads((finished / "environment.json").read_text())["packages"]["torch"]
    last = finished / "checkpoints" / "last"
    assert points_at(finished, "last") == "step_000006"
    policy = load_policy(last)
    dataset = open_dataset(tiny_dataset)
    assert policy.lineage["dataset_fingerprint"] == dataset.meta.fingerprint
    assert policy.lineage["step"] == 6
    held_out = policy.lineage["held_out_episodes"]
    assert len(held_out) == 1
    assert set(policy.instructions) == set(dataset.instructions)
    assert policy.predict_chunk(dataset[0]).shape == (5, 3)


def test_weights_move_and_the_lines_tell_steps_rates_and_held_out_errors(finished: Path) -> None:
    lines = metrics(finished)
    assert [(line["step"], line["kind"]) for line in lines] == [
        (2, "train"), (3, "validation"), (4, "train"), (6, "train"), (6, "validation"),
    ]  # fmt: skip
    rates = [line["lr"] for line in lines if line["kind"] == "train"]
    assert rates[0] > rates[1] > rates[2] > 0
    assert all(np.isfinite(line["loss"]) for line in lines if line["kind"] == "train")
    first, last = weights(finished, "step_000003"), weights(finished)
    moved = [name for name in first if not torch.equal(first[name], last[name])]
    # From scratch everything learns: the vision tower, the text model and the expert.
    for part in ("vision_model", "text_model", "lm_expert", "connector", "state_proj"):
        assert any(part in name for name in moved), part


def test_the_held_out_error_is_that_of_the_policys_own_predictions(finished: Path, tiny_dataset: Path) -> None:
    line = [line for line in metrics(finished) if line["kind"] == "validation"][-1]
    policy = load_policy(finished / "checkpoints" / "last")
    dataset = open_dataset(tiny_dataset, episodes=policy.lineage["held_out_episodes"], chunk_size=5)
    rows = np.unique(np.linspace(0, len(dataset) - 1, 6).round().astype(int))
    noise = torch.randn((len(rows), 5, 32), generator=torch.Generator().manual_seed(20_000))
    predicted = policy.predict_chunks([dataset[int(row)] for row in rows], noise=noise).numpy()
    target, is_pad = chunk_targets(dataset.actions, dataset.episode_index, rows, 5)
    mae = chunk_errors(predicted, target, is_pad).mae
    assert [line["mae"][joint] for joint in ("pan", "lift", "gripper")] == pytest.approx(mae.tolist(), abs=1e-5)
    assert line["score"] == pytest.approx(mae.mean(), abs=1e-5)
    assert line["frames"] == 6


def test_best_is_the_checkpoint_with_the_smallest_held_out_error(finished: Path) -> None:
    scores = {line["step"]: line["score"] for line in metrics(finished) if line["kind"] == "validation"}
    best = min(scores, key=lambda step: scores[step])
    assert points_at(finished, "best") == f"step_{best:06d}"


@pytest.mark.parametrize("stop", [4, 3], ids=["between two lines", "where a validation is due"])
def test_a_resumed_run_equals_an_uninterrupted_one(
    finished: Path,
    tiny_dataset: Path,
    tmp_path: Path,
    interrupted_after: Callable[..., AbstractContextManager[None]],
    stop: int,
) -> None:
    run = tmp_path / "run"
    with (
        interrupted_after(stop),
        pytest.raises(TrainingStoppedError, match=f"after step {stop} of 6") as stopped,
    ):
        train(options(tiny_dataset, run))
    assert f"--resume --out {run}" in stopped.value.fix
    assert points_at(run, "last") == f"step_{stop:06d}"
    torch.manual_seed(12345)
    train(TrainOptions(out=run, resume=True))
    expected, found = weights(finished), weights(run)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert metrics(run) == metrics(finished)
    assert points_at(run, "best") == points_at(finished, "best")


def test_a_killed_run_resumes_from_its_last_checkpoint_without_doubled_lines(
    finished: Path, tiny_dataset: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    script = (
        "import os, signal, sys\nfrom pathlib import Path\nsys.path.insert(0, sys.argv[1])\n"
        "from test_run import options\nfrom smolpilot.training import train\n"
        "from smolpilot.training.run.loop import Trainer\n"
        "ordinary = Trainer._log\n"
        "def log(self, around, clock):\n"
        "    ordinary(self, around, clock)\n"
        "    if self.state.step == 4: os.kill(os.getpid(), signal.SIGKILL)\n"
        "Trainer._log = log\ntrain(options(Path(sys.argv[2]), Path(sys.argv[3])))\n"
    )
    command = [sys.executable, "-c", script, str(Path(__file__).parent), str(tiny_dataset), str(run)]
    killed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert killed.returncode == -9, killed.stderr
    assert [line["step"] for line in metrics(run)] == [2, 3, 4]
    assert points_at(run, "last") == "step_000003"
    train(TrainOptions(out=run, resume=True))
    assert metrics(run) == metrics(finished)
    expected, found = weights(finished), weights(run)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_a_run_stopped_before_its_first_checkpoint_begins_again(
    finished: Path, tiny_dataset: Path, tmp_path: Path, interrupted_after: Callable[..., AbstractContextManager[None]]
) -> None:
    run = tmp_path / "run"

    def fail() -> None:
        raise KeyboardInterrupt

    with interrupted_after(1, fail), pytest.raises(KeyboardInterrupt):
        train(options(tiny_dataset, run))
    assert list((run / "checkpoints").iterdir()) == []
    train(TrainOptions(out=run, resume=True))
    assert metrics(run) == metrics(finished)


def test_a_resumed_run_in_local_order_equals_an_uninterrupted_one(
    tiny_dataset: Path,
    tmp_path: Path,
    interrupted_after: Callable[..., AbstractContextManager[None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batches, "WINDOW", 9)  # rounded up to three batches: the run is stopped within a window
    local = {"order": "local", "frames_gb": 0.0, "eval_every": 6}
    whole = train(options(tiny_dataset, tmp_path / "whole", **local, workers=0))
    with interrupted_after(4), pytest.raises(TrainingStoppedError, match="after step 4 of 6"):
        train(options(tiny_dataset, tmp_path / "run", **local, workers=2))
    run = train(TrainOptions(out=tmp_path / "run", resume=True))
    assert metrics(run) == metrics(whole)
    expected, found = weights(whole), weights(run)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    state = json.loads((run / "checkpoints" / "last" / "training_state" / "state.json").read_text())
    assert state["sampler"]["order"] == "local"
    assert state["sampler"]["window"] == 12
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(THREAD)]


def test_a_decoding_process_that_the_system_ends_is_one_clear_error(
    tiny_dataset: Path, tmp_path: Path, interrupted_after: Callable[..., AbstractContextManager[None]]
) -> None:
    before = psutil.Process().children()  # such as the tracker of shared memory, which other tests have started

    def kill() -> None:
        for worker in psutil.Process().children():
            if worker not in before:
                worker.kill()

    expected = r"A process that decodes video ahead has ended: DataLoader worker .*\n.*\nFix: .*--workers 0"
    with interrupted_after(1, kill), pytest.raises(TrainingError, match=expected):
        train(options(tiny_dataset, tmp_path / "run", frames_gb=0.0, workers=1, steps=100))
    assert [one for one in psutil.Process().children() if one not in before] == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(THREAD)]


def test_resume_refuses_another_order(finished: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run", symlinks=True))
    given = dataclasses.replace(load_config(run), out=run, resume=True, order="local")
    with pytest.raises(UsageError, match="these differ: --order random -> local"):
        train(given)
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("order: random", "order: local"))
    with pytest.raises(
        TrainingError, match=r"sample order of this run has changed: the checkpoint has .* now give .*'order': 'local'"
    ):
        train(TrainOptions(out=run, resume=True))


def test_the_order_of_a_run_is_kept_as_it_was_before_it_could_be_chosen(finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run", symlinks=True))
    state = json.loads((run / "checkpoints" / "last" / "training_state" / "state.json").read_text())
    frames = open_dataset(load_config(run).dataset or "", episodes=load_policy(run).lineage["trained_episodes"])
    assert state["sampler"] == {"frames": len(frames), "batch_size": 4, "seed": 0}
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("order: random\n", ""))
    assert load_config(run).order == "random"
    before = metrics(run)
    train(TrainOptions(out=run, resume=True))
    assert metrics(run) == before


def test_resume_refuses_another_dataset(finished: Path, tmp_path: Path) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    shutil.copytree(finished, run, symlinks=True)
    config = (run / "config.yaml").read_text()
    dataset = Path(next(line for line in config.splitlines() if line.startswith("dataset:")).split(": ")[1])
    shutil.copytree(dataset, other)
    stats = other / "meta" / "stats.json"
    stats.write_text(stats.read_text() + "\n")
    (run / "config.yaml").write_text(config.replace(str(dataset), str(other)))
    with pytest.raises(DatasetError, match="not the one the run began with"):
        train(TrainOptions(out=run, resume=True))


def test_a_broken_episode_can_be_left_out_also_when_resuming(tiny_dataset: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny_dataset, broken)
    (table,) = (broken / "data").rglob("*.parquet")
    rows = pq.read_table(table)
    actions = np.array(rows["action"].to_pylist(), dtype=np.float32)
    actions[np.array(rows["episode_index"]) == 2, 1] = np.nan
    column = pa.array(actions.tolist(), type=rows["action"].type)
    pq.write_table(rows.set_column(rows.schema.get_field_index("action"), rows.schema.field("action"), column), table)
    with pytest.raises(DatasetError, match="episode 2"):
        train(options(broken, tmp_path / "all"))
    chosen = options(broken, tmp_path / "chosen", episodes="0-1,3-5", steps=3)
    run = train(chosen)
    assert all(math.isfinite(line["loss"]) for line in metrics(run) if "loss" in line)
    train(TrainOptions(out=run, resume=True))
    with pytest.raises(UsageError, match="episodes"):
        train(TrainOptions(out=run, resume=True, episodes="0-1"))


@pytest.mark.parametrize("name", ["model.safetensors", "training_state/tensors.safetensors", "smolpilot.json"])
def test_a_torn_checkpoint_is_left_out_for_the_one_before(finished: Path, tmp_path: Path, name: str) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run, symlinks=True)
    torn = run / "checkpoints" / "step_000006" / name
    torn.write_bytes(torn.read_bytes()[:-20])
    with pytest.warns(UserWarning, match="step_000006 is damaged and left out"):
        train(TrainOptions(out=run, resume=True))
    assert (run / "checkpoints" / "damaged_step_000006").is_dir()
    assert points_at(run, "last") == "step_000006"
    expected, found = weights(finished), weights(run)
    assert all(torch.equal(expected[key], found[key]) for key in expected)
    assert metrics(run) == metrics(finished)


def test_when_every_checkpoint_is_torn_it_is_said(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run, symlinks=True)
    for path in (run / "checkpoints").glob("step_*"):
        (path / "model.safetensors").write_bytes(b"")
    with pytest.warns(UserWarning, match="is damaged"), pytest.raises(CheckpointError, match="torn"):
        train(TrainOptions(out=run, resume=True))


def test_resume_of_a_finished_run_changes_nothing(finished: Path) -> None:
    before = (finished / "metrics.jsonl").read_text()
    train(TrainOptions(out=finished, resume=True))
    assert (finished / "metrics.jsonl").read_text() == before


def test_only_the_newest_checkpoints_and_the_best_are_kept(tiny_dataset: Path, tmp_path: Path) -> None:
    # At a rate that ruins the policy the first validation stays the best.
    run = train(
        options(tiny_dataset, tmp_path / "run", save_every=1, keep=2, eval_every=2, lr=0.5, decay_lr=0.5, clip=1e6)
    )
    scores = {line["step"]: line["score"] for line in metrics(run) if line["kind"] == "validation"}
    best = f"step_{min(scores, key=lambda step: scores[step]):06d}"
    folders = {p.name for p in (run / "checkpoints").iterdir() if not p.is_symlink()}
    assert folders == {best, "step_000005", "step_000006"}
    assert points_at(run, "best") == best


def test_nan_stops_before_it_reaches_a_checkpoint(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from smolpilot.smolvla import SmolVLA

    ordinary, calls = SmolVLA.loss, []

    def poisoned(self: SmolVLA, *args: Any, **more: Any) -> torch.Tensor:
        calls.append(1)
        loss = ordinary(self, *args, **more)
        return loss * float("nan") if len(calls) == 5 else loss

    monkeypatch.setattr(SmolVLA, "loss", poisoned)
    run = tmp_path / "run"
    with pytest.raises(TrainingError, match="loss is nan at step 4") as caught:
        train(options(tiny_dataset, run))
    assert "--lr" in caught.value.fix
    assert points_at(run, "last") == "step_000003"
    assert all(torch.isfinite(value).all() for value in weights(run).values())


def test_a_full_disk_is_one_clear_error_and_the_earlier_checkpoint_stays_whole(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import smolpilot.training.run.checkpoints as module

    ordinary = module.save_file  # type: ignore[attr-defined]

    def full(tensors: Any, path: Path) -> None:
        if "step_000006" in str(path):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        ordinary(tensors, path)

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(module, "save_file", full)
        with pytest.raises(TrainingError, match="No space left on device") as caught:
            train(options(tiny_dataset, run))
    assert f"--resume --out {run}" in caught.value.fix
    assert [p.name for p in (run / "checkpoints").iterdir() if not p.is_symlink()] == ["step_000003"]
    train(TrainOptions(out=run, resume=True))
    assert points_at(run, "last") == "step_000006"


def test_a_folder_that_is_there_is_refused_before_any_work(finished: Path, tiny_dataset: Path) -> None:
    with pytest.raises(UsageError, match="already contains a run"):
        train(options(tiny_dataset, finished))


def test_micro_batches_give_the_gradients_of_the_whole_batch(tiny_dataset: Path, tmp_path: Path) -> None:
    """Batches of 5 whose chunks end at different steps, in parts of 2: a mean of means would not do."""
    whole, parts = (
        train(options(tiny_dataset, tmp_path / str(size), batch_size=5, micro_batch=size, augment={}))
        for size in (None, 2)
    )
    for left, right in zip(metrics(whole), metrics(parts), strict=True):
        if left["kind"] == "train":
            assert right["loss"] == pytest.approx(left["loss"], rel=1e-5)
            assert right["grad_norm"] == pytest.approx(left["grad_norm"], rel=1e-4)


def test_without_held_out_episodes_best_is_the_last(tiny_dataset: Path, tmp_path: Path) -> None:
    run = train(options(tiny_dataset, tmp_path / "run", held_out=0.0, steps=3))
    assert [line["kind"] for line in metrics(run)] == ["train", "train"]
    assert points_at(run, "best") == "step_000003"
    assert load_policy(run / "checkpoints" / "best").lineage["held_out_episodes"] == []


def test_a_joint_that_the_robot_does_not_have_is_an_error(tiny_dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="no joint 'pan'"):
        train(options(tiny_dataset, tmp_path / "run", robot="pusht"))
    assert not (tmp_path / "run").exists()


def test_a_dataset_with_a_short_video_is_refused_before_training(tiny_dataset: Path, tmp_path: Path) -> None:
    import av

    broken = tmp_path / "broken"
    shutil.copytree(tiny_dataset, broken)
    video = next((broken / "videos").rglob("*.mp4"))
    whole = video.with_suffix(".whole.mp4")
    video.rename(whole)
    with av.open(str(whole)) as source, av.open(str(video), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in list(source.demux(video=0))[:40]:
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    whole.unlink()
    with pytest.raises(DatasetError, match="shorter than the table"):
        train(options(broken, tmp_path / "run"))
    assert not (tmp_path / "run").exists()
