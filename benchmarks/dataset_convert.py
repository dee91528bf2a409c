"""Seconds of whole commands, v2.1 -> v3.0: ours, proof included, beside LeRobot's converter, on the same made-up data.

A few episodes are encoded (AV1 480x640, a key frame every second frame, as LeRobot does it) and their files copied
under the names of all others; tables and statistics are each episode's own. Commands take turns, each on a fresh
output; medians, and the ratio of each pair. The source is in the page cache. Most of LeRobot's time goes into imports,
so both are measured twice: with modules compiled by an earlier run, as on a machine in use, and compiled anew at each
start, as with PYTHONDONTWRITEBYTECODE (fresh containers, read-only installations).

`python benchmarks/dataset_convert.py [--episodes 93] [--frames 200] [--cameras 1] [--size 480x640] [--repeats 3]
[--path V21_FOLDER]`
(needs the `test` dependency group). `--lab` measures ours alone on a recording of a large lab's size, 700 episodes,
237,875 frames, two cameras (about 9 GB of disk for source and result), and its peak memory.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

JOINTS, FPS = 14, 30
LAB_EPISODES, LAB_FRAMES = 700, 237_875


def scene() -> npt.NDArray[Any]:
    """A picture with some detail: 17 kB per key frame of 480x640; a real robot's table had 18 at these settings."""
    generator = np.random.default_rng(0)
    layers = [
        np.kron(generator.normal(0, strength, (960 // cell, 1280 // cell, 3)), np.ones((cell, cell, 1)))
        for cell, strength in ((2, 1.2), (8, 4), (32, 12), (80, 20))
    ]
    detail: npt.NDArray[Any] = np.clip(np.sum(layers, axis=0) + 120, 0, 255).astype(np.uint8)
    return detail


def view(picture: npt.NDArray[Any], camera: int, number: int, height: int, width: int) -> npt.NDArray[Any]:
    """What a camera sees in frame `number`: it stands still, and something moves in front of it."""
    block, seen = height // 6, picture[:height, 200 * camera : 200 * camera + width].copy()
    x = 3 * number % (width - block)
    seen[2 * block : 3 * block, x : x + block] = picture[500 : 500 + block, 100 : 100 + block]
    return seen


def encode_originals(folder: Path, lengths: list[int], cameras: list[str], height: int, width: int) -> None:
    from smolpilot.datasets.media.encode import VideoEncoder

    picture = scene()
    for k, camera in enumerate(cameras):
        for length in lengths:
            path = folder / f"{camera}-{length}.mp4"
            encoder = VideoEncoder(path, width=width, height=height, fps=FPS, codec="av1")
            for number in range(length):
                encoder.add(view(picture, k, number, height, width))
            encoder.close()


def described(values: npt.NDArray[Any]) -> dict[str, Any]:
    rows = values.reshape(len(values), -1).astype(np.float64)
    stats = {name: getattr(rows, name)(axis=0).tolist() for name in ("mean", "std", "min", "max")}
    return {**stats, "count": [len(rows)]}


def build(root: Path, episodes: int, frames: int, cameras: list[str], height: int, width: int) -> None:
    """A v2.1 folder of `episodes` episodes and `frames` frames in all."""
    lengths = [frames // episodes + (number < frames % episodes) for number in range(episodes)]
    encode_originals(root.parent / "originals", sorted(set(lengths)), cameras, height, width)
    for folder in ("meta", "data/chunk-000", *(f"videos/chunk-000/observation.images.{c}" for c in cameras)):
        (root / folder).mkdir(parents=True)
    generator, start, rows, stats = np.random.default_rng(1), 0, [], []
    picture = {"mean": [[[0.5]]] * 3, "std": [[[0.2]]] * 3, "min": [[[0.0]]] * 3, "max": [[[1.0]]] * 3, "count": [100]}
    for episode, length in enumerate(lengths):
        motion = generator.normal(size=(length, JOINTS)).cumsum(axis=0).astype(np.float32)
        numbers = np.arange(length)
        columns = {
            "observation.state": motion,
            "action": motion + np.float32(0.1),
            "timestamp": (numbers / FPS).astype(np.float32),
            "frame_index": numbers,
            "episode_index": np.full(length, episode),
            "index": numbers + start,
            "task_index": np.zeros(length, dtype=np.int64),
        }
        arrays = {
            name: pa.FixedSizeListArray.from_arrays(pa.array(v.ravel()), JOINTS) if v.ndim == 2 else pa.array(v)
            for name, v in columns.items()
        }
        pq.write_table(pa.table(arrays), root / f"data/chunk-000/episode_{episode:06d}.parquet")
        for camera in cameras:
            copy = root / f"videos/chunk-000/observation.images.{camera}/episode_{episode:06d}.mp4"
            shutil.copyfile(root.parent / "originals" / f"{camera}-{length}.mp4", copy)
        rows.append({"episode_index": episode, "tasks": ["push"], "length": length})
        pictures = {f"observation.images.{camera}": picture for camera in cameras}
        described_columns = {name: described(values) for name, values in columns.items()}
        stats.append({"episode_index": episode, "stats": {**described_columns, **pictures}})
        start += length
    write_meta(root, episodes, frames, cameras, (height, width), rows, stats)


def write_meta(
    root: Path, episodes: int, frames: int, cameras: list[str], size: tuple[int, int], rows: Any, stats: Any
) -> None:
    vector = {"dtype": "float32", "shape": [JOINTS], "names": [f"joint_{i}" for i in range(JOINTS)]}
    picture = {"dtype": "video", "shape": [*size, 3], "names": ["height", "width", "channels"]}
    scalar = {"dtype": "int64", "shape": [1], "names": None}
    info = {
        "codebase_version": "v2.1",
        "robot_type": "benchmark",
        "total_episodes": episodes,
        "total_frames": frames,
        "total_tasks": 1,
        "total_videos": episodes * len(cameras),
        "total_chunks": 1,
        "chunks_size": 1000,
        "fps": FPS,
        "splits": {"train": f"0:{episodes}"},
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        "features": {
            "observation.state": vector,
            "action": vector,
            **{f"observation.images.{camera}": picture for camera in cameras},
            "timestamp": {"dtype": "float32", "shape": [1], "names": None},
            **dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), scalar),
        },
    }
    (root / "meta/info.json").write_text(json.dumps(info))
    (root / "meta/tasks.jsonl").write_text(json.dumps({"task_index": 0, "task": "push"}) + "\n")
    for name, lines in (("episodes", rows), ("episodes_stats", stats)):
        (root / f"meta/{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def seconds(command: list[str], folder: Path, compiled: bool) -> float:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPYCACHEPREFIX": str(folder / "compiled")}
    if compiled:
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
    else:
        environment |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPYCACHEPREFIX": str(folder / "nothing")}
    begin = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    taken = time.perf_counter() - begin
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return taken


def ours(source: Path, folder: Path, compiled: bool = True) -> float:
    target = folder / "ours"
    taken = seconds(
        [sys.executable, "-m", "smolpilot", "dataset", "convert", str(source), str(target)], folder, compiled
    )
    shutil.rmtree(target)
    return taken


def theirs(source: Path, folder: Path, compiled: bool = True) -> float:
    """Theirs works in place: on a copy, whose making is not counted."""
    target = Path(shutil.copytree(source, folder / "theirs"))
    script = ["-m", "lerobot.scripts.convert_dataset_v21_to_v30", "--repo-id=benchmark/convert"]
    taken = seconds([sys.executable, *script, f"--root={target}", "--push-to-hub=false"], folder, compiled)
    shutil.rmtree(target)
    shutil.rmtree(folder / "theirs_old")
    return taken


def size_of(root: Path) -> float:
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file()) / 1e9


def machine() -> str:
    cores = len(os.sched_getaffinity(0))
    return (
        f"{platform.machine()}, {cores} cores, load {os.getloadavg()[0]:.1f} before, Python {platform.python_version()}"
    )


def side_by_side(source: Path, folder: Path, repeats: int) -> None:
    for run in (ours, theirs):
        run(source, folder)
    for compiled in (True, False):
        print("modules compiled by an earlier run" if compiled else "modules compiled at each start")
        pairs = [(ours(source, folder, compiled), theirs(source, folder, compiled)) for _ in range(repeats)]
        report(pairs)


def report(pairs: list[tuple[float, float]]) -> None:
    for name, times in zip(("smolpilot, proof included", "LeRobot"), zip(*pairs, strict=True), strict=True):
        spread = f"{min(times):.2f} to {max(times):.2f}"
        print(f"  {name:<28} {statistics.median(times):7.2f} s   ({spread})")
    ratios = [b / a for a, b in pairs]
    print(f"  ratio {statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f}), {len(pairs)} pairs")


def lab(source: Path, folder: Path) -> None:
    taken = ours(source, folder)
    # Of the largest process that has ended: the command itself or one of its workers.
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"converted and proven in {taken:.0f} s ({taken / 60:.1f} minutes); largest process {peak:.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=93)
    parser.add_argument("--frames", type=int, default=200, help="per episode")
    parser.add_argument("--cameras", type=int, default=1)
    parser.add_argument("--size", default="480x640", help="height x width")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--path", type=Path, help="a v2.1 folder instead of a made-up one")
    parser.add_argument("--lab", action="store_true")
    parser.add_argument("--folder", type=Path, help="where to work (default: the system's temporary folder)")
    options = parser.parse_args()
    height, width = (int(part) for part in options.size.split("x"))
    print(machine())
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        source = options.path or folder / "source"
        cameras = [f"camera_{k}" for k in range(2 if options.lab else options.cameras)]
        if options.path is None:
            episodes = LAB_EPISODES if options.lab else options.episodes
            build(source, episodes, LAB_FRAMES if options.lab else episodes * options.frames, cameras, height, width)
        info = json.loads((source / "meta/info.json").read_text())
        print(f"{info['total_episodes']} episodes, {info['total_frames']:,} frames, {size_of(source):.2f} GB")
        if options.lab:
            lab(source, folder)
        else:
            side_by_side(source, folder, options.repeats)


if __name__ == "__main__":
    main()
