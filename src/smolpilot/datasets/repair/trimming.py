"""Rows at an episode's end that cannot be used (no picture, no value): left out, so that the episode can stay."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from smolpilot.datasets.check.context import ranges
from smolpilot.datasets.check.scan.video_scans import Clip
from smolpilot.datasets.tolerant.found_dataset import Array, Rows

from .pairing import nearest_frames, numbers
from .repaired_columns import Tables


@dataclass(frozen=True)
class Trim:
    """Which rows of an episode stay, `first` to `last` (not included), and why the others go; or why none can stay."""

    first: int
    last: int
    why: str = ""
    problem: str = ""


def usable_rows(tables: Tables, episode: int, positions: npt.NDArray[np.int64], widths: dict[str, int | None]) -> Trim:
    """Rows with a whole state and action: those up to the first without, if all behind it are without, too.

    A gap in the middle cannot be closed: the motion would jump. More than half of the rows have to stay.
    """
    count = len(positions)
    bad = tables.bad_rows(episode, positions, widths)
    if not bad:
        return Trim(0, count)
    together = np.any(list(bad.values()), axis=0)
    places = np.flatnonzero(together)
    first, why = int(places[0]), " and ".join(bad)
    if together[first:].all() and 2 * first > count:
        return Trim(0, first, why)
    return Trim(0, count, problem=f"{why} (frame {ranges([int(place) for place in places[:1000]])})")


def pictured_rows(rows: Rows, places: Array, clips: list[Clip], fps: float) -> Trim:
    """Rows that have a frame in every video, where row and frame times agree: the others are at one end.

    `places` are the rows in order. Too many frames are no matter here. Raises nothing: `problem` says which camera has
    too few frames where times do not tell which rows these belong to.
    """
    count = len(places)
    first, last, why = 0, count, []
    stored = numbers(rows, "timestamp")
    for clip in clips:
        if clip.frames >= count:
            continue
        name, missing = clip.camera.name, count - clip.frames
        bare = Trim(0, count, problem=f"camera '{name}' has {clip.frames} frames for {count} rows")
        if stored is None or 2 * clip.frames < count or not clip.frames:
            return bare
        times = stored[places] + clip.span.start
        if _agree(times[: clip.frames], clip, fps):
            last = min(last, clip.frames)
        elif _agree(times[missing:], clip, fps) and all(other.frames == clip.frames for other in clips):
            # A video that begins late. Were another one whole, it would have to be cut.
            first = max(first, missing)
        else:
            return bare
        why.append(f"camera '{name}' has no frame for them")
    return Trim(first, last, " and ".join(why))


def _agree(times: Array, clip: Clip, fps: float) -> bool:
    nearest = nearest_frames(times, clip, fps)
    return nearest is not None and np.array_equal(nearest, np.arange(len(nearest)))
