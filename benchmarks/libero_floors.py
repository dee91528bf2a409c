"""The floors in ten tasks of LIBERO and LIBERO-PRO: that they run, what they reach, and what steps and images cost.

    uv run --group test python benchmarks/libero_floors.py --env-python sims/libero [--episodes 2] [--sheet images.png]
    uv run --group test python benchmarks/libero_floors.py --env-python sims/libero --every-task

Seconds are CPU time of the simulation's process, with one thread, drawn by EGL without a GPU where there is none.
`--every-task` makes each of the 290 tasks instead, begins two episodes and makes a step in each.
"""

from __future__ import annotations

import argparse
import functools
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from smolpilot.common.errors import SimulationError, UsageError
from smolpilot.common.keys import image_key
from smolpilot.common.machine import machine_facts
from smolpilot.environments.making import environment_maker
from smolpilot.environments.simulation import SimulatedEnvironment
from smolpilot.environments.simulators.libero import SUITES
from smolpilot.environments.where import Where
from smolpilot.environments.worker_process import WorkerProcess, interpreter
from smolpilot.evaluation.rollout.fit import embodiment_in
from smolpilot.policies import open_policy

TASKS = (
    "libero_spatial/0", "libero_object/1", "libero_goal/2", "libero_10/3", "libero_90/4", "libero_spatial_swap/5",
    "libero_object_object/6", "libero_goal_task/7", "libero_10_lan/8", "libero_spatial_task/9",
)  # fmt: skip
FLOORS = ("no-op", "random")
SEED, IMAGES = 1_000_000, 5


@contextmanager
def made(worker: WorkerProcess, **settings: Any) -> Iterator[SimulatedEnvironment]:
    """A task in the worker."""
    environment = environment_maker("libero", settings)(Where(worker, 0))
    assert isinstance(environment, SimulatedEnvironment)
    with closing(environment):
        yield environment


def cpu_s(worker: WorkerProcess) -> float:
    """CPU time that the process has used, in s."""
    fields = Path(f"/proc/{worker.about['pid']}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_gb(worker: WorkerProcess) -> float:
    """The most memory that the process has held, in GB."""
    lines = Path(f"/proc/{worker.about['pid']}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1e6


def timed(worker: WorkerProcess, work: Callable[[], object]) -> tuple[Any, float]:
    """What the work gives, and the CPU time that it takes."""
    begin = cpu_s(worker)
    return work(), cpu_s(worker) - begin


def play(worker: WorkerProcess, task: str, episodes: int) -> tuple[dict[str, Any], list[Any]]:
    """The floors in a task: successes and seconds; and a row of images, both cameras at the start."""
    with made(worker, task=task) as environment:
        body = embodiment_in(environment.spec)
        row: dict[str, Any] = {"task": task, "instruction": environment.spec.instructions[0]}
        steps, resets = [], []
        for name in FLOORS:
            successes = 0
            with closing(open_policy(name, embodiment=body)) as policy:
                for seed in range(SEED, SEED + episodes):
                    (seen, _), took = timed(worker, functools.partial(environment.reset, seed, images="never"))
                    resets.append(took)
                    chunk = policy.predict([seen], seeds=[seed] if policy.spec.capabilities else None)[0]
                    ran, took = timed(worker, functools.partial(environment.run, chunk, images="never"))
                    steps.append(took / ran.steps)
                    successes += bool(ran.outcome and ran.outcome.success)
            row[name] = successes
        (seen, _), took = timed(worker, lambda: environment.reset(SEED))
        still = np.repeat([environment.spec.rest], IMAGES, axis=0)
        _, drawn = timed(worker, lambda: [environment.run(one[None]) for one in still])
        row |= {"reset_s": statistics.median(resets), "step_s": statistics.median(steps), "drawn_s": drawn / IMAGES}
        return row, [seen[image_key(camera)] for camera in environment.spec.cameras]


def plain_images(worker: WorkerProcess, task: str) -> float:
    """CPU time of a step with both images, without shadows and MSAA."""
    with made(worker, task=task, shadows=False, msaa=0) as environment:
        environment.reset(SEED)
        still = np.repeat([environment.spec.rest], IMAGES, axis=0)
        return timed(worker, lambda: [environment.run(one[None]) for one in still])[1] / IMAGES


def every_task(worker: WorkerProcess) -> None:
    """Make each task, begin two episodes and make a step in each; say which cannot be, and which succeed at once."""
    fine = 0
    for suite, count in SUITES.items():
        for number in range(count):
            try:
                with made(worker, task=f"{suite}/{number}") as environment:
                    for seed in (SEED, SEED + 1):
                        environment.reset(seed, images="never")
                        ran = environment.run(np.array([environment.spec.rest]), images="never")
                        if ran.outcome is not None:
                            print(f"{suite}/{number}, seed {seed}: {ran.outcome.label} at the first step")
                fine += 1
            except (SimulationError, UsageError) as error:
                print(f"{suite}/{number}: {error.found}")
        print(f"{suite}: {count}", flush=True)
    print(f"{fine} of {sum(SUITES.values())} tasks begin")


def main() -> None:
    """Play, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env-python", type=Path, required=True)
    parser.add_argument("--episodes", type=int, default=2)
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--sheet", type=Path, help="write the images of all tasks side by side")
    parser.add_argument("--every-task", action="store_true")
    options = parser.parse_args()
    begin = time.monotonic()
    with closing(WorkerProcess.of("libero", interpreter(options.env_python))) as worker:
        if options.every_task:
            every_task(worker)
            return
        columns = []
        for task in options.tasks:
            row, images = play(worker, task, options.episodes)
            columns.append(np.concatenate(images))
            floors = ", ".join(f"{name} {row[name]} of {options.episodes}" for name in FLOORS)
            print(
                f"{task}: {floors}; reset {row['reset_s']:.2f} s, step {1e3 * row['step_s']:.1f} ms, with two images "
                f"{1e3 * row['drawn_s']:.0f} ms; '{row['instruction']}'", flush=True,
            )  # fmt: skip
        plain, peak = plain_images(worker, options.tasks[0]), peak_gb(worker)
    print(f"with two images, without shadows and MSAA ({options.tasks[0]}): {1e3 * plain:.0f} ms")
    print(f"memory of the process, one environment at a time: {peak:.1f} GB at most")
    print(f"{time.monotonic() - begin:.0f} s in all; {machine_facts('cpu')}")
    if options.sheet is not None:
        Image.fromarray(np.concatenate(columns, axis=1)).save(options.sheet)


if __name__ == "__main__":
    main()
