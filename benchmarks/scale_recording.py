"""A made-up v3.0 recording of many tiny episodes, for `dataset_scale.py`.

    python benchmarks/scale_recording.py OUT EPISODES [--no-video]

10 frames in an episode, 6 joints, one 64x64 camera, a text for every ten episodes; all video files are one, linked.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

FRAMES, JOINTS, SIDE, FPS = 10, 6, 64, 30
IN_FILE = 1000
CAMERA = "observation.images.top"
_STATS = ("min", "max", "mean", "std")


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
    root: Path, number: int, inside: npt.NDArray[Any], tasks: int, rng: np.random.Generator
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
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
    meta: Path,
    number: int,
    inside: npt.NDArray[Any],
    tasks: list[str],
    state: npt.NDArray[Any],
    action: npt.NDArray[Any],
    video: bool,
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


def _along(values: npt.NDArray[Any], key: str) -> npt.NDArray[Any]:
    return np.asarray(getattr(values.astype(np.float64), key)(axis=1))


def _plain(values: npt.NDArray[Any]) -> dict[str, list[float]]:
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("episodes", type=int)
    parser.add_argument("--no-video", action="store_true")
    options = parser.parse_args()
    write(options.out, options.episodes, video=not options.no_video)


if __name__ == "__main__":
    main()
