"""Builders of recordings in the shapes that are met in the wild."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from .helpers_recordings import takes, write_v3, write_v21

type Build = Callable[..., Path]


@pytest.fixture
def copy(tiny_dataset: Path, tmp_path: Path) -> Path:
    """A copy of the tiny recording, to be damaged."""
    return Path(shutil.copytree(tiny_dataset, tmp_path / "copy"))


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same sound recording as a v3.0 and a v2.1 folder; never to be changed."""
    base = tmp_path_factory.mktemp("sound")
    return {"v3": write_v3(base / "v3", takes()), "v21": write_v21(base / "v21", takes())}


@pytest.fixture
def broken(sound: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of the sound recording in this layout, to be damaged."""
    return lambda layout: Path(shutil.copytree(sound[layout], tmp_path / "broken"))


@pytest.fixture
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Results are flushed to disk file by file, which on a busy machine takes longer than the repair."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def edit_info() -> Callable[[Path, Callable[[dict[str, Any]], object]], None]:
    def edit(root: Path, change: Callable[[dict[str, Any]], object]) -> None:
        path = root / "meta" / "info.json"
        info = json.loads(path.read_text())
        change(info)
        path.write_text(json.dumps(info))

    return edit


@pytest.fixture
def edit_rows() -> Callable[[Path, Callable[[dict[str, list[Any]]], object]], None]:
    def edit(root: Path, change: Callable[[dict[str, list[Any]]], object]) -> None:
        path = root / "data" / "chunk-000" / "file-000.parquet"
        table = pq.read_table(path)
        columns = table.to_pydict()
        change(columns)
        pq.write_table(
            pa.table({name: pa.array(values, table.schema.field(name).type) for name, values in columns.items()}), path
        )

    return edit


@pytest.fixture
def build_v21(tmp_path: Path) -> Build:
    """Build a v2.1 folder: a parquet and a video file per episode, json lines as meta."""

    def build(
        *,
        tasks: dict[int, str] | None = None,
        lengths: tuple[int, ...] = (7, 9, 5),
        names: Any = None,
        statistics: bool = False,
        camera_key: str = "observation.images.top",
        pictures_in_table: bool = False,
        fps: float = 10,
        version: str = "v2.1",
    ) -> Path:
        from smolpilot.datasets.media.encode import VideoEncoder

        tasks = tasks or {0: "push"}
        root = tmp_path / "v21"
        (root / "meta").mkdir(parents=True)
        (root / "data" / "chunk-000").mkdir(parents=True)
        indices, start, episodes, stats = list(tasks), 0, [], []
        for episode, length in enumerate(lengths):
            task = indices[episode % len(indices)]
            state = np.stack([np.arange(length) + 100 * episode, np.full(length, episode)], axis=1).astype(np.float32)
            columns: dict[str, Any] = {
                "observation.state": pa.array(state.tolist(), pa.list_(pa.float32())),
                "action": pa.array((state + 0.5).tolist(), pa.list_(pa.float32())),
                "timestamp": pa.array((np.arange(length) / fps).astype(np.float32)),
                "frame_index": pa.array(np.arange(length)),
                "episode_index": pa.array(np.full(length, episode)),
                "index": pa.array(np.arange(length) + start),
                "task_index": pa.array(np.full(length, task)),
            }
            pictures = [np.full((32, 32, 3), 10 * frame + 60 * episode, dtype=np.uint8) for frame in range(length)]
            if pictures_in_table:
                columns[camera_key] = pa.array([{"bytes": _png(picture), "path": None} for picture in pictures])
            else:
                path = root / "videos" / "chunk-000" / camera_key / f"episode_{episode:06d}.mp4"
                encoder = VideoEncoder(path, width=32, height=32, fps=fps, codec="h264")
                for picture in pictures:
                    encoder.add(picture)
                encoder.close()
            pq.write_table(pa.table(columns), root / "data" / "chunk-000" / f"episode_{episode:06d}.parquet")
            episodes.append({"episode_index": episode, "tasks": [tasks[task]], "length": length})
            stats.append({"episode_index": episode, "stats": _statistics(state)})
            start += length
        dtype = "image" if pictures_in_table else "video"
        vector = {"dtype": "float32", "shape": [2], "names": names}
        scalar = {"dtype": "int64", "shape": [1], "names": None}
        info = {
            "codebase_version": version,
            "robot_type": None,
            "fps": fps,
            "chunks_size": 1000,
            "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
            "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
            "features": {
                "observation.state": vector,
                "action": vector,
                camera_key: {"dtype": dtype, "shape": [32, 32, 3], "names": ["height", "width", "channel"]},
                "timestamp": {"dtype": "float32", "shape": [1], "names": None},
                **dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), scalar),
            },
        }
        (root / "meta" / "info.json").write_text(json.dumps(info))
        _write_lines(root / "meta" / "tasks.jsonl", [{"task_index": i, "task": text} for i, text in tasks.items()])
        _write_lines(root / "meta" / "episodes.jsonl", episodes)
        if statistics:
            _write_lines(root / "meta" / "episodes_stats.jsonl", stats)
        return root

    return build


def _png(picture: npt.NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG")
    return buffer.getvalue()


def _statistics(state: npt.NDArray[Any]) -> dict[str, Any]:
    def of(values: npt.NDArray[Any]) -> dict[str, Any]:
        found = {name: getattr(values, name)(axis=0).tolist() for name in ("mean", "std", "min", "max")}
        return {**found, "count": [len(values)]}

    return {"observation.state": of(state.astype(np.float64)), "action": of(state.astype(np.float64) + 0.5)}


def _write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
