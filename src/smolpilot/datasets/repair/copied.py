"""What the scans of a dataset's videos say of a copy whose packets are the same: nothing is decoded twice."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from smolpilot.datasets.check import CheckResult
from smolpilot.datasets.check.scan.scanning import VideoScan
from smolpilot.datasets.check.scan.video_scans import Clip, VideoScans
from smolpilot.datasets.media.video_file import VideoFile
from smolpilot.datasets.tolerant.open import read_found_dataset

from .repair_plan import EpisodeRepair, RepairPlan


def copied_scans(before: CheckResult, plan: RepairPlan, target: Path) -> VideoScans:
    """The scans of the copy's video files, put together from those of the source's clips.

    The copy has been proven to hold the same packets, and what comes out of a decoder depends on nothing else. A file
    with another number of frames than its clips (frames beyond the rows were cut off) is left out: it is decoded.
    """
    copy = read_found_dataset(target)
    planned = {one.new: one for one in plan.episodes}
    files: dict[Path, list[tuple[float, Clip]]] = {}
    for new, record in copy.records.items():
        for key, span in record.spans.items():
            clip = before.video_scans.clips.get((key, planned[new].old))
            if clip is not None:
                files.setdefault(span.path, []).append(
                    (span.start, _placed(clip, planned[new], key, before.video_scans))
                )
    found = VideoScans()
    for path, parts in files.items():
        clips = [clip for _, clip in sorted(parts, key=lambda part: part[0])]
        scan = _joined(path, clips)
        if scan is not None:
            found.scans[path] = scan
    return found


def _placed(clip: Clip, planned: EpisodeRepair, key: str, video_scans: VideoScans) -> Clip:
    """The frames that were copied: the clip's own, or those of the place that the plan gave the episode instead."""
    span = planned.spans[key]
    scan = video_scans.scans[span.path]
    first = scan.nearest(span.start)
    if scan is clip.scan and first == clip.first:
        return clip
    return dataclasses.replace(clip, span=span, scan=scan, first=first, last=first + planned.length)


def _joined(path: Path, clips: list[Clip]) -> VideoScan | None:
    times, keys = _packets(path)
    places = [np.arange(clip.first, clip.last) for clip in clips]
    if len(times) != sum(map(len, places)):
        return None
    first = clips[0].scan
    rates = {clip.scan.rate for clip in clips}
    scan = dataclasses.replace(
        first, path=path, times=times, keys=keys, rate=first.rate if len(rates) == 1 else _rate(times)
    )
    scan.decoded = np.concatenate([clip.scan.decoded[where] for clip, where in zip(clips, places, strict=True)])
    scan.look = _looks(clips)
    return scan


def _looks(clips: list[Clip]) -> Any:
    """The looks of the frames, one clip after another; a run of equal images begins anew with each."""
    kind: Any = type(clips[0].scan.look)
    values: dict[str, list[Any]] = {}
    at = 0
    for clip in clips:
        for one in dataclasses.fields(kind):
            if one.name.startswith("_"):
                continue
            part = getattr(clip.scan.look, one.name)[clip.first : clip.last]
            if one.name == "still_since":
                part = np.maximum(np.asarray(part), clip.first) - clip.first + at
            values.setdefault(one.name, []).append(part)
        at += clip.last - clip.first
    joined = {name: np.concatenate([np.asarray(part) for part in parts]) for name, parts in values.items()}
    listed = isinstance(clips[0].scan.look.light, list)
    return kind(**{name: list(part) if listed else part for name, part in joined.items()})


def _packets(path: Path) -> tuple[Any, Any]:
    """(times in seconds, key frame flags) of a video's packets, in the order in which they are shown."""
    with VideoFile(path) as video:
        found = sorted(
            (packet.pts, packet.is_keyframe)
            for packet in video.packets()
            if packet.pts is not None and not packet.is_discard
        )
        tick = float(video.time_base)
    times = np.array([pts for pts, _ in found], dtype=np.int64) * tick
    return np.asarray(times, dtype=np.float64), np.array([key for _, key in found], dtype=bool)


def _rate(times: Any) -> float:
    return float((len(times) - 1) / (times[-1] - times[0])) if len(times) > 1 and times[-1] > times[0] else 0.0
