"""Footage: which frames of which video belong to which episode, after every video was scanned once."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from smolpilot.datasets.audit.recording import Camera, Recording, Span
from smolpilot.datasets.audit.scanning import VideoScan, readable_video, scan_pictures, scan_video

type Progress = Callable[[str, int, int], None]


@dataclass
class Clip:
    """An episode's frames of one camera: frames `first` to `last` (not included) of the scanned file."""

    episode: int
    camera: Camera
    span: Span
    scan: VideoScan
    first: int
    last: int
    rows: int

    @property
    def frames(self) -> int:
        """Number of frames."""
        return self.last - self.first

    def light(self) -> npt.NDArray[np.float64]:
        """Mean brightness of each frame."""
        return np.array(self.scan.look.light[self.first : self.last])

    def peak(self) -> npt.NDArray[np.float64]:
        """Brightness of each frame's brightest block."""
        return np.array(self.scan.look.peak[self.first : self.last])

    def colour(self) -> npt.NDArray[np.float64] | None:
        """Mean red, green, blue in [0, 1]; None without a decoded frame."""
        values = np.array(self.scan.look.colours[self.first : self.last]).reshape(-1, 3)
        known = values[np.isfinite(values).all(axis=1)]
        return known.mean(axis=0) if len(known) else None


@dataclass
class Footage:
    """All scanned files, and the clips of the episodes, by (camera key, episode)."""

    scans: dict[Path, VideoScan] = field(default_factory=dict)
    clips: dict[tuple[str, int], Clip] = field(default_factory=dict)
    cameras: dict[str, list[Path]] = field(default_factory=dict)

    def of(self, key: str) -> list[Clip]:
        """The clips of one camera, by episode."""
        return [clip for (camera, _), clip in sorted(self.clips.items()) if camera == key]


def film(
    recording: Recording, progress: Progress | None = None, *, jobs: int | None = None, known: Footage | None = None
) -> Footage:
    """Scan every video of the recording once, files that are missing or empty become findings.

    `jobs` files are decoded at a time (None: one per core). Files that `known` has scanned are not decoded again.
    """
    footage = Footage()
    footage.scans |= known.scans if known is not None else {}
    if recording.version == "v3.0":
        for key in recording.video_cameras:
            _place_by_count(recording, footage, key)
    wanted = _files(recording)
    total = sum(len(files) for files in wanted.values())
    done = 0
    films = {p for key, files in wanted.items() for p in files if recording.cameras[key].is_video and p.is_file()}
    fresh = sorted(path for path in films if path not in footage.scans)
    many = max(1, min(jobs or len(os.sched_getaffinity(0)), len(fresh)))
    if many > 1:
        # Decoding lets go of Python's lock.
        with ThreadPoolExecutor(many) as pool:
            for path, scan in zip(fresh, pool.map(scan_video, fresh), strict=True):
                footage.scans[path] = scan
                if progress is not None:
                    progress("decoding videos", len(footage.scans), len(fresh))
    for key, files in wanted.items():
        camera = recording.cameras[key]
        footage.cameras[key] = list(files)
        for path, episodes in files.items():
            if camera.is_video:
                if readable_video(recording, path, episodes, camera.name):
                    if path not in footage.scans:
                        footage.scans[path] = scan_video(path)
                    _cut_video(recording, footage, camera, path, episodes)
            elif path in recording.schemas:
                scan = scan_pictures(recording, path, key)
                _cut_pictures(recording, footage, camera, scan, episodes)
            done += 1
            if progress is not None:
                progress("reading videos", done, total)
    return footage


def _place_by_count(recording: Recording, footage: Footage, key: str) -> None:
    """Without an episode table: one episode after the other, if that uses up every file exactly."""
    records = [recording.records[index] for index in recording.episodes]
    if not records or any(record.listed or key in record.spans for record in records):
        return
    scans = {path: scan_video(path) for path in recording.video_files.get(key, [])}
    footage.scans |= scans
    spans: dict[int, Span] = {}
    files = iter(scans.values())
    scan, at = next(files, None), 0
    for record in records:
        rows = _length(recording, record.index)
        if scan is not None and at == len(scan.times):
            scan, at = next(files, None), 0
        if scan is None or not rows or at + rows > len(scan.times):
            return
        spans[record.index] = Span(scan.path, float(scan.times[at]))
        at += rows
    if scan is not None and at == len(scan.times) and next(files, None) is None:
        for record in records:
            record.spans[key] = spans[record.index]


def _files(recording: Recording) -> dict[str, dict[Path, list[int]]]:
    """For each camera its files and the episodes in them."""
    wanted: dict[str, dict[Path, list[int]]] = {}
    for key, camera in recording.cameras.items():
        files = wanted.setdefault(key, {})
        for index in recording.episodes:
            record = recording.records[index]
            if camera.is_video:
                span = record.spans.get(key)
                if span is not None:
                    files.setdefault(span.path, []).append(index)
                elif record.listed:
                    message = f"Episode {index} has no video of camera '{camera.name}'."
                    recording.report("file-missing", message, episode=index, camera=camera.name)
            elif index in recording.rows:
                files.setdefault(recording.rows[index].path, []).append(index)
    return wanted


def _cut_video(recording: Recording, footage: Footage, camera: Camera, path: Path, episodes: list[int]) -> None:
    scan = footage.scans[path]
    spans = {index: recording.records[index].spans[camera.key] for index in episodes}
    order = sorted(episodes, key=lambda index: (spans[index].start, index))
    # A file of one episode is all its own; in a shared one an episode reaches to the next one's start.
    alone = recording.version != "v3.0"
    starts = [0 if alone else scan.nearest(spans[index].start) for index in order]
    for index, first, after in zip(order, starts, [*starts[1:], len(scan.times)], strict=True):
        rows = _length(recording, index)
        last = len(scan.times) if alone else max(after, first)
        footage.clips[camera.key, index] = Clip(index, camera, spans[index], scan, first, last, rows)


def _cut_pictures(recording: Recording, footage: Footage, camera: Camera, scan: VideoScan, episodes: list[int]) -> None:
    for index in episodes:
        positions = recording.rows[index].positions
        first, last = (int(positions[0]), int(positions[-1]) + 1) if len(positions) else (0, 0)
        span = Span(scan.path, float(first))
        footage.clips[camera.key, index] = Clip(index, camera, span, scan, first, last, len(positions))


def _length(recording: Recording, episode: int) -> int:
    rows = recording.rows.get(episode)
    if rows is not None:
        return len(rows)
    return recording.records[episode].length or 0
