"""Which row belongs to which video frame, and when that cannot be said."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from smolpilot.datasets.check.checks.check_time import TOLERANCE_S
from smolpilot.datasets.check.context import ranges
from smolpilot.datasets.check.scan.video_scans import Clip
from smolpilot.datasets.media.video import nearest
from smolpilot.datasets.tolerant.found_dataset import Array, Rows

from .repaired_columns import Tables


def unpaired(rows: Rows, places: Array, clip: Clip, fps: float) -> str:
    """Why the rows, in the order of `places`, may not be put onto the clip's frames one after the other; else ''.

    As many rows as frames belong together by counting, unless the frame numbers say that a row is missing. With fewer
    rows only the time stamps can tell: they must be the first frames' own, each within half a frame.
    """
    count, where = len(places), f"camera '{clip.camera.name}'"
    recorded = numbers(rows, "timestamp")
    times = None if recorded is None else recorded[places] + clip.span.start
    if count == clip.frames:
        skipped = _skipped(rows, places)
        if skipped and not _on_first_frames(times, clip, fps):
            return (
                f"its {count} rows skip frame {ranges(skipped[:1000])}, though {where} has {clip.frames} frames: "
                "nothing says which row belongs to which frame"
            )
        return ""
    if _on_first_frames(times, clip, fps):
        return ""
    bare = _without_row(times, clip, fps)
    why = (
        f"frame {ranges(bare[:1000])} {'has' if len(bare) == 1 else 'have'} no row"
        if bare
        else "its time stamps do not tell which frames have no row"
    )
    return f"{count} rows for {clip.frames} frames of {where}: {why}"


def numbers(rows: Rows, name: str) -> Array | None:
    """A column with one number per row; None when there is no such column."""
    column = rows.get(name)
    if column is None or column.dtype.kind not in "iuf" or column.size != len(rows):
        return None
    return np.asarray(column.reshape(-1), dtype=np.float64)


def countable(rows: Rows, length: int) -> bool:
    """Whether an episode can be placed by its number of rows: its frame numbers, if any, have no gaps."""
    stored = numbers(rows, "frame_index")
    if stored is None:
        return True
    unique = np.unique(stored)
    return len(unique) == length and bool((np.diff(unique) == 1).all())


def _skipped(rows: Rows, places: Array) -> list[int]:
    """Frame numbers that are missing between two rows; before the first one none is: that is another start."""
    stored = numbers(rows, "frame_index")
    if stored is None or not np.isfinite(stored).all():
        return []
    mine = stored[places]
    steps = np.diff(mine)
    if not len(steps) or not (steps > 0).all() or (steps == 1).all():
        return []
    return [int(mine[i]) + 1 for i in np.flatnonzero(steps > 1)]


def _on_first_frames(times: Array | None, clip: Clip, fps: float) -> bool:
    frames = nearest_frames(times, clip, fps)
    return frames is not None and np.array_equal(frames, np.arange(len(frames)))


def _without_row(times: Array | None, clip: Clip, fps: float) -> list[int]:
    """The clip's frames that no row's time stamp is at; none when the time stamps are not those of frames."""
    frames = nearest_frames(times, clip, fps)
    if frames is None or len(np.unique(frames)) < len(frames):
        return []
    return [int(frame) for frame in np.setdiff1d(np.arange(clip.frames), frames)]


def nearest_frames(times: Array | None, clip: Clip, fps: float) -> Array | None:
    """For each row the frame that its time stamp is nearest to; None unless all are within half a frame of one."""
    shown = clip.scan.times[clip.first : clip.last]
    if times is None or not len(shown) or not np.isfinite(times).all():
        return None
    frames = nearest(shown, times)
    # Exactly between two frames is no answer.
    return frames if float(np.abs(times - shown[frames]).max()) <= 0.5 / fps - TOLERANCE_S else None


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


def rows_with_images(rows: Rows, places: Array, clips: list[Clip], fps: float) -> Trim:
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
        if _on_first_frames(times[: clip.frames], clip, fps):
            last = min(last, clip.frames)
        elif _on_first_frames(times[missing:], clip, fps) and all(other.frames == clip.frames for other in clips):
            # A video that begins late. Were another one whole, it would have to be cut.
            first = max(first, missing)
        else:
            return bare
        why.append(f"camera '{name}' has no frame for them")
    return Trim(first, last, " and ".join(why))
