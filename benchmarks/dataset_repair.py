"""Seconds and decoded frames of `dataset repair`, beside decoding every frame once with PyAV, which is its floor.

LeRobot has no repair. A made-up recording (H.264, wall-clock time stamps, so that there is work) is repaired with one
job and with one per core; decoded frames are counted where PyAV hands them out. Commands take turns; medians.

`python benchmarks/dataset_repair.py [--episodes 40] [--frames 200] [--size 480x640] [--repeats 3]`
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np

from smolpilot.datasets.repair import RepairWishes, repair
from smolpilot.datasets.write.writer import DatasetWriter

FPS = 30


def write(root: Path, episodes: int, frames: int, height: int, width: int) -> Path:
    """Two cameras, a block that moves over noise; one video file for each five episodes."""
    import pyarrow.parquet as pq

    generator = np.random.default_rng(0)
    noise = generator.integers(60, 190, (height, width, 3), dtype=np.uint8)
    size = {"front": (height, width), "wrist": (height, width)}
    names = ["pan", "lift", "gripper"]
    with DatasetWriter(
        root, fps=FPS, state_names=names, action_names=names, cameras=size, video_file_frames=5 * frames
    ) as writer:
        for episode in range(episodes):
            for number in range(frames):
                picture = noise.copy()
                x = (5 * number + 11 * episode) % (width - 60)
                picture[40:100, x : x + 60] = (220, 40, 40)
                state = np.sin(0.03 * number + np.array([0.1, 0.5, 0.9]) * (episode + 1)).astype(np.float32)
                action = np.sin(0.03 * (number + 2) + np.array([0.1, 0.5, 0.9]) * (episode + 1)).astype(np.float32)
                writer.add_frame(
                    {
                        "observation.state": state,
                        "action": action,
                        "task": "move the block",
                        "observation.images.front": picture,
                        "observation.images.wrist": picture,
                    }
                )
            writer.end_episode()
    for path in root.glob("data/*/*.parquet"):
        table = pq.read_table(path)
        late = np.asarray(table["timestamp"].to_numpy()) * 1.0
        late += np.random.default_rng(1).uniform(0, 0.02, len(late))
        place = table.column_names.index("timestamp")
        pq.write_table(table.set_column(place, "timestamp", [late.astype(np.float32)]), path)
    return root


def decode_all(root: Path) -> int:
    """Every frame of every video, once, with the decoder's own threads."""
    number = 0
    for path in sorted(root.glob("videos/**/*.mp4")):
        with av.open(str(path)) as container:
            container.streams.video[0].thread_type = "AUTO"
            number += sum(1 for _ in container.decode(container.streams.video[0]))
    return number


def decoded_by_scans(root: Path, target: Path) -> int:
    """Frames that whole-file scans hand out during a repair: source and copy."""
    from smolpilot.datasets.check.scan import video_scans as video_scans

    scanned: list[int] = []
    module: Any = (
        video_scans
        if hasattr(video_scans, "scan_video")
        else __import__("smolpilot.datasets.check.scan.scan_pool", fromlist=["scan_video"])
    )
    original = module.scan_video

    def counting(path: Path, **options: object) -> Any:
        scan = original(path, **options)
        scanned.append(int(scan.decoded.sum()))
        return scan

    module.scan_video = counting
    try:
        repair(root, target)
    finally:
        module.scan_video = original
        shutil.rmtree(target, ignore_errors=True)
    return sum(scanned)


def timed(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=40)
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--size", default="480x640")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    height, width = map(int, options.size.split("x"))
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        base = Path(folder)
        root = write(base / "src", options.episodes, options.frames, height, width)
        total = decode_all(root)
        seconds: dict[str, list[float]] = {"decode once": [], "jobs 1": [], f"jobs {cores}": []}
        # Not counted: what the first repair imports.
        repair(write(base / "warm", 1, 10, height, width), base / "dst")
        shutil.rmtree(base / "dst")
        for _ in range(options.repeats):
            seconds["decode once"].append(timed(lambda: decode_all(root)))
            for jobs in dict.fromkeys((1, cores)):
                target = base / "dst"
                seconds[f"jobs {jobs}"].append(timed(lambda: repair(root, target, RepairWishes(jobs=jobs))))  # noqa: B023
                shutil.rmtree(target)
        frames = decoded_by_scans(root, base / "dst")
    middle = {name: statistics.median(values) for name, values in seconds.items() if values}
    floor, single = middle["decode once"], middle["jobs 1"]
    print(f"{platform.processor() or platform.machine()}, {cores} cores; {total} frames of {options.size}")
    for name, value in middle.items():
        print(f"{name:>12}: {value:7.2f} s, {value / floor:5.2f} x decoding once, {single / value:5.2f} x one job")
    print(f"decoded by whole-file scans: {frames} frames, {frames / total:.2f} per frame of the recording")
    print(json.dumps({"seconds": middle, "frames": total, "scanned": frames, "cores": cores}))


if __name__ == "__main__":
    main()
