"""Episodes whose place in a shared video nobody wrote down, placed by counting: where exactly their frames are left."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from smolpilot.datasets.check.scan.scanning import VideoScan
from smolpilot.datasets.check.scan.video_scans import Clip, Footage
from smolpilot.datasets.format.metadata import VideoSpan
from smolpilot.datasets.tolerant.found_dataset import Recording

type Stretch = tuple[Path, int, int]
type Place = tuple[float, float]


def place_unclaimed(recording: Recording, scans: dict[Path, VideoScan], key: str) -> list[int]:
    """Give episodes without a place the frames that no other one claims; the episodes that were placed.

    Neighbors without a place are one run. It is placed where the free frames between the neighbors that have a place
    are exactly as many as its rows, or where one stretch of them is and no other.
    """
    lengths = {index: len(rows) for index, rows in recording.rows.items()}
    lost = {index for index, record in recording.records.items() if key not in record.spans}
    if not lost or any(not lengths.get(index) for index in lost):
        return []
    files = sorted(path for path in recording.video_files.get(key, []) if path in scans and len(scans[path].times))
    claimed = _claimed(recording, scans, key, lengths)
    free = [stretch for path in files for stretch in _free(path, len(scans[path].times), claimed.get(path, []))]
    order = {path: place for place, path in enumerate(files)}
    starts: list[Place] = [(order[path], first) for path, first, _ in free]
    groups = [(gone, list(group)) for gone, group in groupby(recording.episodes, lambda index: index in lost)]
    placed: list[int] = []
    for number, (gone, run) in enumerate(groups):
        if not gone:
            continue
        before, after = (-1.0, -1.0), (float("inf"), float("inf"))
        if number > 0:
            before = _place(recording, scans, key, groups[number - 1][1][-1], order) or before
        if number + 1 < len(groups):
            after = _place(recording, scans, key, groups[number + 1][1][0], order) or after
        between = free[bisect_right(starts, before) : bisect_left(starts, after)]
        counts = [lengths[index] for index in run]
        spans = _laid_out(between, counts)
        if spans is None:
            exact = [part for part in between if part[2] - part[1] == sum(counts)]
            spans = _laid_out(exact, counts) if len(exact) == 1 else None
        if spans is None:
            continue
        for index, (path, first) in zip(run, spans, strict=True):
            recording.records[index].spans[key] = VideoSpan(path, float(scans[path].times[first]))
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
    recording: Recording, scans: dict[Path, VideoScan], key: str, lengths: dict[int, int]
) -> dict[Path, list[tuple[int, int]]]:
    found: dict[Path, list[tuple[int, int]]] = {}
    for index, record in recording.records.items():
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
    recording: Recording, scans: dict[Path, VideoScan], key: str, index: int, order: dict[Path, int]
) -> Place | None:
    """(file, frame) at which an episode begins; None when its file is not there."""
    span = recording.records[index].spans.get(key)
    if span is None or span.path not in order:
        return None
    return order[span.path], scans[span.path].nearest(span.start)


def cut_again(recording: Recording, footage: Footage, key: str) -> None:
    """The clips of a camera's shared files by the places that its episodes have now."""
    camera = recording.cameras[key]
    files: dict[Path, list[int]] = {}
    for index, record in recording.records.items():
        if key in record.spans and record.spans[key].path in footage.scans:
            files.setdefault(record.spans[key].path, []).append(index)
    footage.cameras[key] = sorted(files)
    for path, episodes in files.items():
        scan = footage.scans[path]
        spans = {index: recording.records[index].spans[key] for index in episodes}
        order = sorted(episodes, key=lambda index: (spans[index].start, index))
        starts = [scan.nearest(spans[index].start) for index in order]
        for index, first, after in zip(order, starts, [*starts[1:], len(scan.times)], strict=True):
            rows = len(recording.rows[index]) if index in recording.rows else recording.records[index].length or 0
            clip = Clip(index, camera, spans[index], scan, first, max(after, first), rows)
            footage.clips[key, index] = clip
