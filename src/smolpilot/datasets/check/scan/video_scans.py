"""VideoScans: which frames of which video belong to which episode, after every video was scanned once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from smolpilot.datasets.format.files import is_whole
from smolpilot.datasets.format.metadata import VideoSpan
from smolpilot.datasets.tolerant.found_dataset import Camera, FoundDataset
from smolpilot.datasets.tolerant.found_dataset import Progress as Progress

from .scan_pool import scan_all
from .scanning import VideoScan


@dataclass
class Clip:
    """An episode's frames of one camera: frames `first` to `last` (not included) of the scanned file."""

    episode: int
    camera: Camera
    span: VideoSpan
    scan: VideoScan
    first: int
    last: int
    rows: int

    @property
    def frames(self) -> int:
        """Number of frames."""
        return self.last - self.first

    @property
    def place(self) -> dict[str, Any]:
        """What a finding about it says of where it is."""
        return {"episode": self.episode, "camera": self.camera.name}

    def light(self) -> npt.NDArray[np.float64]:
        """Mean brightness of each frame."""
        return self.scan.look.light[self.first : self.last].astype(np.float64)

    def peak(self) -> npt.NDArray[np.float64]:
        """Brightness of each frame's brightest block."""
        return self.scan.look.peak[self.first : self.last].astype(np.float64)

    def color(self) -> npt.NDArray[np.float64] | None:
        """Mean red, green, blue in [0, 1]; None without a decoded frame."""
        values = self.scan.look.colors[self.first : self.last].astype(np.float64)
        known = values[np.isfinite(values).all(axis=1)]
        return known.mean(axis=0) if len(known) else None


@dataclass
class VideoScans:
    """All scanned videos, and the clips of the episodes, by (camera key, episode); `pictures` has the scanned tables
    of cameras that are stored there, by (camera key, file)."""

    scans: dict[Path, VideoScan] = field(default_factory=dict)
    clips: dict[tuple[str, int], Clip] = field(default_factory=dict)
    cameras: dict[str, list[Path]] = field(default_factory=dict)
    pictures: dict[tuple[str, Path], VideoScan] = field(default_factory=dict)

    def all(self) -> list[Clip]:
        """The clips of all cameras, by camera and episode."""
        return [clip for _, clip in sorted(self.clips.items())]

    def of(self, key: str) -> list[Clip]:
        """The clips of one camera, by episode."""
        return [clip for (camera, _), clip in sorted(self.clips.items()) if camera == key]

    def color(self) -> list[Clip]:
        """The clips of all cameras whose images samples have."""
        return [clip for clip in self.all() if clip.camera.color]


def scan_videos(
    dataset: FoundDataset, progress: Progress | None = None, *, jobs: int | None = None, known: VideoScans | None = None
) -> VideoScans:
    """Scan every video of the dataset once; files that are missing or empty become findings.

    `jobs` files are decoded at a time (None: one per core), with the same result for any number. Videos whose content
    `known` has scanned before, under whatever name, are not decoded again.
    """
    wanted = _files(dataset)
    videos: dict[Path, Camera] = {}
    pictures: list[tuple[str, Path]] = []
    for key, files in wanted.items():
        camera = dataset.cameras[key]
        if camera.is_video:
            for path, episodes in list(files.items()):
                with dataset.about(episodes, camera=camera.name):
                    if not is_whole(path, "video", dataset):
                        del files[path]
            counted = dataset.video_files.get(key, []) if _countable(dataset, key) else []
            videos |= dict.fromkeys((*files, *counted), camera)
        else:
            pictures += [(key, path) for path in files if path in dataset.schemas]
    tasks = [*videos.items(), *((path, dataset.cameras[key]) for key, path in pictures)]
    scans = scan_all(tasks, dataset.root, jobs, known.scans if known is not None else {}, progress)
    video_scans = VideoScans(dict(zip(videos, scans, strict=False)))
    video_scans.pictures = dict(zip(pictures, scans[len(videos) :], strict=True))
    for key, camera in dataset.cameras.items():
        if _countable(dataset, key):
            _place_by_count(dataset, video_scans, key)
            wanted[key] = {path: found for path, found in _files(dataset)[key].items() if path in video_scans.scans}
        video_scans.cameras[key] = list(wanted[key])
        for path, episodes in wanted[key].items():
            if camera.is_video:
                _cut_video(dataset, video_scans, camera, path, episodes)
            elif (key, path) in video_scans.pictures:
                _cut_images(dataset, video_scans, camera, video_scans.pictures[key, path], episodes)
        if camera.size is None and not camera.depth:
            camera.depth = _one_channel(video_scans.of(key))
    return video_scans


def _one_channel(clips: list[Clip]) -> bool:
    """Whether what a camera without a declared size shows is a depth map: one channel of more than 8 bits.

    Such images say nothing by their brightness: in meters they look black.
    """
    for clip in clips:
        if clip.camera.is_video:
            return clip.scan.pix_fmt.startswith(("gray1", "gray9", "grayf"))
        if clip.frames and clip.scan.shapes[clip.first].all():
            return bool(clip.scan.shapes[clip.first][2] == 1)
    return False


def _countable(dataset: FoundDataset, key: str) -> bool:
    """Whether nothing but counting can tell where the episodes of this camera are: there is no episode table."""
    records = list(dataset.records.values())
    placed = any(record.listed or key in record.spans for record in records)
    return dataset.format.shared_files and dataset.cameras[key].is_video and bool(records) and not placed


def _place_by_count(dataset: FoundDataset, video_scans: VideoScans, key: str) -> None:
    """Without an episode table: one episode after the other, if that uses up every file exactly."""
    records = [dataset.records[index] for index in dataset.episodes]
    scans = {path: video_scans.scans[path] for path in dataset.video_files.get(key, [])}
    spans: dict[int, VideoSpan] = {}
    files = iter(scans.values())
    scan, at = next(files, None), 0
    for record in records:
        rows = _length(dataset, record.index)
        if scan is not None and at == len(scan.times):
            scan, at = next(files, None), 0
        if scan is None or not rows or at + rows > len(scan.times):
            return
        spans[record.index] = VideoSpan(scan.path, float(scan.times[at]))
        at += rows
    if scan is not None and at == len(scan.times) and next(files, None) is None:
        for record in records:
            record.spans[key] = spans[record.index]


def _files(dataset: FoundDataset) -> dict[str, dict[Path, list[int]]]:
    """For each camera its files and the episodes in them."""
    wanted: dict[str, dict[Path, list[int]]] = {}
    for key, camera in dataset.cameras.items():
        files = wanted.setdefault(key, {})
        for index in dataset.episodes:
            record = dataset.records[index]
            if camera.is_video:
                span = record.spans.get(key)
                if span is not None:
                    files.setdefault(span.path, []).append(index)
            elif index in dataset.rows:
                files.setdefault(dataset.rows[index].path, []).append(index)
    return wanted


def cut_again(dataset: FoundDataset, video_scans: VideoScans, key: str) -> None:
    """The clips of a camera's files by the places that its episodes have now."""
    files: dict[Path, list[int]] = {}
    for index, record in dataset.records.items():
        if key in record.spans and record.spans[key].path in video_scans.scans:
            files.setdefault(record.spans[key].path, []).append(index)
    video_scans.cameras[key] = sorted(files)
    for path, episodes in files.items():
        _cut_video(dataset, video_scans, dataset.cameras[key], path, episodes)


def _cut_video(dataset: FoundDataset, video_scans: VideoScans, camera: Camera, path: Path, episodes: list[int]) -> None:
    scan = video_scans.scans[path]
    spans = {index: dataset.records[index].spans[camera.key] for index in episodes}
    order = sorted(episodes, key=lambda index: (spans[index].start, index))
    # A file of one episode is all its own; in a shared one an episode reaches to the next one's start.
    alone = not dataset.format.shared_files
    starts = [0 if alone else scan.nearest(spans[index].start) for index in order]
    for index, first, after in zip(order, starts, [*starts[1:], len(scan.times)], strict=True):
        rows = _length(dataset, index)
        last = len(scan.times) if alone else max(after, first)
        video_scans.clips[camera.key, index] = Clip(index, camera, spans[index], scan, first, last, rows)


def _cut_images(
    dataset: FoundDataset, video_scans: VideoScans, camera: Camera, scan: VideoScan, episodes: list[int]
) -> None:
    for index in episodes:
        positions = dataset.rows[index].positions
        first, last = (int(positions[0]), int(positions[-1]) + 1) if len(positions) else (0, 0)
        span = VideoSpan(scan.path, float(first))
        video_scans.clips[camera.key, index] = Clip(index, camera, span, scan, first, last, len(positions))


def _length(dataset: FoundDataset, episode: int) -> int:
    rows = dataset.rows.get(episode)
    if rows is not None:
        return len(rows)
    return dataset.records[episode].length or 0
