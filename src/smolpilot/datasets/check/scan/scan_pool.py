"""Scanning many files at once, and not again what has been scanned before."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

from smolpilot.common.hashing import file_digest
from smolpilot.common.machine import cores, in_threads
from smolpilot.datasets.tolerant.found_dataset import Camera, Progress

from .scanning import VideoScan, scan_images, scan_video


def scan_all(
    tasks: Sequence[tuple[Path, Camera]],
    root: Path,
    jobs: int | None,
    known: Mapping[Path, VideoScan],
    progress: Progress | None,
) -> list[VideoScan]:
    """The scan of each task, in order: a video, or the images of a camera in a table.

    Decoding lets go of Python's lock: `jobs` threads decode `jobs` files.
    """
    many = max(1, min(jobs or cores(), len(tasks)))
    # Few large files: the decoder's own threads take the cores that are left.
    threads = max(1, (jobs or cores()) // many)
    found = _Known(known)

    def scan(task: tuple[Path, Camera]) -> VideoScan:
        path, camera = task
        if not camera.is_video:
            return scan_images(root, path, camera.key, depth=camera.depth, size=camera.size)
        before = found.scan_of(path, camera.depth)
        return before or scan_video(path, depth=camera.depth, threads=threads, size=camera.size)

    scans: list[VideoScan] = []
    for made in map(scan, tasks) if many == 1 else in_threads(scan, tasks, many):
        scans.append(made)
        if progress is not None:
            progress("reading videos", len(scans), len(tasks))
    return scans


class _Known:
    """Videos that were scanned before, found by their content; files of other sizes are never read for it."""

    def __init__(self, scans: Mapping[Path, VideoScan]) -> None:
        self._by_path = dict(scans)
        self._by_size: dict[int, list[VideoScan]] = {}
        self._digest = functools.cache(file_digest)
        for scan in scans.values():
            if scan.path.is_file():
                self._by_size.setdefault(scan.path.stat().st_size, []).append(scan)

    def scan_of(self, path: Path, depth: bool) -> VideoScan | None:
        same = self._by_path.get(path)
        if same is not None and same.depth == depth:
            return same
        candidates = self._by_size.get(path.stat().st_size, []) if self._by_size else []
        for scan in candidates:
            if scan.depth == depth and self._digest(scan.path) == self._digest(path):
                return dataclasses.replace(scan, path=path)
        return None
