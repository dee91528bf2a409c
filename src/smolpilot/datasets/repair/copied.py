"""What the scans of a dataset's videos say of a copy whose packets are the same: nothing is decoded twice."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from smolpilot.datasets.check import CheckResult
from smolpilot.datasets.check.scan.scanning import Look, VideoScan
from smolpilot.datasets.check.scan.video_scans import Clip, VideoScans
from smolpilot.datasets.media.video import read_index
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
    index = read_index(path)
    times, keys = index.times, index.keyframe == np.arange(len(index.pts))
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


def _looks(clips: list[Clip]) -> Look:
    """The looks of the frames, one clip after another; a run of equal images begins anew with each."""
    parts: dict[str, list[npt.NDArray[Any]]] = {}
    at = 0
    for clip in clips:
        for name, values in vars(clip.scan.look).items():
            part = values[clip.first : clip.last]
            parts.setdefault(name, []).append(
                np.maximum(part, clip.first) - clip.first + at if name == "still_since" else part
            )
        at += clip.last - clip.first
    return Look(**{name: np.concatenate(values) for name, values in parts.items()})


def _rate(times: Any) -> float:
    return float((len(times) - 1) / (times[-1] - times[0])) if len(times) > 1 and times[-1] > times[0] else 0.0
