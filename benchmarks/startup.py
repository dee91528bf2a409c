"""How long a shell user waits for `smolpilot --help` and `--version`, beside `lerobot-train --help`, in the same run.

    uv run --group test python benchmarks/startup.py [--repeats 5] [--json]

Wall time of the whole process from a warm disk cache: each command runs once before it is measured. The commands take
turns, so that a busy moment of the machine hits all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

TARGET = 0.5  # seconds, for both of smolpilot's commands
OURS, PEER = ("smolpilot --help", "smolpilot --version"), "lerobot-train --help"


def find(program: str) -> str | None:
    """The program of this environment, else of the PATH."""
    beside = Path(sys.executable).with_name(program)
    return str(beside) if beside.exists() else shutil.which(program)


def seconds(command: list[str]) -> float:
    """Wall time of one run; a failing command ends the benchmark."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def measure(repeats: int) -> dict[str, list[float]]:
    """Seconds of every repeat per command; the peer is left out where it is not installed."""
    commands = {}
    for text in (*OURS, PEER):
        program, *arguments = text.split()
        found = find(program)
        if found is None and text != PEER:
            raise SystemExit(f"{program} is not installed in this environment")
        if found is not None:
            commands[text] = [found, *arguments]
    for command in commands.values():
        seconds(command)
    times: dict[str, list[float]] = {text: [] for text in commands}
    for _ in range(repeats):
        for text, command in commands.items():
            times[text].append(seconds(command))
    return times


def machine() -> str:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    times = measure(arguments.repeats)
    medians = {text: statistics.median(values) for text, values in times.items()}
    ours = max(medians[text] for text in OURS)
    ratio = medians[PEER] / ours if PEER in medians else None
    if arguments.json:
        result = {"machine": machine(), "seconds": times, "medians": medians, "ratio": ratio, "target": TARGET}
        print(json.dumps(result, indent=2))
    else:
        print(f"{machine()}; {arguments.repeats} runs each after one warm-up\n")
        print(f"{'command':<24}{'median':>9}{'fastest':>9}{'slowest':>9}   seconds")
        for text, values in times.items():
            print(f"{text:<24}{medians[text]:>9.3f}{min(values):>9.3f}{max(values):>9.3f}")
        peer = f"{ratio:.0f} times faster than {PEER}" if ratio else "LeRobot is not installed: no comparison"
        print(f"\nthe slower of ours takes {ours:.3f} s (target: under {TARGET} s), {peer}")
    return 0 if ours < TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
