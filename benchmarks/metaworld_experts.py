"""How often Meta-World's own scripted policies succeed, task by task, on the scenes that `smolpilot rollout` plays.

    uv run python benchmarks/metaworld_experts.py --env-python sims/metaworld [--episodes 20] [--noise 0.1] [--json]

Nothing is drawn. `--noise` pushes the executed motions as `smolpilot record --noise` does.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from smolpilot.common.machine import machine_facts
from smolpilot.environments.simulators.metaworld import TASKS
from smolpilot.environments.worker_process import WorkerProcess, interpreter
from smolpilot.evaluation.rates.intervals import rate_row


def measured(worker: WorkerProcess, task: str, seeds: range, noise: float) -> dict[str, Any]:
    """The expert's episodes of one task: successes with their interval, the failed seeds, steps of the successes."""
    worker.ask("make", slot=0, name="metaworld", settings={"task": task})
    begin, steps, failed = time.perf_counter(), [], []
    for seed in seeds:
        header, _ = worker.ask("perform", slot=0, seed=seed, noise=noise, expert={})
        if header["outcome"]["success"]:
            steps.append(header["steps"])
        else:
            failed.append(seed)
    seconds = (time.perf_counter() - begin) / len(seeds)
    worker.ask("close", slot=0)
    row = {"task": task, **rate_row(len(steps), len(seeds)), "failed_seeds": failed}
    return {**row, "median_steps": statistics.median(steps) if steps else None, "seconds_per_episode": seconds}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env-python", type=Path, required=True)
    parser.add_argument("--tasks", nargs="*", default=TASKS)
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--noise", type=float, default=0.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = []
    seeds = range(options.seed, options.seed + options.episodes)
    with closing(WorkerProcess.of("metaworld", interpreter(options.env_python))) as worker:
        for task in options.tasks:
            rows.append(measured(worker, task, seeds, options.noise))
            if not options.json:
                row = rows[-1]
                failed = f"  failed: {', '.join(map(str, row['failed_seeds']))}" if row["failed_seeds"] else ""
                steps = "-" if row["median_steps"] is None else f"{row['median_steps']:.0f}"
                print(f"{task:26} {row['successes']:3} of {row['episodes']:3}  {steps:>4} steps  "
                      f"{row['seconds_per_episode']:.2f} s{failed}", flush=True)  # fmt: skip
    total, played = (sum(row[key] for row in rows) for key in ("successes", "episodes"))
    if options.json:
        found = {"noise": options.noise, "seed": options.seed, "tasks": rows, "successes": total, "episodes": played}
        print(json.dumps({**found, "machine": machine_facts()}, indent=2))
    else:
        gated = sum(row["successes"] >= 0.95 * row["episodes"] for row in rows)
        print(f"{total} of {played} episodes; {gated} of {len(rows)} tasks at 95 % or more (noise {options.noise:g})")


if __name__ == "__main__":
    main()
