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
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FRAMES, JOINTS, SIDE, FPS = 10, 6, 64, 30
IN_FILE = 1000
CAMERA = "observation.images.top"
_STATS = ("min", "max", "mean", "std")


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
    """A v3.0 recording of smooth random motion; all video files are one, linked."""
    meta = root / "meta"
    (meta / "episodes" / "chunk-000").mkdir(parents=True)
    tasks = [f"put object {i} into the box" for i in range(max(1, episodes // 10))]
    rng = np.random.default_rng(episodes)
    states, actions = [], []
    for number, first in enumerate(range(0, episodes, IN_FILE)):
        inside = np.arange(first, min(first + IN_FILE, episodes))
        state, action = _write_table(root, number, inside, len(tasks), rng)
        states.append(state)
        actions.append(action)
        _write_episodes(meta, number, inside, tasks, state, action, video)
        if video:
            _link_video(root, number)
    pq.write_table(pa.table({"task_index": np.arange(len(tasks)), "task": tasks}), meta / "tasks.parquet")
    whole = {
        name: {**_plain(np.concatenate(parts).reshape(1, -1, JOINTS)), "count": [episodes * FRAMES]}
        for name, parts in (("observation.state", states), ("action", actions))
    }
    (meta / "stats.json").write_text(json.dumps(whole))
    (meta / "info.json").write_text(json.dumps(_info(episodes, len(tasks), video), indent=1))


def _write_table(
    root: Path, number: int, inside: np.ndarray, tasks: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    count = len(inside)
    motion = rng.uniform(-1, 1, (count, 1, JOINTS)) + np.cumsum(rng.normal(0, 0.02, (count, FRAMES + 1, JOINTS)), 1)
    state, action = motion[:, :-1].astype(np.float32), motion[:, 1:].astype(np.float32)
    frames = np.tile(np.arange(FRAMES), count)
    folder = root / "data" / "chunk-000"
    folder.mkdir(parents=True, exist_ok=True)
    columns = {
        "observation.state": pa.FixedSizeListArray.from_arrays(state.ravel(), JOINTS),
        "action": pa.FixedSizeListArray.from_arrays(action.ravel(), JOINTS),
        "timestamp": (frames / FPS).astype(np.float32),
        "frame_index": frames,
        "episode_index": np.repeat(inside, FRAMES),
        "index": inside[0] * FRAMES + np.arange(count * FRAMES),
        "task_index": np.repeat(inside % tasks, FRAMES),
    }
    pq.write_table(pa.table(columns), folder / f"file-{number:03d}.parquet")
    return state, action


def _write_episodes(
    meta: Path, number: int, inside: np.ndarray, tasks: list[str], state: np.ndarray, action: np.ndarray, video: bool
) -> None:
    count = len(inside)
    columns: dict[str, Any] = {
        "episode_index": inside,
        "tasks": [[tasks[i % len(tasks)]] for i in inside],
        "length": np.full(count, FRAMES),
        "data/chunk_index": np.zeros(count, dtype=np.int64),
        "data/file_index": np.full(count, number),
        "dataset_from_index": inside * FRAMES,
        "dataset_to_index": (inside + 1) * FRAMES,
    }
    if video:
        places = np.arange(count)
        columns |= {
            f"videos/{CAMERA}/chunk_index": np.zeros(count, dtype=np.int64),
            f"videos/{CAMERA}/file_index": np.full(count, number),
            f"videos/{CAMERA}/from_timestamp": places * FRAMES / FPS,
            f"videos/{CAMERA}/to_timestamp": (places + 1) * FRAMES / FPS,
        }
        level = {"min": 0.0, "max": 1.0, "mean": 0.4, "std": 0.2}
        columns |= {f"stats/{CAMERA}/{key}": [[[[level[key]]]] * 3] * count for key in _STATS}
        columns[f"stats/{CAMERA}/count"] = [[FRAMES]] * count
    for name, values in (("observation.state", state), ("action", action)):
        columns |= {f"stats/{name}/{key}": _along(values, key).tolist() for key in _STATS}
        columns[f"stats/{name}/count"] = [[FRAMES]] * count
    pq.write_table(pa.table(columns), meta / "episodes" / "chunk-000" / f"file-{number:03d}.parquet")


def _along(values: np.ndarray, key: str) -> np.ndarray:
    return np.asarray(getattr(values.astype(np.float64), key)(axis=1))


def _plain(values: np.ndarray) -> dict[str, list[float]]:
    return {key: _along(values, key)[0].tolist() for key in _STATS}


def _link_video(root: Path, number: int) -> None:
    folder = root / "videos" / CAMERA / "chunk-000"
    folder.mkdir(parents=True, exist_ok=True)
    first = folder / "file-000.mp4"
    if number:
        os.link(first, folder / f"file-{number:03d}.mp4")
        return
    with av.open(str(first), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"g": str(FRAMES), "bf": "0", "preset": "ultrafast"})
        stream.width = stream.height = SIDE
        stream.pix_fmt = "yuv420p"
        for frame in range(IN_FILE * FRAMES):
            picture = np.full((SIDE, SIDE, 3), 60 + frame // FRAMES % 120, dtype=np.uint8)
            place = 5 * (frame % FRAMES)
            picture[place : place + 12, place : place + 12] = (220, 60, 40)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def _info(episodes: int, tasks: int, video: bool) -> dict[str, Any]:
    vector = {"dtype": "float32", "shape": [JOINTS], "names": [f"joint_{i}" for i in range(JOINTS)]}
    whole = {"dtype": "int64", "shape": [1], "names": None}
    features: dict[str, Any] = {"observation.state": vector, "action": vector}
    if video:
        shape, details = [SIDE, SIDE, 3], {"video.fps": FPS, "video.codec": "h264", "video.pix_fmt": "yuv420p"}
        names = ["height", "width", "channels"]
        features[CAMERA] = {"dtype": "video", "shape": shape, "names": names, "info": details}
    features["timestamp"] = {**whole, "dtype": "float32"}
    features |= dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), whole)
    return {
        "codebase_version": "v3.0",
        "robot_type": "so101",
        "total_episodes": episodes,
        "total_frames": episodes * FRAMES,
        "total_tasks": tasks,
        "chunks_size": 1000,
        "fps": FPS,
        "splits": {"train": f"0:{episodes}"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4" if video else None,
        "features": features,
    }


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
