"""Which episodes can be kept, in which order their rows belong, and at which times."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import numpy.typing as npt

from smolpilot.common.keys import ACTION, STATE
from smolpilot.datasets.check.checks.check_time import TOLERANCE_S
from smolpilot.datasets.check.run import CheckResult
from smolpilot.datasets.check.scan.scanning import VideoScan
from smolpilot.datasets.check.scan.video_scans import Clip
from smolpilot.datasets.format.features import INDEX_COLUMNS
from smolpilot.datasets.format.metadata import VideoSpan
from smolpilot.datasets.tolerant.found_dataset import Array, FoundDataset, Rows

from .pairing import countable, numbers
from .repaired_columns import Tables

# By camera key and episode.
type Clips = dict[tuple[str, int], Clip]

# Findings that an episode cannot be kept with: what they miss is not anywhere else in the folder.
_FATAL = {
    "parquet-torn": "its data file is torn",
    "video-torn": "its video cannot be opened",
    "video-undecodable": "some of its video frames cannot be decoded",
    "picture-undecodable": "one of its images cannot be decoded",
    "file-missing": "a file is missing",
    "file-empty": "a file is empty",
    "lfs-pointer": "a file is a Git-LFS pointer (`git lfs pull` may bring it back)",
    "video-size": "its images have another size",
}


@dataclass(frozen=True)
class Order:
    """The rows of an episode as they should be; `what` says how they differ from how they are, `problem` why not."""

    positions: npt.NDArray[np.int64]
    what: str = ""
    problem: str = ""


def fatal(result: CheckResult) -> dict[int, str]:
    """Why an episode cannot be kept, by the findings of the check."""
    reasons: dict[int, str] = {}
    for found in result.findings:
        if found.code in _FATAL and found.episode is not None:
            where = (
                f" (camera '{found.camera}')" if found.camera else f" (joint '{found.joint}')" if found.joint else ""
            )
            reasons.setdefault(found.episode, _FATAL[found.code] + where)
    for episode in result.dataset.episodes:
        if episode not in result.dataset.rows:
            reasons.setdefault(episode, "it has no rows")
    return reasons


def lacking(dataset: FoundDataset, tables: Tables) -> dict[int, str]:
    """Episodes whose tables lack a column that most others have (index columns can be made anew)."""
    features = [key for key in dataset.vectors if key not in INDEX_COLUMNS]
    reasons: dict[int, str] = {}
    for name in features:
        without = [episode for episode in dataset.rows if not tables.has(episode, name)]
        if 0 < len(without) <= len(dataset.rows) // 2 or (without and name in (STATE, ACTION)):
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


def new_times(rows: Rows, order: Order, clips: list[Clip], fps: float) -> tuple[npt.NDArray[np.float64] | None, float]:
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


def place_videos(result: CheckResult, lengths: dict[int, int]) -> tuple[Clips, list[str]]:
    """The clips, with those of shared files laid out anew where that alone fits: one episode after the other."""
    video_scans, dataset = result.video_scans, result.dataset
    clips = dict(video_scans.clips)
    actions: list[str] = []
    if not dataset.format.shared_files:
        return clips, actions
    for key, camera in dataset.video_cameras.items():
        files: dict[Path, list[Clip]] = {}
        for clip in video_scans.of(key):
            files.setdefault(clip.scan.path, []).append(clip)
        for path, mine in files.items():
            counts = {clip.episode: lengths.get(clip.episode, clip.rows) for clip in mine}
            fits = all(clip.frames == counts[clip.episode] for clip in mine)
            if fits and not _exchanged(result, camera.name, mine):
                continue
            if sum(counts.values()) != len(mine[0].scan.times):
                continue
            # A row that one episode lacks and another has too many of: the sum fits, the places between them do not.
            there = {episode: dataset.rows[episode] for episode in counts if episode in dataset.rows}
            if not all(countable(rows, counts[episode]) for episode, rows in there.items()):
                continue
            at = 0
            for clip in sorted(mine, key=lambda clip: clip.episode):
                count = counts[clip.episode]
                span = VideoSpan(path, float(clip.scan.times[at]))
                clips[key, clip.episode] = Clip(clip.episode, camera, span, clip.scan, at, at + count, count)
                at += count
            where = dataset.relative(path)
            actions.append(
                f"{where}: episodes placed one after the other by their numbers of rows, which fits exactly."
            )
    return clips, actions


def _exchanged(result: CheckResult, camera: str, clips: list[Clip]) -> bool:
    """Whether two episodes of the same length have each other's place: by their images, and out of order."""
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


type Stretch = tuple[Path, int, int]
type Place = tuple[float, float]


def place_unclaimed(dataset: FoundDataset, scans: dict[Path, VideoScan], key: str) -> list[int]:
    """Give episodes without a place the frames that no other one claims; the episodes that were placed.

    Neighbors without a place are one run. It is placed where the free frames between the neighbors that have a place
    are exactly as many as its rows, or where one stretch of them is and no other.
    """
    lengths = {index: len(rows) for index, rows in dataset.rows.items()}
    lost = {index for index, record in dataset.records.items() if key not in record.spans}
    if not lost or any(not lengths.get(index) for index in lost):
        return []
    files = sorted(path for path in dataset.video_files.get(key, []) if path in scans and len(scans[path].times))
    claimed = _claimed(dataset, scans, key, lengths)
    free = [stretch for path in files for stretch in _free(path, len(scans[path].times), claimed.get(path, []))]
    order = {path: place for place, path in enumerate(files)}
    starts: list[Place] = [(order[path], first) for path, first, _ in free]
    groups = [(gone, list(group)) for gone, group in groupby(dataset.episodes, lambda index: index in lost)]
    placed: list[int] = []
    for number, (gone, run) in enumerate(groups):
        if not gone:
            continue
        before, after = (-1.0, -1.0), (float("inf"), float("inf"))
        if number > 0:
            before = _place(dataset, scans, key, groups[number - 1][1][-1], order) or before
        if number + 1 < len(groups):
            after = _place(dataset, scans, key, groups[number + 1][1][0], order) or after
        between = free[bisect_right(starts, before) : bisect_left(starts, after)]
        counts = [lengths[index] for index in run]
        spans = _laid_out(between, counts)
        if spans is None:
            exact = [part for part in between if part[2] - part[1] == sum(counts)]
            spans = _laid_out(exact, counts) if len(exact) == 1 else None
        if spans is None:
            continue
        for index, (path, first) in zip(run, spans, strict=True):
            dataset.records[index].spans[key] = VideoSpan(path, float(scans[path].times[first]))
        placed += run
    return placed


def _laid_out(stretches: Sequence[Stretch], counts: Sequence[int]) -> list[tuple[Path, int]] | None:
    """Where each of the episodes begins, one after the other; None unless they fill the stretches exactly."""
    found: list[tuple[Path, int]] = []
    remaining = iter(stretches)
    path, at, last = next(remaining, (None, 0, 0))
    for count in counts:
        if at == last:
            path, at, last = next(remaining, (None, 0, 0))
        if path is None or at + count > last:
            return None
        found.append((path, at))
        at += count
    return found if at == last and next(remaining, None) is None else None


def _claimed(
    dataset: FoundDataset, scans: dict[Path, VideoScan], key: str, lengths: dict[int, int]
) -> dict[Path, list[tuple[int, int]]]:
    found: dict[Path, list[tuple[int, int]]] = {}
    for index, record in dataset.records.items():
        span = record.spans.get(key)
        if span is not None and span.path in scans:
            first = scans[span.path].nearest(span.start)
            found.setdefault(span.path, []).append((first, first + lengths.get(index, record.length or 0)))
    return found


def _free(path: Path, count: int, claimed: list[tuple[int, int]]) -> list[Stretch]:
    """The stretches of a file's frames that no episode claims."""
    found, at = [], 0
    for first, last in sorted(claimed):
        if first > at:
            found.append((path, at, first))
        at = max(at, last)
    return [*found, (path, at, count)] if at < count else found


def _place(
    dataset: FoundDataset, scans: dict[Path, VideoScan], key: str, index: int, order: dict[Path, int]
) -> Place | None:
    """(file, frame) at which an episode begins; None when its file is not there."""
    span = dataset.records[index].spans.get(key)
    if span is None or span.path not in order:
        return None
    return order[span.path], scans[span.path].nearest(span.start)
