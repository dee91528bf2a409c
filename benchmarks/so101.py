"""The SO-101 in MuJoCo: how often its expert succeeds, and what an image costs with the arm's meshes as they come.

    uv run python benchmarks/so101.py [--episodes 200] [--noise 0.3] [--json]

The same two 256x256 views are drawn of the model with the meshes of the wheel so101-nexus (348,164 triangles), and with
the coarse ones; without shadows, and with. CPU time of one core.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from contextlib import closing
from typing import Any
from unittest.mock import patch

import numpy as np
from startup import machine

from smolpilot.environments.simulators.so101 import So101Simulation, meshes, table
from smolpilot.environments.simulators.so101.tasks import TASKS
from smolpilot.environments.simulators.worker import NOISE_MEMORY
from smolpilot.evaluation.rates.intervals import rate_row

_FRAMES = 10


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=200, help="of each task")
    parser.add_argument("--noise", type=float, default=0.3, help="degrees, of the second column")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found: dict[str, Any] = {"machine": machine(), "images": images(), "expert": {}}
    for task in TASKS:
        for noise in (0.0, options.noise):
            found["expert"][f"{task}, noise {noise:g}"] = expert(task, options.episodes, noise)
            print(f"{task}, noise {noise:g}: measured", file=sys.stderr, flush=True)
    if options.json:
        print(json.dumps(found, indent=1))
        return 0
    print(found["machine"])
    for name, row in found["images"].items():
        drawn = f"{row['ms']:.1f} ms, with shadows {row['shadows_ms']:.1f}"
        print(f"{name:14} {row['triangles']:8,.0f} triangles, two views {drawn}")
    for name, row in found["expert"].items():
        low, high = row["interval"]
        print(f"{name:22} {row['successes']:4} of {row['episodes']}  {100 * low:5.1f} to {100 * high:5.1f} %  "
              f"{row['steps']:4.0f} steps  {row['s']:.2f} s")  # fmt: skip
    return 0


def expert(task: str, episodes: int, noise: float) -> dict[str, Any]:
    """Its rate, median number of steps, CPU seconds an episode, and what failed."""
    labels: Counter[str] = Counter()
    steps: list[int] = []
    with closing(So101Simulation(task=(task,))) as world:
        begun = time.process_time()
        for seed in range(episodes):
            world.reset(seed)
            push: Any
            player, rng, push = world.expert(seed), np.random.default_rng([seed, 1]), np.zeros(6, np.float64)
            outcome, count = None, 0
            while outcome is None:
                push = NOISE_MEMORY * push + noise * np.array(world.NOISE) * rng.normal(size=6)
                outcome = world.act(player.action() + push)
                count += 1
            labels[outcome["label"]] += 1
            steps.append(count)
        seconds = (time.process_time() - begun) / episodes
    row = rate_row(labels["success"], episodes)
    return {
        "successes": labels["success"], "episodes": episodes, "interval": [float(end) for end in row["interval"]],
        "steps": float(np.median(steps)), "s": round(seconds, 3),
        "failures": {label: count for label, count in labels.items() if label != "success"},
    }  # fmt: skip


def images() -> dict[str, dict[str, float]]:
    """Of the model as it comes, and of ours."""

    def fine(path: Any, grid: float = 0.0) -> Any:
        corners = meshes.read_stl(path.read_bytes())
        return corners.reshape(-1, 3).astype(np.float32), np.arange(3 * len(corners), dtype=np.int32).reshape(-1, 3)

    found = {}
    for name, mesh in (("as it comes", fine), ("coarse, 2 mm", meshes.coarse_mesh)):
        with patch.object(table, "coarse_mesh", mesh), closing(So101Simulation(width=256, height=256)) as world:
            world.reset(0)
            row = {"triangles": float(world.model.mesh_facenum.sum())}
            for key, shadows in (("ms", False), ("shadows_ms", True)):
                world._shadows = shadows
                world.observe()
                begun = time.process_time()
                for _ in range(_FRAMES):
                    world.observe()
                row[key] = round(1e3 * (time.process_time() - begun) / _FRAMES, 1)
            found[name] = row
    return found


if __name__ == "__main__":
    sys.exit(main())
