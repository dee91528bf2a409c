"""What a step and an image of ALOHA cost, beside gym-aloha's own environment, in the same run.

    uv run --group test python benchmarks/aloha.py [--repeats 12] [--json]

CPU time of this process, taken in turns; drawn by EGL with one thread of llvmpipe, without a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("LP_NUM_THREADS", "0")

import gymnasium

from smolpilot.common.machine import machine_facts
from smolpilot.environments.simulators.aloha import AlohaSimulation

SEED = 3


def cases() -> dict[str, Callable[[], object]]:
    """What is measured, by name; each call is one step, or one image."""
    shipped, fast = AlohaSimulation(), AlohaSimulation(shadows=False, msaa=0)
    for simulation in (shipped, fast):
        simulation.reset(SEED)
    theirs = gymnasium.make("gym_aloha:gym_aloha/AlohaTransferCube-v0", obs_type="pixels_agent_pos",
                            disable_env_checker=True)  # fmt: skip
    observation, _ = theirs.reset(seed=SEED)
    still = observation["agent_pos"].copy()
    return {
        "gym-aloha: a step, which draws three images": lambda: theirs.step(still),
        "smolpilot: a step": lambda: shipped.act(still),
        "smolpilot: an image as gym-aloha draws it": shipped.observe,
        "smolpilot: an image without shadows and MSAA": fast.observe,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=12)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    measured = cases()
    for work in measured.values():
        work()
    times: dict[str, list[float]] = {name: [] for name in measured}
    for _ in range(options.repeats):
        for name, work in measured.items():
            begin = time.process_time()
            work()
            times[name].append(1e3 * (time.process_time() - begin))
    medians = {name: statistics.median(values) for name, values in times.items()}
    if options.json:
        print(json.dumps({"milliseconds": medians, "machine": machine_facts("cpu")}))
        return
    for name, value in medians.items():
        print(f"{name:<48} {value:8.2f} ms")
    theirs, step, image, _ = medians.values()
    ours = 10 * step + image
    print(f"ten steps and the image of a plan: {10 * theirs:.0f} ms against {ours:.0f}: {10 * theirs / ours:.1f} times")
    print(machine_facts("cpu"))


if __name__ == "__main__":
    main()
