"""How long `smolpilot train` waits for data, where video is decoded while training: this source tree, and another.

The recording is that of benchmarks/dataset_reader.py: two cameras, 480x640, AV1 with a key frame every second frame
(made up anew, or given). The tiny policy is trained from scratch on the CPU with `--frames-gb 0 --cache none`, in the
orders `random` and `local`, with 0 and 2 worker processes; `--against SRC` (the `src` folder of another checkout) is
measured in the same run, in turns, with the orders that it has. Each run is a process of its own. All of its steps
count, with the wait for the first one: whatever was decoded ahead has been waited for or hidden within the time that is
measured. `--steps` is best a multiple of 8, the batches of a window of the local order.

Printed are medians over the rounds: the share of the time that the loop waits for data (`data_wait` of metrics.jsonl),
and samples per second. On a CPU decoding takes time from the network: the samples per second say what the machine does
in all. `--step-ms N` stands for a GPU: every step takes N milliseconds more, in which the loop sleeps.

`python benchmarks/training_reader.py [--against /path/to/other/src] [--rounds 2] [--steps 48] [--workers 0 2]`
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
BATCH, LINES = 32, 4  # samples of a step, steps of a line of metrics.jsonl
HERE = Path(__file__).resolve().parent

# Runs in a process of its own, on the tree that PYTHONPATH names: trains, and prints the lines that count.
_SIDE = """
import dataclasses, json, sys, time
import torch._dynamo, torch.utils.tensorboard  # else the first step pays for them
from pathlib import Path
from smolpilot.training import TrainOptions, train
from smolpilot.training.run.loop import Trainer

given = json.loads(sys.argv[1])
if given.pop("orders"):
    print(json.dumps(any(field.name == "order" for field in dataclasses.fields(TrainOptions))))
    sys.exit()
pause = given.pop("pause")
step = Trainer._step
def slow(self, inputs):
    step(self, inputs)
    time.sleep(pause)
Trainer._step = slow
paths = {name: Path(given.pop(name)) for name in ("dataset", "out")}
run = train(TrainOptions(**paths, **given))
lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
print(json.dumps([line for line in lines if line["kind"] == "train"]))
"""


def run_side(source: Path, values: dict[str, Any]) -> Any:
    """What the process on a source tree prints last."""
    environment = {**os.environ, "PYTHONPATH": str(source)}
    command = [sys.executable, "-c", _SIDE, json.dumps(values)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{source} {values}:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measured(source: Path, dataset: Path, order: str, workers: int, options: argparse.Namespace) -> tuple[float, float]:
    """Share of waiting and samples per second of one run."""
    values: dict[str, Any] = {
        "orders": False, "pause": options.step_ms / 1000, "dataset": str(dataset), "preset": "tiny",
        "from_scratch": True, "steps": options.steps, "batch_size": BATCH, "workers": workers, "frames_gb": 0.0,
        "cache": "none", "log_every": LINES, "held_out": 0.0, "preflight": False, "device": "cpu", "seed": 1,
        "eval_every": 100_000, "save_every": 100_000,
    }  # fmt: skip
    if order != "random":
        values["order"] = order
    with tempfile.TemporaryDirectory() as folder:
        lines = run_side(source, {**values, "out": f"{folder}/run"})
    seconds = [LINES * BATCH / line["samples_per_s"] for line in lines]
    waits = sum(line["data_wait"] * each for line, each in zip(lines, seconds, strict=True))
    return waits / sum(seconds), LINES * BATCH * len(lines) / sum(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="the src folder of another checkout, to be measured in turns")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=48, help=f"of each run, a multiple of {LINES}")
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 2])
    parser.add_argument("--step-ms", type=float, default=0.0, help="what a step takes more, without the processor")
    parser.add_argument("--path", type=Path, help="a v3.0 folder to train on instead")
    options = parser.parse_args()
    if options.steps % LINES:
        parser.error(f"--steps is a multiple of {LINES}")
    trees = {"this tree": HERE.parent / "src"}
    if options.against is not None:
        trees = {"against": options.against.resolve(), **trees}
    with tempfile.TemporaryDirectory() as folder:
        dataset = options.path or Path(folder) / "recording"
        if options.path is None:
            from dataset_reader import record

            record(dataset, ["front", "wrist"])
        has_order = {name: run_side(source, {"orders": True}) for name, source in trees.items()}
        sides = [
            (name, order, workers)
            for order in ("random", "local")
            for workers in options.workers
            for name in trees
            if order == "random" or has_order[name]
        ]
        found: dict[tuple[str, str, int], list[tuple[float, float]]] = {side: [] for side in sides}
        for _ in range(options.rounds):
            for name, order, workers in sides:
                result = measured(trees[name], dataset, order, workers, options)
                found[name, order, workers].append(result)
                print(f"  {name}, {order}, workers {workers}: {result[0]:.1%}, {result[1]:.1f}/s", flush=True)
    print(f"\n{os.cpu_count()} cores, batches of {BATCH}, two cameras, tiny policy; median of {options.rounds} rounds")
    for (name, order, workers), results in found.items():
        waits, rates = zip(*results, strict=True)
        line = f"{name:<10}{order:<7} workers {workers}  waits {statistics.median(waits):6.1%} of the time  "
        line += f"{statistics.median(rates):7.1f} samples/s"
        peer = found.get(("against", "random", workers))
        if peer and name != "against":
            ratios = [mine[1] / other[1] for mine, other in zip(results, peer, strict=True)]
            line += f"  {statistics.median(ratios):5.2f}x ({min(ratios):.2f} to {max(ratios):.2f}) of the other, random"
        print(line)


if __name__ == "__main__":
    main()
