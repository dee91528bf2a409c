"""Statistics per episode, as LeRobot stores them: exact for numbers, from sampled frames for cameras."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from av.video.reformatter import VideoReformatter

from smolpilot.common.errors import DatasetError
from smolpilot.common.statistics import Statistics, plain_statistics
from smolpilot.datasets.format.arrow import is_number, list_items, list_lengths, plain_column
from smolpilot.datasets.media.pixels import to_rgb
from smolpilot.datasets.media.video_file import VideoFile
from smolpilot.datasets.statistics.image_statistics import ImageStatistics

from .proof.derived import column_statistics, judge_column
from .video.packets import Clip, clip_frames

_SMALL, _TARGET = 300, 150


def sampled(length: int) -> list[int]:
    """Numbers of the frames that LeRobot looks at (compute_stats.py, sample_indices): 100 of up to 464, then N^0.75."""
    count = max(min(100, length), min(int(length**0.75), 10_000))
    return [int(i) for i in np.round(np.linspace(0, length - 1, count))]


def _thinned(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The pixels of an image `[h, w, 3]` that LeRobot looks at: of large ones some."""
    height, width = picture.shape[:2]
    step = int(max(height, width) / _TARGET) if max(height, width) >= _SMALL else 1
    return picture[::step, ::step]


def camera_statistics(_: Path, *, path: Path, clip: Clip) -> dict[str, Any]:
    """Statistics of one camera in one episode, from the sampled frames of its video: `{"statistics": …}`."""
    wanted = set(sampled(clip.frames))
    seen, reformatter, count = ImageStatistics(), VideoReformatter(), 0
    with VideoFile(path) as video:
        video.context.thread_count = 1
        if clip.first_pts:
            video.seek(clip.first_dts)
        for count, frame in enumerate(clip_frames(video, clip), 1):
            if count - 1 in wanted:
                seen.count(_thinned(to_rgb(frame, reformatter)))
    if count < clip.frames:
        raise DatasetError(
            f"Only {count} of {clip.frames} frames of {path} can be decoded.",
            fix="See `smolpilot dataset check`; `smolpilot dataset repair` leaves such episodes out.",
        )
    return {"statistics": plain_statistics({"": seen.result()})[""]}


def table_statistics(
    table: pa.Table, stored: Statistics, skipped: Collection[str], pictures: Iterable[str]
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Statistics of all columns that hold numbers but for the `skipped` ones, and of the image columns `pictures`.

    As plain values. Those of `stored` that are of the rows are not computed again; the others are named, with why.
    """
    computed: Statistics = {}
    wrong: dict[str, str] = {}
    for name in table.column_names:
        if name in skipped or not len(table):
            continue
        values = column_values(table[name])
        if values is None:
            continue
        if name in stored:
            reason = _judge(stored[name], values, len(table))
            if not reason:
                continue
            wrong[name] = reason
        stats = column_statistics(values)
        if stats is not None:
            # Of a matrix there are as many values as rows in each place: LeRobot counts frames.
            computed[name] = {**stats, "count": np.array([len(table)])}
    for name in pictures:
        if name in table.column_names:
            computed[name] = _image_statistics(table[name])
    return plain_statistics(computed), wrong


def column_values(column: pa.ChunkedArray) -> npt.NDArray[np.float64] | None:
    """The numbers of a column as LeRobot counts them, `[N, D]`; None for texts, gaps and lists of varying length.

    Of a matrix per frame the last dimension counts, over all its rows.
    """
    array, last = plain_column(column), 1
    while pa.types.is_list(array.type):
        lengths = list_lengths(array, -1)
        if array.null_count or not len(lengths) or (lengths != lengths[0]).any():
            return None
        array, last = list_items(array), int(lengths[0])
    if array.null_count or not is_number(array.type) or not len(array):
        return None
    return np.asarray(array.to_numpy(zero_copy_only=False), dtype=np.float64).reshape(-1, last)


def _judge(stored: Mapping[str, npt.NDArray[np.float64]], values: npt.NDArray[np.float64], frames: int) -> str:
    """Why the stored statistics are not those of the values, all or the finite ones of them; nothing when they are."""
    finite = np.isfinite(values).all(axis=1)
    if finite.all():
        return judge_column(stored, values, [frames])
    rest = values[finite]
    return judge_column(stored, rest, [frames, len(rest)]) if len(rest) else ""


def _image_statistics(column: pa.ChunkedArray) -> dict[str, npt.NDArray[np.float64]]:
    from smolpilot.datasets.media.image_formats import ImageError, decoded, rgb

    seen = ImageStatistics()
    for i in sampled(len(column)):
        cell = column[i].as_py()
        content = cell.get("bytes") if isinstance(cell, dict) else cell
        try:
            seen.count(_thinned(rgb(decoded(content))))
        except ImageError as error:
            raise DatasetError(
                f"The image in row {i} of an episode cannot be decoded: {error}.",
                fix="See `smolpilot dataset check`; `smolpilot dataset repair` leaves such episodes out.",
            ) from error
    return seen.result()
