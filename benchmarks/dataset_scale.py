"""Seconds and MB of every dataset verb at 1,000, 10,000 and 100,000 episodes, and how they grow.

    python benchmarks/dataset_scale.py --episodes 1000 4000 --verbs info check exclude
    python benchmarks/dataset_scale.py --jobs-ratio --episodes 1000

Writes recordings of tiny episodes (10 frames, 6 joints, one 64x64 camera unless --no-video, a text for every ten
episodes) into --folder, runs each verb in a process of its own, and prints wall time, processor time and peak memory of
that process and, from the second size on, their ratio to the size before. A verb that is given more than --limit
seconds is stopped and left out for larger sizes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

FRAMES = 10


@dataclass(frozen=True)
class Cost:
    """One run: seconds on the clock and of processors, peak memory in MB, exit code (None: stopped)."""

    wall: float
    processor: float
    memory: float
    code: int | None


def main() -> None:
    options = _options()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="smolpilot-scale-"))
    folder.mkdir(parents=True, exist_ok=True)
    print(f"{os.cpu_count()} cores, {FRAMES} frames in an episode, in {folder}")
    print(f"{'verb':<16}{'episodes':>9}{'wall s':>9}{'cpu s':>9}{'MB':>8}   growth of cpu, MB")
    before: dict[str, Cost] = {}
    stopped: set[str] = set()
    for episodes in sorted(options.episodes):
        root = folder / f"{episodes}"
        if not root.exists():
            write(root / "v30", episodes, video=not options.no_video)
            write(root / "copy", episodes, video=not options.no_video)
        for verb in options.verbs:
            if verb in stopped:
                continue
            cost = measure(command(verb, root, episodes, options.jobs), options.limit)
            _print(verb, episodes, cost, before.get(verb))
            before[verb] = cost
            if cost.code is None:
                stopped.add(verb)
        shutil.rmtree(root / "out", ignore_errors=True)
    if options.jobs_ratio:
        _print_jobs(folder / f"{min(options.episodes)}", min(options.episodes), options.limit)
    if options.folder is None:
        shutil.rmtree(folder)


def command(verb: str, root: Path, episodes: int, jobs: int) -> list[str]:
    """The words behind `smolpilot dataset`, or Python code for what is no verb."""
    source, out = str(root / "v30"), root / "out"
    target = str(out / verb)
    shutil.rmtree(target, ignore_errors=True)
    out.mkdir(exist_ok=True)
    half = ",".join(str(index) for index in range(0, episodes, 2))
    words = {
        "info": ["info", source],
        "tasks": ["tasks", source],
        "check": ["check", source],
        "stats": ["stats", source, "--recompute", "--json"],
        "to-v2.1": ["convert", source, target, "--to", "v2.1"],
        "to-v3.0": ["convert", str(out / "to-v2.1"), target],
        "compare": ["compare", source, str(root / "copy")],
        "exclude": ["exclude", source, target, "--episodes", half],
        "merge": ["merge", target, source, str(root / "copy")],
        "split": ["split", source, target, "--parts", "a=0.5", "b=0.5"],
        "rename": ["tasks", source, target, "--rename", "0=another text"],
        "repair": ["repair", source, target],
    }
    if verb == "open":
        code = f"from smolpilot.datasets import open_dataset; print(len(open_dataset({source!r})))"
        return [sys.executable, "-c", code]
    several = ["--jobs", str(jobs)] if jobs and verb not in ("info", "tasks", "check") else []
    return [sys.executable, "-m", "smolpilot", "dataset", *words[verb], *several]


VERBS = (
    "info", "open", "tasks", "check", "stats", "to-v2.1", "to-v3.0", "compare", "exclude", "merge", "split", "rename",
    "repair",
)  # fmt: skip


def measure(words: list[str], limit: float) -> Cost:
    """Run a command to its end or `limit` seconds, in a session of its own."""
    begin = time.monotonic()
    process = subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, env=os.environ
    )
    stopped = False
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        if time.monotonic() - begin > limit and not stopped:
            os.killpg(process.pid, signal.SIGKILL)
            stopped = True
        time.sleep(0.02)
    process.returncode = os.waitstatus_to_exitcode(status)
    memory = usage.ru_maxrss / (1024 * 1024 if sys.platform == "darwin" else 1024)
    code = None if stopped else process.returncode
    return Cost(time.monotonic() - begin, usage.ru_utime + usage.ru_stime, memory, code)


def _print(verb: str, episodes: int, cost: Cost, before: Cost | None) -> None:
    growth = ""
    if before is not None and cost.code is not None:
        growth = f"x {cost.processor / before.processor:.1f}, x {cost.memory / before.memory:.1f}"
    if cost.code is None:
        growth = "stopped at the limit"
    elif cost.code not in (0, 1) or (cost.code == 1 and verb not in ("check", "stats", "compare")):
        growth += f"  FAILED, exit code {cost.code}"
    print(f"{verb:<16}{episodes:>9,}{cost.wall:>9.1f}{cost.processor:>9.1f}{cost.memory:>8.0f}   {growth}", flush=True)


def _print_jobs(root: Path, episodes: int, limit: float) -> None:
    """One job against one per core, in turns."""
    for verb in ("stats", "to-v2.1"):
        times = {
            jobs: min(measure(command(verb, root, episodes, jobs), limit).wall for _ in range(2)) for jobs in (1, 0)
        }
        print(
            f"{verb}: --jobs 1 takes {times[1]:.2f} s, one per core {times[0]:.2f} s: {times[1] / times[0]:.2f} times"
        )


def write(root: Path, episodes: int, *, video: bool) -> None:
    """A recording, written by a process of its own.

    The peak memory of a process begins with that of the one that started it: this one loads no library.
    """
    script = Path(__file__).with_name("scale_recording.py")
    words = [sys.executable, str(script), str(root), str(episodes), *([] if video else ["--no-video"])]
    subprocess.run(words, check=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--verbs", nargs="+", choices=VERBS, default=list(VERBS))
    parser.add_argument("--jobs", type=int, default=0, help="0: one per core")
    parser.add_argument("--jobs-ratio", action="store_true", help="also time one job against one per core")
    parser.add_argument("--no-video", action="store_true")
    parser.add_argument("--limit", type=float, default=3600.0, help="seconds after which a verb is stopped")
    parser.add_argument("--folder", type=Path, help="keeps the recordings here, for another run")
    return parser.parse_args()


if __name__ == "__main__":
    main()
