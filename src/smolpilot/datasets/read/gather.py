"""Images of many frames at once: each video read forwards, on several cores, straight into the batch's memory."""

from __future__ import annotations

import functools
import multiprocessing
import os
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy.typing as npt

from smolpilot.common.machine import cores
from smolpilot.datasets.media.pixels import RgbImage, fill
from smolpilot.datasets.media.table_images import TableImageReader
from smolpilot.datasets.media.video import VideoReader

# Frames in one piece of work: long enough for reading forwards, short enough for all cores to finish together.
_PIECE = 8


@dataclass(frozen=True, order=True)
class Place:
    """Where an image is: the frame at `number` of a video file, or the row of that number in a table's column."""

    path: Path
    column: str | None
    number: int


@dataclass(frozen=True)
class Media:
    """The open files of a dataset. Pickles without them; several threads and forked processes may use it."""

    videos: VideoReader = field(default_factory=VideoReader)
    pictures: TableImageReader = field(default_factory=TableImageReader)

    def picture(self, place: Place) -> RgbImage:
        """One image, `[h, w, 3]` uint8."""
        if place.column is None:
            return self.videos.frame(place.path, place.number)
        return self.pictures.picture(place.path, place.column, place.number)

    def fill(self, jobs: Sequence[tuple[Place, npt.NDArray[Any]]], threads: int) -> None:
        """Write each place's image into its array `[3, h, w]`, uint8 or float32 in [0, 1].

        The places are read in their order in the files, whatever the order of the jobs.
        """
        jobs = sorted(jobs, key=lambda job: (job[0].path, job[0].column or "", job[0].number))
        pieces = _pieces(jobs, self.videos, max(1, min(_PIECE, -(-len(jobs) // threads))))
        queue = deque(pieces)
        # The caller works too: a thread that only waited would cost a switch to another one per sample.
        helpers = [_pool(os.getpid(), threads).submit(self._work, queue) for _ in range(min(threads, len(pieces)) - 1)]
        try:
            self._work(queue)
        finally:
            queue.clear()
            wait([helper for helper in helpers if not helper.cancel()])
        for helper in helpers:
            if not helper.cancelled():
                helper.result()

    def _work(self, queue: deque[list[tuple[Place, npt.NDArray[Any]]]]) -> None:
        while True:
            try:
                piece = queue.popleft()
            except IndexError:
                return
            self._fill_piece(piece)

    def _fill_piece(self, jobs: Sequence[tuple[Place, npt.NDArray[Any]]]) -> None:
        for place, out in jobs:
            if place.column is None:
                self.videos.fill(place.path, place.number, out)
            else:
                height, width = out.shape[1:]
                fill(self.pictures.picture(place.path, place.column, place.number, (height, width)), out)


def default_threads() -> int:
    """All cores of this process; one in a worker process, which shares them with its siblings."""
    if multiprocessing.parent_process() is not None:
        return 1
    return cores()


def _pieces[T](jobs: Sequence[tuple[Place, T]], videos: VideoReader, size: int) -> list[list[tuple[Place, T]]]:
    """Cut sorted jobs into pieces of about `size`; frames of one group of pictures stay together."""
    pieces: list[list[tuple[Place, T]]] = []
    group: tuple[Path, int] | None = None
    for job in jobs:
        place = job[0]
        key = int(videos.index(place.path).keyframe[place.number]) if place.column is None else place.number
        if (
            not pieces
            or pieces[-1][-1][0].path != place.path
            or (len(pieces[-1]) >= size and group != (place.path, key))
        ):
            pieces.append([])
        pieces[-1].append(job)
        group = (place.path, key)
    return pieces


@functools.cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    # Threads do not live on in a forked child: it makes its own.
    return ThreadPoolExecutor(threads, thread_name_prefix="smolpilot-decode")
