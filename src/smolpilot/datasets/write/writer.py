"""DatasetWriter: record episodes as a LeRobot v3.0 folder that LeRobot 0.6.1 opens."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from smolpilot.common.atomic import atomic_folder
from smolpilot.common.errors import DatasetError, UsageError
from smolpilot.common.keys import ACTION, STATE, TASK, image_key
from smolpilot.common.safe_paths import why_no_name
from smolpilot.common.statistics import (
    Statistics,
    array_statistics,
    merge_statistics,
    statistics_to_json,
)
from smolpilot.common.text import plain
from smolpilot.datasets.format.features import INDEX_COLUMNS
from smolpilot.datasets.format.parquet_files import parquet_writer, tasks_table, write_parquet
from smolpilot.datasets.format.versions import CURRENT
from smolpilot.datasets.format.writing import episode_row, index_feature, statistics_cells
from smolpilot.datasets.media.encode import (
    CRF,
    GROUP_SIZE,
    Codec,
    VideoEncoder,
    find_encoder,
    pixel_format,
    require_size,
)
from smolpilot.datasets.media.video import RgbImage
from smolpilot.datasets.statistics.image_statistics import ImageStatistics

_EPISODES_PATH = "meta/episodes/chunk-000/file-000.parquet"
_FILES_PER_CHUNK = 1000


class DatasetWriter:
    """Writes a v3.0 dataset; a context manager. The folder appears when the block ends, or not at all.

    `cameras` maps names to (height, width) in pixels; the units of state and action are the robot's own. Videos are
    joined over episodes up to `video_file_frames` frames a file; each episode begins with a key frame.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        fps: float,
        state_names: Sequence[str],
        action_names: Sequence[str],
        cameras: Mapping[str, tuple[int, int]],
        robot_type: str | None = None,
        codec: Codec = "h264",
        video_file_frames: int = 20_000,
    ) -> None:
        if not fps > 0:
            raise UsageError(f"fps is {fps}.", expected="frames per second, above 0")
        find_encoder(codec)
        for name, (height, width) in cameras.items():
            if reason := why_no_name(name) or why_no_name(image_key(name)):
                raise UsageError(
                    f"A camera cannot be called '{plain(name, 200)}': {reason}.",
                    expected="a name such as front: it becomes part of the name of a folder",
                )
            require_size(codec, width, height)
        self.path = Path(path)
        self._fps, self._robot_type, self._codec = fps, robot_type, codec
        self._names = {STATE: list(state_names), ACTION: list(action_names)}
        self._cameras = dict(cameras)
        self._limit = video_file_frames
        self._tasks: dict[str, int] = {}
        self._episodes: list[dict[str, Any]] = []
        self._statistics: list[Statistics] = []
        self._encoders: dict[str, VideoEncoder] = {}
        self._video_files: dict[str, int] = dict.fromkeys(cameras, -1)
        self._rows: list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], int]] = []
        self._pictures: dict[str, ImageStatistics] = {}
        self._total = 0
        self._notes: dict[str, str] = {}
        self._table: pq.ParquetWriter | None = None
        self._folder: AbstractContextManager[Path] = atomic_folder(self.path)
        self._root = self._folder.__enter__()
        self._open = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            self.close()
        else:
            self._abandon(error)

    @property
    def episodes(self) -> int:
        """Number of finished episodes."""
        return len(self._episodes)

    def add_frame(self, frame: Mapping[str, Any]) -> None:
        """Add one frame: `observation.state` `[S]`, `action` `[A]`, `task`, and each camera's image.

        Images are `[h, w, 3]` uint8, or `[3, h, w]` float in [0, 1]. Raises DatasetError for a missing key, a
        wrong shape, or a number that is not finite.
        """
        state, action = self._vector(frame, STATE), self._vector(frame, ACTION)
        task = frame.get(TASK)
        if not isinstance(task, str) or not task.strip():
            raise DatasetError("The frame has no instruction.", expected=f"a text under '{TASK}'")
        pictures = {name: self._picture(frame, name, size) for name, size in self._cameras.items()}
        if not self._rows:
            self._begin_episode()
        for name, picture in pictures.items():
            self._encoders[name].add(picture, key_frame=not self._rows)
            self._pictures[name].add(picture, len(self._rows))
        self._rows.append((state, action, self._tasks.setdefault(task, len(self._tasks))))

    def end_episode(self) -> None:
        """Finish the current episode; without frames it does nothing."""
        if not self._rows:
            return
        index, length = len(self._episodes), len(self._rows)
        numbers = np.arange(length, dtype=np.int64)
        columns: dict[str, npt.NDArray[Any]] = {
            STATE: np.stack([row[0] for row in self._rows]),
            ACTION: np.stack([row[1] for row in self._rows]),
            "timestamp": (numbers / self._fps).astype(np.float32),
            "frame_index": numbers,
            "episode_index": np.full(length, index, dtype=np.int64),
            "index": numbers + self._total,
            "task_index": np.array([row[2] for row in self._rows], dtype=np.int64),
        }
        self._write_rows(columns)
        statistics: Statistics = {name: array_statistics(values) for name, values in columns.items()}
        for name, pictures in self._pictures.items():
            statistics[image_key(name)] = pictures.result()
        self._statistics.append(statistics)
        texts = {number: text for text, number in self._tasks.items()}
        tasks = [texts[number] for number in dict.fromkeys(columns["task_index"].tolist())]
        videos = {
            image_key(name): (
                self._video_files[name],
                (encoder.frames - length) / self._fps,
                encoder.frames / self._fps,
            )
            for name, encoder in self._encoders.items()
        }
        rows = range(self._total, self._total + length)
        record = episode_row(index, tasks, rows, 0, videos, _FILES_PER_CHUNK)
        self._episodes.append(record | statistics_cells(statistics))
        self._total += length
        self._rows = []

    def add_note(self, name: str, text: str) -> None:
        """Keep a text file as meta/NAME, beside LeRobot's files."""
        self._notes[name] = text

    def close(self) -> None:
        """Finish the dataset: the folder appears at `path`. Raises DatasetError when it has no episode."""
        if not self._open:
            return
        try:
            self.end_episode()
            if not self._episodes:
                raise DatasetError(f"Nothing was recorded for {self.path}.", expected="at least one episode")
            for encoder in self._encoders.values():
                encoder.close()
            assert self._table is not None
            self._table.close()
            self._write_meta()
        except BaseException as error:
            self._abandon(error)
            raise
        self._open = False
        self._folder.__exit__(None, None, None)

    def _abandon(self, error: BaseException) -> None:
        if not self._open:
            return
        self._open = False
        for encoder in self._encoders.values():
            encoder.discard()
        self._encoders.clear()
        self._table = None
        self._folder.__exit__(type(error), error, error.__traceback__)

    def _begin_episode(self) -> None:
        index = len(self._episodes)
        for name, (height, width) in self._cameras.items():
            self._pictures[name] = ImageStatistics()
            encoder = self._encoders.get(name)
            if encoder is not None and encoder.frames < self._limit:
                continue
            if encoder is not None:
                encoder.close()
            self._video_files[name] += 1
            relative = CURRENT.video_file(image_key(name), self._video_files[name], index, _FILES_PER_CHUNK)
            self._encoders[name] = VideoEncoder(
                self._root / relative, width=width, height=height, fps=self._fps, codec=self._codec
            )

    def _write_rows(self, columns: dict[str, npt.NDArray[Any]]) -> None:
        """One row group per episode, as LeRobot writes them."""
        arrays = {}
        for name, values in columns.items():
            if values.ndim == 2 and values.shape[1] > 1:
                arrays[name] = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
            else:
                # LeRobot stores a feature of one number as a scalar.
                arrays[name] = pa.array(values.ravel())
        table = pa.table(arrays)
        if self._table is None:
            path = self._root / CURRENT.data_file(0, 0, _FILES_PER_CHUNK)
            path.parent.mkdir(parents=True)
            self._table = parquet_writer(path, table.schema)
        self._table.write_table(table)

    def _write_meta(self) -> None:
        meta = self._root / "meta"
        (self._root / _EPISODES_PATH).parent.mkdir(parents=True)
        write_parquet(pa.Table.from_pylist(self._episodes), self._root / _EPISODES_PATH)
        write_parquet(tasks_table({index: text for text, index in self._tasks.items()}), meta / "tasks.parquet")
        merged = merge_statistics(self._statistics)
        (meta / "stats.json").write_text(statistics_to_json(merged), encoding="utf-8")
        (meta / "info.json").write_text(json.dumps(self._info(), indent=4), encoding="utf-8")
        for name, text in self._notes.items():
            (meta / name).write_text(text, encoding="utf-8")

    def _info(self) -> dict[str, Any]:
        fps = int(self._fps) if float(self._fps).is_integer() else self._fps
        features: dict[str, Any] = {
            name: {"dtype": "float32", "shape": [len(names)], "names": names} for name, names in self._names.items()
        }
        for name, (height, width) in self._cameras.items():
            features[image_key(name)] = {
                "dtype": "video",
                "shape": [height, width, 3],
                "names": ["height", "width", "channels"],
                "info": {
                    "video.height": height,
                    "video.width": width,
                    "video.codec": self._codec,
                    "video.pix_fmt": pixel_format(width, height),
                    "video.fps": fps,
                    "video.channels": 3,
                    "video.g": GROUP_SIZE,
                    "video.crf": CRF[self._codec],
                    "has_audio": False,
                    "is_depth_map": False,
                },
            }
        features |= {name: index_feature(name) for name in INDEX_COLUMNS}
        return {
            "codebase_version": CURRENT.version,
            "robot_type": self._robot_type,
            "total_episodes": len(self._episodes),
            "total_frames": self._total,
            "total_tasks": len(self._tasks),
            "chunks_size": _FILES_PER_CHUNK,
            "data_files_size_in_mb": 100,
            "video_files_size_in_mb": 200,
            "fps": fps,
            "splits": {"train": f"0:{len(self._episodes)}"},
            "data_path": CURRENT.data_path,
            "video_path": CURRENT.video_path if self._cameras else None,
            "features": features,
        }

    def _vector(self, frame: Mapping[str, Any], key: str) -> npt.NDArray[np.float32]:
        if key not in frame:
            raise DatasetError(f"The frame has no '{key}'.", expected=f"a vector of {len(self._names[key])}")
        value = np.array(frame[key], dtype=np.float32)
        if value.shape != (len(self._names[key]),):
            raise DatasetError(f"'{key}' has shape {list(value.shape)}.", expected=f"[{len(self._names[key])}]")
        if not np.isfinite(value).all():
            joint = self._names[key][int(np.flatnonzero(~np.isfinite(value))[0])]
            raise DatasetError(f"'{key}' is not finite at joint '{joint}'.", expected="finite numbers")
        return value

    def _picture(self, frame: Mapping[str, Any], name: str, size: tuple[int, int]) -> RgbImage:
        key = image_key(name)
        if key not in frame:
            raise DatasetError(f"The frame has no image '{key}'.", expected=f"{size[0]}x{size[1]} pixels")
        value = np.asarray(frame[key])
        if value.dtype != np.uint8 and value.shape == (3, *size):
            if value.dtype.kind != "f" or float(value.min()) < 0 or float(value.max()) > 1:
                raise DatasetError(f"The image '{key}' has values outside [0, 1].", expected="float in [0, 1]")
            value = np.round(value.transpose(1, 2, 0) * 255).astype(np.uint8)
        if value.dtype != np.uint8 or value.shape != (*size, 3):
            raise DatasetError(
                f"The image '{key}' has shape {list(value.shape)} and type {value.dtype}.",
                expected=f"[{size[0]}, {size[1]}, 3] uint8, or [3, {size[0]}, {size[1]}] float in [0, 1]",
            )
        return value
