"""Several processes train as one: the joint batch's gradients, whole runs, resume with another number, endings.

As a program it trains some steps and saves the gradients: OUT DATASET MICRO_BATCH STEPS."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from smolpilot.cli.main import main
from smolpilot.common.errors import TrainingError, UsageError
from smolpilot.datasets import open_dataset
from smolpilot.smolvla import new_policy
from smolpilot.training import TrainOptions, train
from smolpilot.training.data.batches import Batches
from smolpilot.training.options.train_options import resolve
from smolpilot.training.run.distributed import DistributedContext
from smolpilot.training.run.loop import Trainer
from smolpilot.training.run.metrics_log import read_metrics

H = 5
STEPS = 12


def launch(*command: str, size: int = 2) -> list[subprocess.Popen[str]]:
    """Start `python *command` as the processes of one run, with the environment that torchrun gives."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "OMP_NUM_THREADS": "1",
    }
    return [
        subprocess.Popen(
            [sys.executable, *command],
            env=os.environ | shared | {"MASTER_PORT": str(port), "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]


def ended(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    """Exit code, stdout and stderr of each."""
    texts = [process.communicate(timeout=240) for process in processes]
    return [(process.returncode, *text) for process, text in zip(processes, texts, strict=True)]


def command(dataset: Path, out: Path, *more: str) -> list[str]:
    words = ["-m", "smolpilot", "train", "--dataset", str(dataset), "--out", str(out), "--preset", "tiny"]
    words += [
        "--from-scratch",
        "--steps",
        str(STEPS),
        "--batch-size",
        "5",
        "--chunk-size",
        "5",
        "--n-action-steps",
        "5",
    ]
    words += ["--log-every", "1", "--eval-every", "6", "--save-every", "6", "--eval-frames", "6", "--device", "cpu"]
    return [*words, "--augment", "crop=0.5", *more]


def weights(run: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / name / "model.safetensors")


def lines(run: Path) -> list[tuple[Any, ...]]:
    values = read_metrics(run / "metrics.jsonl")
    return [(v["step"], v["kind"], v.get("loss", v.get("score")), v.get("grad_norm", 0.0)) for v in values]


def differences(left: Path, right: Path) -> list[str]:
    """Lines that are not the same to 1e-4, weights that are not to a hundredth of a learning-rate step."""
    found = [
        f"{one} became {other}"
        for one, other in zip(lines(left), lines(right), strict=True)
        if one[:2] != other[:2] or one[2:] != pytest.approx(other[2:], rel=1e-4)
    ]
    a, b = weights(left), weights(right)
    found += sorted(a.keys() ^ b.keys())
    # A bias of all keys shifts all scores alike: its gradient is rounding, which Adam turns into steps without effect.
    for name in [name for name in a.keys() & b.keys() if not name.endswith("k_proj.bias")]:
        distance = float((a[name] - b[name]).abs().mean())
        if not distance < 2e-5:  # so that NaN is one, too
            found.append(f"{name}: {distance}")
    return found


def steps(ranks: DistributedContext, dataset: Path, micro_batch: int | None, count: int) -> dict[str, torch.Tensor]:
    """Gradients of each step (after summing, before clipping changes them) and the weights at the end."""
    torch.set_num_threads(1)
    data = open_dataset(dataset, chunk_size=H)
    overrides = {"train_expert_only": False, "freeze_vision_encoder": False, "chunk_size": H, "n_action_steps": H}
    policy = new_policy("tiny", meta=data.meta, seed=3, device="cpu", overrides=overrides)
    policy.model.double()  # so that a wrong weight of a part stands out from rounding
    # Adam's first steps turn rounding in small gradients into whole steps: with a small rate the next gradients show
    # a wrong sum and not that.
    options = TrainOptions(
        preset="tiny", steps=count, batch_size=7, micro_batch=micro_batch, chunk_size=H, clip=1e9, device="cpu",
        augment={"crop": 0.5, "color": 0.5}, lr=1e-5,
    )  # fmt: skip
    batches = Batches(data, policy.transforms, torch.device("cpu"), chunk_size=H)
    trainer = Trainer(resolve(options), policy, batches, None, "", ranks)
    found: dict[str, torch.Tensor] = {}
    for number, inputs in enumerate(batches.stream(trainer.order, 0, count)):
        trainer._step(trainer.augmentation(inputs, trainer.order.sample_ids(trainer.state.step)))
        found |= {f"{number}/{n}": p.grad.clone() for n, p in policy.model.named_parameters() if p.grad is not None}
        found[f"{number}/loss"] = trainer._losses[-1]
    return found | {f"end/{name}": value.clone() for name, value in policy.model.state_dict().items()}


@pytest.fixture(scope="module")
def joint(tiny_dataset: Path) -> dict[str, torch.Tensor]:
    return steps(DistributedContext(), tiny_dataset, None, 4)


@pytest.fixture(scope="module")
def started(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A run of two processes by torchrun, what it printed and its progress."""
    out = tmp_path_factory.mktemp("runs") / "pair"
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *command(tiny_dataset, out)]
    run = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return out, run.stdout, run.stderr


@pytest.fixture(scope="module")
def pair(started: tuple[Path, str, str]) -> Path:
    return started[0]


def gradients(found: dict[str, torch.Tensor], step: int) -> dict[str, torch.Tensor]:
    prefix = f"{step}/"
    return {n: v for n, v in found.items() if n.startswith(prefix) and not n.endswith("k_proj.bias")}


def apart(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> float:
    """Norm of the difference relative to the norm of all numbers."""
    assert left.keys() == right.keys()
    difference = sum(float((left[n] - right[n]).double().square().sum()) for n in left)
    return float((difference / sum(float(v.double().square().sum()) for v in left.values())) ** 0.5)


def test_micro_batches_have_the_gradients_of_the_joint_batch(
    tiny_dataset: Path, joint: dict[str, torch.Tensor]
) -> None:
    parts = steps(DistributedContext(), tiny_dataset, 2, 4)
    assert all(apart(gradients(joint, step), gradients(parts, step)) < 5e-7 for step in range(4))


def test_two_processes_have_the_gradients_of_the_joint_batch(
    tiny_dataset: Path, tmp_path: Path, joint: dict[str, torch.Tensor]
) -> None:
    """Parts of 3 and 4 samples, in micro-batches of 2, whose chunks end at different steps; over four steps of Adam."""
    out = tmp_path / "pair.safetensors"
    for code, _, errors in ended(launch(__file__, str(out), str(tiny_dataset), "2", "4")):
        assert code == 0, errors
    found = load_file(out)
    for step in range(4):
        assert len(gradients(found, step)) > 100
        assert apart(gradients(joint, step), gradients(found, step)) < 5e-7
        assert float(found[f"{step}/loss"]) == pytest.approx(float(joint[f"{step}/loss"]), rel=1e-6)


def test_a_run_of_two_processes_ends_like_one(tiny_dataset: Path, tmp_path: Path, pair: Path) -> None:
    assert main(command(tiny_dataset, tmp_path / "one")[2:]) == 0
    assert differences(tmp_path / "one", pair) == []
    assert '"processes": 2' in (pair / "environment.json").read_text()
    assert not list(pair.rglob("*.partial"))


def test_process_0_alone_speaks(started: tuple[Path, str, str]) -> None:
    _, printed, progress = started
    assert printed.count("The run is in") == printed.count("held out") == 1
    assert progress.count(f"step {STEPS}/{STEPS}") == 1


def test_resume_with_another_number_of_processes(pair: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(pair, run, symlinks=True)
    shutil.rmtree(run / "checkpoints" / f"step_{STEPS:06d}")
    train(TrainOptions(out=run, resume=True))
    assert differences(run, pair) == []


def test_a_stopped_run_is_saved_and_resumes_bit_for_bit(tiny_dataset: Path, tmp_path: Path, pair: Path) -> None:
    run = tmp_path / "run"
    processes = launch(*command(tiny_dataset, run))
    deadline = time.monotonic() + 120
    while not (run / "metrics.jsonl").exists():
        if time.monotonic() > deadline or any(process.poll() is not None for process in processes):
            for process in processes:
                process.kill()
            pytest.fail(f"no step was written before the signal: {ended(processes)}")
        time.sleep(0.02)
    processes[1].send_signal(signal.SIGTERM)  # one of them is enough
    results = ended(processes)
    assert [code for code, _, _ in results] == [130, 130], results
    assert "A checkpoint was saved." in results[0][2]
    assert (run / "checkpoints" / "last").exists()
    assert len(lines(run)) < len(lines(pair))
    for code, _, errors in ended(launch("-m", "smolpilot", "train", "--resume", "--out", str(run))):
        assert code == 0, errors
    assert lines(run) == lines(pair)
    a, b = weights(pair), weights(run)
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_two_processes_build_one_cache_and_train_from_it(tiny_dataset: Path, tmp_path: Path, pair: Path) -> None:
    words = ["-m", "smolpilot", "train", "--dataset", str(tiny_dataset), "--policy", str(pair / "checkpoints" / "last")]
    words += ["--train-expert-only", "True", "--steps", "6", "--batch-size", "5", "--log-every", "1", "--device", "cpu"]
    words += ["--eval-every", "3", "--save-every", "3", "--eval-frames", "6", "--augment", "crop=0.5"]
    words += ["--cache-views", "2", "--cache-dir", str(tmp_path / "cache")]
    for code, _, errors in ended(launch(*words, "--out", str(tmp_path / "two"))):
        assert code == 0, errors
    blocks = {path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()}
    assert {Path(name).suffix for name in blocks} == {".block"}
    assert len(blocks) == 5 * 2 + 1  # two views of five episodes, and the held-out one as it is
    assert main([*words[2:], "--out", str(tmp_path / "one")]) == 0
    assert {path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()} == blocks
    assert differences(tmp_path / "one", tmp_path / "two") == []


def test_when_one_process_dies_the_other_says_so(tiny_dataset: Path, tmp_path: Path) -> None:
    program = tmp_path / "dies.py"
    program.write_text(
        "import os, sys\nfrom smolpilot.cli.main import main\nfrom smolpilot.training.run.loop import Trainer\n"
        "ordinary = Trainer._step\n"
        "def step(self, inputs):\n"
        "    if self.ranks.rank == 1 and self.state.step == 7: os._exit(9)\n"
        "    ordinary(self, inputs)\n"
        "Trainer._step = step\nsys.exit(main(sys.argv[1:]))\n"
    )
    run = tmp_path / "run"
    (code, _, errors), (died, _, _) = ended(launch(str(program), *command(tiny_dataset, run)[2:]))
    assert (code, died) == (1, 9)
    assert "another rank has exited" in errors
    assert "--resume" in errors
    assert "Traceback" not in errors
    assert [path.name for path in (run / "checkpoints").glob("step_*")] == ["step_000006"]


def test_a_refusal_is_said_by_rank_0_alone(tiny_dataset: Path, tmp_path: Path) -> None:
    results = ended(launch(*command(tiny_dataset, tmp_path / "run", "--episodes", "0-99")))
    assert [code for code, _, _ in results] == [results[0][0]] * 2
    assert results[0][0] in (1, 2)
    assert "error:" in results[0][2]
    assert "error:" not in results[1][2]
    assert not (tmp_path / "run").exists()


def test_what_only_the_second_process_finds_is_said_by_it(tmp_path: Path) -> None:
    program = tmp_path / "second.py"
    program.write_text(
        "import sys\nfrom smolpilot.common.errors import DatasetError, TrainingError\n"
        "from smolpilot.training.run.distributed import DistributedContext\n"
        "def work(ranks):\n"
        "    if ranks.rank == 1 and sys.argv[1] == 'work': raise DatasetError('its disk is empty')\n"
        "try:\n"
        "    with DistributedContext.from_environment() as ranks:\n"
        "        ranks.run_on_all_ranks(lambda: ranks.run_on_all_ranks(lambda: work(ranks)))\n"
        "        print(ranks.rank_zero_first(lambda: ranks.rank), ranks.broadcast(lambda: ranks.rank), flush=True)\n"
        "        ranks.require_equal({'dataset': ranks.rank, 'weights': 5})\n"
        "except (DatasetError, TrainingError) as error:\n"
        "    print(error, file=sys.stderr)\n"
    )
    first, second = ended(launch(str(program), "work"))
    assert (first[0], first[2]) == (1, "")
    assert "process 1 of 2" in second[2]
    assert "its disk is empty" in second[2]
    first, second = ended(launch(str(program), "facts"))
    assert first[1] == "0 0\n"
    assert "ranks see different dataset" in first[2]
    assert second[1:] == ("", "")


def stages_file(folder: Path, dataset: Path, gate: str) -> Path:
    path = folder / "stages.yaml"
    path.write_text(
        "defaults: {preset: tiny, from_scratch: true, chunk_size: 5, n_action_steps: 5, batch_size: 5, log_every: 1,\n"
        "  eval_every: 3, save_every: 3, eval_frames: 6, held_out: 0.34, device: cpu}\n"
        "evaluation: {frames: 8, resamples: 20}\n"
        "stages:\n"
        f"  - {{name: red, dataset: {dataset}, episodes: '0,2,4', steps: 6}}\n"
        f"  - {{name: blue, dataset: {dataset}, episodes: '1,3,5', steps: 6, replay: [0.4, 0.6], gate: {gate}}}\n"
    )
    return path


def test_stages_in_two_processes_end_like_in_one_and_go_on(tiny_dataset: Path, tmp_path: Path) -> None:
    words = ["-m", "smolpilot", "train", "--stages", str(stages_file(tmp_path, tiny_dataset, "{new: 99}"))]
    assert main([*words[2:], "--out", str(tmp_path / "one")]) == 0
    pair = tmp_path / "pair"
    first, second = ended(launch(*words, "--out", str(pair)))
    assert (first[0], second[0]) == (0, 0), first[2] + second[2]
    assert first[1].count("== stage 2 of 2: blue ==") == 1
    assert second[1] == ""
    for stage in ("1_red", "2_blue"):
        assert differences(tmp_path / "one" / "stages" / stage, pair / "stages" / stage) == []
    one, two = (json.loads((run / "report.json").read_text())["error"]["matrix"] for run in (tmp_path / "one", pair))
    assert [len(row) for row in two] == [1, 2]
    for ours, expected in zip(two, one, strict=True):
        assert [cell["value"] for cell in ours] == pytest.approx([cell["value"] for cell in expected], rel=1e-3)
    # Killed after half of the second stage: both go on in it.
    newest = pair / "stages" / "2_blue"
    shutil.rmtree(newest / "checkpoints" / "step_000006")
    (newest / "stage.json").unlink()
    first, second = ended(launch("-m", "smolpilot", "train", "--resume", "--out", str(pair)))
    assert (first[0], second[0]) == (0, 0), first[2] + second[2]
    assert "== stage 1 of 2" not in first[1]
    assert differences(tmp_path / "one" / "stages" / "2_blue", newest) == []


def test_a_missed_gate_ends_all_processes_and_is_said_once(tiny_dataset: Path, tmp_path: Path) -> None:
    plan = stages_file(tmp_path, tiny_dataset, "{new: 1.0e-9, retries: 1}")
    results = ended(launch("-m", "smolpilot", "train", "--stages", str(plan), "--out", str(tmp_path / "run")))
    assert [code for code, _, _ in results] == [1, 1]
    assert "did not pass its gate" in results[0][2]
    assert "within its gate after 2 attempts" in results[0][2]
    assert "error:" not in results[1][2]
    assert "Traceback" not in results[0][2] + results[1][2]
    assert sorted(path.name for path in (tmp_path / "run" / "stages").iterdir())[:2] == ["1_red", "2_blue"]


def test_parts_cover_the_batch_and_too_small_a_batch_is_refused() -> None:
    parts = [DistributedContext(rank, 3).part(8) for rank in range(3)]
    assert [i for part in parts for i in range(8)[part]] == list(range(8))
    assert {len(range(8)[part]) for part in parts} == {2, 3}
    with pytest.raises(UsageError, match=r"--batch-size 2 is smaller than the number of processes \(3\)"):
        DistributedContext(0, 3).part(2)


def test_an_incomplete_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(UsageError, match="RANK") as caught:
        DistributedContext.from_environment()
    assert "torchrun" in caught.value.fix
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert DistributedContext.from_environment().size == 1


def test_each_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert DistributedContext(1, 2, 1, 2).device("cpu") == "cpu"
    assert DistributedContext().device("mps") == "mps"
    with pytest.raises(UsageError, match="does not work with"):
        DistributedContext(1, 2, 1, 2).device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert DistributedContext(5, 8, 1, 2).device("auto") == "cuda:1"
    with pytest.raises(UsageError, match="has 2 GPUs"):
        DistributedContext(3, 8, 3, 4).device("cuda:0")


def test_one_process_alone_asks_nobody() -> None:
    ranks = DistributedContext()
    with ranks:
        assert ranks.first_stop_reason("") == ""
        assert ranks.broadcast(lambda: 4) == ranks.rank_zero_first(lambda: 4) == ranks.run_on_all_ranks(lambda: 4) == 4
        assert float(ranks.sum(torch.tensor(2.0))) == 2
        with pytest.raises(TrainingError, match="here"):
            ranks.run_on_all_ranks(lambda: (_ for _ in ()).throw(TrainingError("here")))


if __name__ == "__main__":
    out, path, micro, number = sys.argv[1:]
    with DistributedContext.from_environment() as here:
        result = steps(here, Path(path), int(micro) or None, int(number))
        if here.rank == 0:
            save_file(result, out)
