"""How often Meta-World's own scripted policies succeed, task by task, on the scenes that `smolpilot rollout` plays.

    uv run python benchmarks/metaworld_experts.py --env-python sims/metaworld [--episodes 20] [--noise 0.1] [--json]

Nothing is drawn. `--noise` pushes the executed motions as `smolpilot record --noise` does. `--mean-action` also plays
what needs no eyes, on as many further seeds: one action all the time, the mean of the expert's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from smolpilot.common.machine import machine_facts
from smolpilot.environments.simulators.metaworld import TASKS
from smolpilot.environments.worker_process import WorkerProcess, interpreter
from smolpilot.evaluation.rates.intervals import rate_row


def measured(worker: WorkerProcess, task: str, seeds: range, noise: float, mean_action: bool) -> dict[str, Any]:
    """The expert's episodes of one task: successes with their interval, the failed seeds, steps of the successes."""
    facts = worker.ask("make", slot=0, name="metaworld", settings={"task": task})[0]["facts"]
    begin, steps, failed, actions = time.perf_counter(), [], [], []
    for seed in seeds:
        header, arrays = worker.ask("perform", slot=0, seed=seed, noise=noise, expert={})
        if header["outcome"]["success"]:
            steps.append(header["steps"])
            actions.append(arrays["actions"])
        else:
            failed.append(seed)
    seconds = (time.perf_counter() - begin) / len(seeds)
    row: dict[str, Any] = {"task": task, **rate_row(len(steps), len(seeds)), "failed_seeds": failed}
    if mean_action and actions:
        always = np.tile(np.concatenate(actions).mean(axis=0), (facts["max_steps"], 1))
        row["mean_action_successes"] = 0
        for seed in range(seeds.stop, seeds.stop + len(seeds)):
            worker.ask("reset", slot=0, seed=seed, images="never")
            outcome = worker.ask("act", {"actions": always}, slot=0, images="never")[0]["outcome"]
            row["mean_action_successes"] += int(outcome["success"])
    worker.ask("close", slot=0)
    return {**row, "median_steps": statistics.median(steps) if steps else None, "seconds_per_episode": seconds}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env-python", type=Path, required=True)
    parser.add_argument("--tasks", nargs="*", default=TASKS)
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--noise", type=float, default=0.0)
    parser.add_argument("--mean-action", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = []
    seeds = range(options.seed, options.seed + options.episodes)
    with closing(WorkerProcess.of("metaworld", interpreter(options.env_python))) as worker:
        for task in options.tasks:
            rows.append(measured(worker, task, seeds, options.noise, options.mean_action))
            if not options.json:
                row = rows[-1]
                failed = f"  failed: {', '.join(map(str, row['failed_seeds']))}" if row["failed_seeds"] else ""
                steps = "-" if row["median_steps"] is None else f"{row['median_steps']:.0f}"
                blind = f"  mean action {row['mean_action_successes']:3}" if "mean_action_successes" in row else ""
                print(f"{task:26} {row['successes']:3} of {row['episodes']:3}  {steps:>4} steps  "
                      f"{row['seconds_per_episode']:.2f} s{blind}{failed}", flush=True)  # fmt: skip
    total, played = (sum(row[key] for row in rows) for key in ("successes", "episodes"))
    if options.json:
        found = {"noise": options.noise, "seed": options.seed, "tasks": rows, "successes": total, "episodes": played}
        print(json.dumps({**found, "machine": machine_facts("cpu")}, indent=2))
    else:
        gated = sum(row["successes"] >= 0.95 * row["episodes"] for row in rows)
        print(f"{total} of {played} episodes; {gated} of {len(rows)} tasks at 95 % or more (noise {options.noise:g})")


if __name__ == "__main__":
    main()
