"""Statistics per episode, as LeRobot stores them: exact for numbers, from sampled frames for cameras."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from av.video.reformatter import VideoReformatter

from smolpilot.datasets.rewrite.packets import Clip, open_video
from smolpilot.datasets.rewrite.tables import plain_column
from smolpilot.errors import DatasetError
from smolpilot.statistics import QUANTILES, array_statistics

_SMALL, _TARGET = 300, 150


def sampled(length: int) -> list[int]:
    """Numbers of the frames that LeRobot looks at (compute_stats.py, sample_indices): 100 of up to 464, then N^0.75."""
    count = max(min(100, length), min(int(length**0.75), 10_000))
    return [int(i) for i in np.round(np.linspace(0, length - 1, count))]


class LevelStatistics:
    """Statistics per channel of 8-bit pictures, exact over the pixels that LeRobot looks at, of values in [0, 1]."""

    def __init__(self) -> None:
        self._levels = np.zeros((3, 256), dtype=np.int64)
        self._count = 0

    def add(self, picture: npt.NDArray[np.uint8]) -> None:
        """Count in a picture `[h, w, 3]`; large ones are thinned out as LeRobot does it."""
        height, width = picture.shape[:2]
        if max(height, width) >= _SMALL:
            step = int(max(height, width) / _TARGET)
            picture = picture[::step, ::step]
        for channel in range(3):
            self._levels[channel] += np.bincount(picture[..., channel].ravel(), minlength=256)
        self._count += 1

    def result(self) -> dict[str, Any]:
        """mean, std, min, max, quantiles `[3, 1, 1]`, and the number of pictures `[1]`."""
        values = np.arange(256) / 255.0
        share = self._levels / self._levels.sum(axis=1, keepdims=True)
        mean = share @ values
        seen = self._levels > 0
        stats = {
            "mean": mean,
            "std": np.sqrt(np.maximum(share @ values**2 - mean**2, 0.0)),
            "min": values[seen.argmax(axis=1)],
            "max": values[255 - seen[:, ::-1].argmax(axis=1)],
        }
        cumulative = np.cumsum(share, axis=1)
        for name, quantile in QUANTILES.items():
            stats[name] = values[np.minimum((cumulative < quantile).sum(axis=1), 255)]
        shaped = {name: value.reshape(3, 1, 1).tolist() for name, value in stats.items()}
        return {**shaped, "count": [self._count]}


@dataclass(frozen=True)
class PicturesPart:
    """Statistics of one camera in one episode, from its video."""

    name: str
    path: Path
    clip: Clip
    output: None = None

    def write(self, _: Path) -> dict[str, Any]:
        """Decode the sampled frames; `{"statistics": …}`."""
        wanted = set(sampled(self.clip.frames))
        levels, reformatter, number = LevelStatistics(), VideoReformatter(), 0
        with open_video(self.path) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            if self.clip.first_pts:
                container.seek(self.clip.first_dts, stream=stream, backward=True, any_frame=False)
            for frame in container.decode(stream):
                if frame.pts is None or frame.pts < self.clip.first_pts:
                    continue
                if number in wanted:
                    levels.add(np.asarray(reformatter.reformat(frame, format="rgb24").to_ndarray()))
                number += 1
                if number == self.clip.frames:
                    return {"statistics": levels.result()}
        raise DatasetError(
            f"Only {number} of {self.clip.frames} frames of {self.path} can be decoded.",
            fix="See `smolpilot dataset check`; `smolpilot dataset repair` leaves such episodes out.",
        )


def table_statistics(table: pa.Table, known: list[str], pictures: list[str]) -> dict[str, dict[str, Any]]:
    """Statistics of all columns that hold numbers, but for the `known` ones, and of the picture columns `pictures`."""
    found: dict[str, dict[str, Any]] = {}
    for name in table.column_names:
        if name not in known and len(table):
            stats = _column_statistics(table[name])
            if stats is not None:
                found[name] = stats
    for name in pictures:
        if name in table.column_names:
            found[name] = _picture_statistics(table[name])
    return found


def _column_statistics(column: pa.ChunkedArray) -> dict[str, Any] | None:
    array, count = plain_column(column), len(column)
    shape: list[int] = []
    while pa.types.is_list(array.type):
        if array.null_count:
            return None
        inner = array.flatten()
        if len(inner) % max(len(array), 1):
            return None
        shape.append(len(inner) // len(array))
        array = inner
    kind = array.type
    if array.null_count or not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        return None
    values = np.asarray(array.to_numpy(zero_copy_only=False), dtype=np.float64).reshape(count, -1)
    stats = array_statistics(values)
    return {
        name: [count] if name == "count" else (value.reshape(shape) if shape else value).tolist()
        for name, value in stats.items()
    }


def _picture_statistics(column: pa.ChunkedArray) -> dict[str, Any]:
    from PIL import Image

    levels = LevelStatistics()
    for i in sampled(len(column)):
        cell = column[i].as_py()
        content = cell.get("bytes") if isinstance(cell, dict) else cell
        try:
            with Image.open(io.BytesIO(content or b"")) as picture:
                levels.add(np.array(picture.convert("RGB"), dtype=np.uint8))
        except (OSError, SyntaxError, TypeError) as error:
            raise DatasetError(f"Row {i} of a picture column cannot be read: {error}") from error
    return levels.result()
