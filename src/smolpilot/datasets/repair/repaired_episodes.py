"""Which episodes can be kept, in which order their rows belong, and at which times."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from smolpilot.common.keys import ACTION, STATE
from smolpilot.datasets.check.checks.check_time import TOLERANCE_S
from smolpilot.datasets.check.run import Audit
from smolpilot.datasets.check.scan.video_scans import Clip
from smolpilot.datasets.format.features import INDEX_COLUMNS
from smolpilot.datasets.format.metadata import VideoSpan
from smolpilot.datasets.tolerant.found_dataset import Array, Recording, Rows

from .pairing import countable, numbers
from .repaired_columns import Tables

# Findings that an episode cannot be kept with: what they miss is not anywhere else in the folder.
_FATAL = {
    "parquet-torn": "its data file is torn",
    "video-torn": "its video cannot be opened",
    "video-undecodable": "some of its video frames cannot be decoded",
    "picture-undecodable": "one of its pictures cannot be decoded",
    "file-missing": "a file is missing",
    "file-empty": "a file is empty",
    "lfs-pointer": "a file is a Git-LFS pointer (`git lfs pull` may bring it back)",
    "video-size": "its pictures have another size",
}


@dataclass(frozen=True)
class Order:
    """The rows of an episode as they should be; `what` says how they differ from how they are, `problem` why not."""

    positions: npt.NDArray[np.int64]
    what: str = ""
    problem: str = ""


def fatal(result: Audit) -> dict[int, str]:
    """Why an episode cannot be kept, by the findings of the check."""
    reasons: dict[int, str] = {}
    for found in result.findings:
        if found.code in _FATAL and found.episode is not None:
            where = (
                f" (camera '{found.camera}')" if found.camera else f" (joint '{found.joint}')" if found.joint else ""
            )
            reasons.setdefault(found.episode, _FATAL[found.code] + where)
    for episode in result.recording.episodes:
        if episode not in result.recording.rows:
            reasons.setdefault(episode, "it has no rows")
    return reasons


def lacking(recording: Recording, tables: Tables) -> dict[int, str]:
    """Episodes whose tables lack a column that most others have (index columns can be made anew)."""
    features = [key for key in recording.vectors if key not in INDEX_COLUMNS]
    reasons: dict[int, str] = {}
    for name in features:
        without = [episode for episode in recording.rows if not tables.has(episode, name)]
        if 0 < len(without) <= len(recording.rows) // 2 or (without and name in (STATE, ACTION)):
            for episode in without:
                reasons.setdefault(episode, f"its table has no column '{name}'")
    return reasons


def order_rows(rows: Rows) -> Order:
    """Rows in the order of their frames, repeated ones once."""
    positions = rows.positions
    number = numbers(rows, "frame_index")
    times = numbers(rows, "timestamp")
    count = len(positions)
    if count == 0:
        return Order(positions, problem="it has no rows")
    if number is None:
        return Order(positions, "frame_index made anew" if "frame_index" not in rows.columns else "")
    if np.array_equal(number, np.arange(count)):
        return Order(positions)
    unique, first = np.unique(number, return_index=True)
    if len(unique) < count:
        if not _same_rows(rows, number):
            return Order(positions, problem="the same frame stands twice, with different values")
        if np.array_equal(unique, np.arange(len(unique))):
            return Order(positions[first], f"{count - len(unique)} repeated rows removed")
    rising = times is not None and bool((np.diff(times) > 0).all())
    if rising:
        return Order(positions, "frames numbered anew in the order of their time stamps")
    if np.array_equal(unique, np.arange(count)):
        return Order(positions[first], "rows put into the order of their frames")
    return Order(positions, problem="neither frame numbers nor time stamps tell the order of its rows")


def new_times(
    recording: Recording, rows: Rows, order: Order, clips: list[Clip], fps: float
) -> tuple[npt.NDArray[np.float64] | None, float]:
    """(time stamps of the rows, how far the recorded ones are off); None when those are right.

    On the grid where the videos are; at the frames' own times where a video came unevenly.
    """
    count = len(order.positions)
    wanted = np.arange(count) / fps
    for clip in clips:
        shown = clip.scan.times[clip.first : clip.first + count] - clip.scan.times[clip.first]
        if len(shown) == count and float(np.abs(shown - wanted).max()) > TOLERANCE_S:
            wanted = shown
            break
    stored = numbers(rows, "timestamp")
    if stored is None:
        return wanted, float("nan")
    recorded = stored[within(rows, order)]
    off = float(np.nan_to_num(np.abs(recorded - wanted), nan=np.inf).max())
    slack = TOLERANCE_S + float(np.spacing(np.float32(np.abs(wanted).max())))
    return (wanted, off) if off > slack else (None, off)


def within(rows: Rows, order: Order) -> npt.NDArray[np.int64]:
    """The new order as places within the episode's rows, instead of within its file."""
    sorter = np.argsort(rows.positions, kind="stable")
    return sorter[np.searchsorted(rows.positions, order.positions, sorter=sorter)]


def place_videos(result: Audit, lengths: dict[int, int]) -> tuple[dict[tuple[str, int], Clip], list[str]]:
    """The clips, with those of shared files laid out anew where that alone fits: one episode after the other."""
    footage, recording = result.footage, result.recording
    clips = dict(footage.clips)
    actions: list[str] = []
    if not recording.format.shared_files:
        return clips, actions
    for key, camera in recording.video_cameras.items():
        files: dict[Path, list[Clip]] = {}
        for clip in footage.of(key):
            files.setdefault(clip.scan.path, []).append(clip)
        for path, mine in files.items():
            fits = all(clip.frames == lengths.get(clip.episode, clip.rows) for clip in mine)
            if fits and not _exchanged(result, camera.name, mine):
                continue
            total = sum(lengths.get(clip.episode, clip.rows) for clip in mine)
            if not mine or total != len(mine[0].scan.times):
                continue
            # A row that one episode lacks and another has too many of: the sum fits, the places between them do not.
            if any(
                clip.episode in recording.rows
                and not countable(recording.rows[clip.episode], lengths.get(clip.episode, clip.rows))
                for clip in mine
            ):
                continue
            at = 0
            for clip in sorted(mine, key=lambda clip: clip.episode):
                count = lengths.get(clip.episode, clip.rows)
                span = VideoSpan(path, float(clip.scan.times[at]))
                clips[key, clip.episode] = Clip(clip.episode, camera, span, clip.scan, at, at + count, count)
                at += count
            where = recording.relative(path)
            actions.append(
                f"{where}: episodes placed one after the other by their numbers of rows, which fits exactly."
            )
    return clips, actions


def _exchanged(result: Audit, camera: str, clips: list[Clip]) -> bool:
    """Whether two episodes of the same length have each other's place: by their pictures, and out of order."""
    swapped = {
        found.episode
        for found in result.findings
        if found.code == "video-swapped" and found.severity == "error" and found.camera == camera
    }
    ordered = sorted(clips, key=lambda clip: clip.episode)
    starts = [clip.span.start for clip in ordered]
    moved = {clip.episode for clip, start in zip(ordered, sorted(starts), strict=True) if clip.span.start != start}
    return bool(moved) and moved <= swapped


def _same_rows(rows: Rows, number: Array) -> bool:
    """Whether rows with the same frame number have the same values, but for the running index."""
    first: dict[float, int] = {}
    for i, value in enumerate(number.tolist()):
        before = first.setdefault(value, i)
        if before != i:
            for name, column in rows.columns.items():
                if name != "index" and not _equal(column[before], column[i]):
                    return False
    return True


def _equal(one: Array, other: Array) -> bool:
    left, right = np.asarray(one), np.asarray(other)
    return bool(np.array_equal(left, right, equal_nan=left.dtype.kind == "f"))
