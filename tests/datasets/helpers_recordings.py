"""Sound recordings to be damaged: the same demonstrations as a v3.0 and a v2.1 folder, with real encoded video."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from smolpilot.common.statistics import array_statistics, merge_statistics, statistics_from_json, statistics_to_json
from smolpilot.datasets import DatasetWriter
from smolpilot.datasets.media.encode import VideoEncoder
from smolpilot.datasets.statistics.image_statistics import ImageStatistics

JOINTS = ["pan", "lift", "gripper"]
CAMERAS = ("front", "wrist")
FPS = 10
SIZE = (48, 64)
LENGTHS = (24, 27, 27, 30, 25, 26)
TASKS = ("touch the red block", "touch the blue block")

type Edit = Callable[[list["Take"]], None]


@dataclass
class Take:
    """One demonstration before it is written."""

    state: npt.NDArray[Any]
    action: npt.NDArray[Any]
    pictures: dict[str, npt.NDArray[Any]]
    task: str

    def __len__(self) -> int:
        return len(self.state)


def takes(edit: Edit | None = None, lengths: tuple[int, ...] = LENGTHS) -> list[Take]:
    """Smooth motion that differs from episode to episode, a block that moves with it, brightness of its own."""
    made: list[Take] = []
    for episode, length in enumerate(lengths):
        phase = np.linspace(0, np.pi, length + 2)[:, None] + np.array([0.3, 0.7, 0.1]) * episode
        motion = (np.sin(phase) * [1.0, 0.8, 0.4] + [0.0, 0.1, 0.5]).astype(np.float32)
        pictures: dict[str, npt.NDArray[Any]] = {}
        for place, camera in enumerate(CAMERAS):
            frames = np.full((length, *SIZE, 3), 60 + 50 * place + 12 * episode, dtype=np.uint8)
            for i in range(length):
                x, y = int(26 + 22 * motion[i, 0]), int(17 + 15 * motion[i, 1])
                frames[i, y : y + 12, x : x + 12] = (220, 40, 40) if episode % 2 == 0 else (40, 40, 220)
            pictures[camera] = frames
        made.append(Take(motion[:-2].copy(), motion[2:].copy(), pictures, TASKS[episode % 2]))
    if edit is not None:
        edit(made)
    return made


def write_v3(root: Path, recorded: list[Take]) -> Path:
    """A v3.0 folder: three episodes in a video file, all in one table."""
    size = dict.fromkeys(CAMERAS, SIZE)
    with DatasetWriter(
        root, fps=FPS, state_names=JOINTS, action_names=JOINTS, cameras=size, robot_type="toy", video_file_frames=70
    ) as writer:
        for take in recorded:
            for i in range(len(take)):
                frame: dict[str, Any] = {
                    "observation.state": take.state[i],
                    "action": take.action[i],
                    "task": take.task,
                }
                frame |= {f"observation.images.{name}": pictures[i] for name, pictures in take.pictures.items()}
                writer.add_frame(frame)
            writer.end_episode()
    return root


def write_v21(root: Path, recorded: list[Take], *, version: str = "v2.1") -> Path:
    """A v2.1 (or v2.0) folder as LeRobot wrote them: a table and a video per episode, json lines."""
    (root / "meta").mkdir(parents=True)
    (root / "data" / "chunk-000").mkdir(parents=True)
    texts = list(dict.fromkeys(take.task for take in recorded))
    start = 0
    episodes: list[dict[str, Any]] = []
    statistics: list[dict[str, Any]] = []
    for episode, take in enumerate(recorded):
        columns = _columns(take, episode, start, texts.index(take.task))
        table = pa.table({name: _array(values) for name, values in columns.items()})
        pq.write_table(table, root / "data" / "chunk-000" / f"episode_{episode:06d}.parquet")
        stats = {name: array_statistics(values) for name, values in columns.items()}
        for camera, pictures in take.pictures.items():
            key = f"observation.images.{camera}"
            write_video(root / "videos" / "chunk-000" / key / f"episode_{episode:06d}.mp4", pictures)
            seen = ImageStatistics()
            for i, picture in enumerate(pictures):
                seen.add(picture, i)
            stats[key] = seen.result()
        plain = {name: {key: value.tolist() for key, value in one.items()} for name, one in stats.items()}
        episodes.append({"episode_index": episode, "tasks": [take.task], "length": len(take)})
        statistics.append({"episode_index": episode, "stats": plain})
        start += len(take)
    write_lines(root / "meta" / "episodes.jsonl", episodes)
    write_lines(root / "meta" / "tasks.jsonl", [{"task_index": i, "task": text} for i, text in enumerate(texts)])
    if version == "v2.1":
        write_lines(root / "meta" / "episodes_stats.jsonl", statistics)
    else:
        merged = merge_statistics([statistics_from_json(row["stats"]) for row in statistics])
        (root / "meta" / "stats.json").write_text(statistics_to_json(merged))
    (root / "meta" / "info.json").write_text(json.dumps(_info(version, len(recorded), start, len(texts)), indent=4))
    return root


def write_video(path: Path, pictures: npt.NDArray[Any], *, codec: Any = "h264", fps: float = FPS) -> None:
    """A whole video file."""
    path.unlink(missing_ok=True)
    encoder = VideoEncoder(path, width=pictures.shape[2], height=pictures.shape[1], fps=fps, codec=codec)
    for picture in pictures:
        encoder.add(picture)
    encoder.close()


def tree_hash(root: Path) -> dict[str, str]:
    """A hash of the contents of each file."""
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _columns(take: Take, episode: int, start: int, task: int) -> dict[str, npt.NDArray[Any]]:
    numbers = np.arange(len(take), dtype=np.int64)
    return {
        "observation.state": take.state,
        "action": take.action,
        "timestamp": (numbers / FPS).astype(np.float32),
        "frame_index": numbers,
        "episode_index": np.full(len(take), episode, dtype=np.int64),
        "index": numbers + start,
        "task_index": np.full(len(take), task, dtype=np.int64),
    }


def _array(values: npt.NDArray[Any]) -> pa.Array:
    return pa.array(values.tolist(), pa.list_(pa.float32())) if values.ndim == 2 else pa.array(values)


def _info(version: str, episodes: int, frames: int, tasks: int) -> dict[str, Any]:
    vector = {"dtype": "float32", "shape": [len(JOINTS)], "names": JOINTS}
    video = {
        "dtype": "video",
        "shape": [*SIZE, 3],
        "names": ["height", "width", "channel"],
        "info": {"video.fps": FPS, "video.codec": "h264", "video.pix_fmt": "yuv420p", "has_audio": False},
    }
    scalar = {"dtype": "int64", "shape": [1], "names": None}
    return {
        "codebase_version": version,
        "robot_type": "toy",
        "total_episodes": episodes,
        "total_frames": frames,
        "total_tasks": tasks,
        "total_videos": episodes * len(CAMERAS),
        "total_chunks": 1,
        "chunks_size": 1000,
        "fps": FPS,
        "splits": {"train": f"0:{episodes}"},
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        "features": {
            "observation.state": vector,
            "action": vector,
            **{f"observation.images.{camera}": video for camera in CAMERAS},
            "timestamp": {"dtype": "float32", "shape": [1], "names": None},
            **dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), scalar),
        },
    }
