"""A tick of an SO-101 beside LeRobot's classes, on one emulated bus in the same run; and what importing them takes.

    uv run --group test python benchmarks/arm.py [--ticks 1000] [--rounds 5] [--repeats 5] [--json]

The servos are emulated in a process of their own, behind a serial port (a pty), so the numbers hold what drivers and
processes cost, and neither USB nor servos. Rows take turns. `telemetry` is position, speed, load, voltage, temperature,
status and current of all six servos: LeRobot has it by one sync read for each.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from startup import machine

IMPORTS = {
    "smolpilot.runtime": "import smolpilot.runtime",
    "lerobot.robots.so_follower": "import lerobot.robots.so_follower",
}
MEASURE = """
import resource, sys, time
start = time.perf_counter()
{statement}
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "torch" in sys.modules)
"""
TELEMETRY = (
    "Present_Position", "Present_Velocity", "Present_Load", "Present_Voltage", "Present_Temperature", "Status",
    "Present_Current",
)  # fmt: skip


def imports(repeats: int) -> dict[str, dict[str, Any]]:
    """Seconds (median), MB and whether torch is loaded, of each import in a fresh interpreter; the first is warm-up."""
    found: dict[str, list[list[str]]] = {name: [] for name in IMPORTS}
    for _ in range(repeats + 1):
        for name, statement in IMPORTS.items():
            command = [sys.executable, "-c", MEASURE.format(statement=statement)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found[name].append(done.stdout.split())
    return {
        name: {
            "seconds": statistics.median(float(line[0]) for line in lines[1:]),
            "megabytes": statistics.median(float(line[1]) for line in lines[1:]),
            "torch": lines[-1][2] == "True",
        }
        for name, lines in found.items()
    }


def rows(port: str, calibration: Path) -> dict[str, Callable[[int], list[float]]]:
    """Name -> a function that connects, runs so many ticks, and disconnects; seconds of each tick."""
    from lerobot.robots.so_follower import SO101Follower, SOFollowerRobotConfig

    from smolpilot.robots import RobotProfile
    from smolpilot.runtime import GovernedRobot, Request
    from smolpilot.runtime.calibration import read_calibration
    from smolpilot.runtime.drivers.feetech.arm import FeetechArm

    profile = RobotProfile.load("so101")
    names = [joint.name for joint in profile.action_joints]
    home = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 50.0])

    def goal(i: int) -> np.ndarray[Any, Any]:
        swung: np.ndarray[Any, Any] = home + 5 * np.sin(i / 50)
        return swung

    def peer(ticks: int, telemetry: bool) -> list[float]:
        robot = SO101Follower(SOFollowerRobotConfig(id=calibration.stem, port=port, calibration_dir=calibration.parent))
        robot.connect(calibrate=False)
        try:

            def tick(i: int) -> None:
                robot.get_observation()
                if telemetry:
                    for register in TELEMETRY[1:]:
                        robot.bus.sync_read(register, normalize=False)
                robot.send_action({f"{name}.pos": float(v) for name, v in zip(names, goal(i), strict=True)})

            return timed(tick, ticks)
        finally:
            robot.disconnect()

    def driver(ticks: int) -> list[float]:
        arm = FeetechArm(profile, port, read_calibration(calibration, profile), timeout=0.2)
        arm.connect()
        try:
            arm.engage()

            def tick(i: int) -> None:
                arm.read()
                arm.write(goal(i))

            return timed(tick, ticks)
        finally:
            arm.disconnect()

    def governed(ticks: int) -> list[float]:
        robot = GovernedRobot(profile, FeetechArm(profile, port, read_calibration(calibration, profile), timeout=0.2))
        robot.connect()
        try:

            def tick(i: int) -> None:
                robot.observe()
                robot.ask(Request(goal(i), asked_at=time.monotonic()))

            return timed(tick, ticks)
        finally:
            robot.disconnect()

    return {
        "LeRobot, position only": lambda ticks: peer(ticks, False),
        "LeRobot, full telemetry": lambda ticks: peer(ticks, True),
        "driver, full telemetry": driver,
        "governed, full telemetry": governed,
    }


def timed(tick: Callable[[int], None], ticks: int) -> list[float]:
    """Seconds of each tick, after a tenth of them as warm-up."""
    times = []
    for i in range(ticks + ticks // 10):
        start = time.perf_counter()
        tick(i)
        times.append(time.perf_counter() - start)
    return times[ticks // 10 :]


def bus(ticks: int, rounds: int) -> dict[str, dict[str, float]]:
    """p50 and p95 of a tick in ms, of all rounds."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "smolpilot", "robot", "emulate", "so101", "--link", f"{folder}/arm", "--json"]
        emulator = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert emulator.stdout is not None
            text = ""
            while not text.rstrip().endswith("}"):
                text += emulator.stdout.readline()
            paths = json.loads(text)
            found = rows(paths["port"], Path(paths["calibration"]))
            times: dict[str, list[float]] = {name: [] for name in found}
            for _ in range(rounds):
                for name, run in found.items():
                    times[name] += run(ticks // rounds)
        finally:
            emulator.terminate()
            emulator.wait()
    return {
        name: {"p50": 1e3 * float(np.quantile(all_, 0.5)), "p95": 1e3 * float(np.quantile(all_, 0.95))}
        for name, all_ in times.items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ticks", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    result: dict[str, Any] = {
        "machine": machine(),
        "imports": imports(arguments.repeats),
        "ticks": bus(arguments.ticks, arguments.rounds),
    }
    if arguments.json:
        print(json.dumps(result, indent=2))
        return 0
    print(f"{result['machine']}\n")
    print(f"{'import':<30}{'s':>8}{'MB':>8}   torch")
    for name, one in result["imports"].items():
        print(f"{name:<30}{one['seconds']:>8.2f}{one['megabytes']:>8.0f}   {'yes' if one['torch'] else 'no'}")
    base = result["ticks"]["LeRobot, position only"]["p50"]
    print(f"\n{'tick: observe and command':<30}{'p50 ms':>8}{'p95 ms':>8}{'ratio':>8}")
    for name, one in result["ticks"].items():
        print(f"{name:<30}{one['p50']:>8.2f}{one['p95']:>8.2f}{base / one['p50']:>8.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
