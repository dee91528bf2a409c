"""What a dataset holds, as hashes per episode: the common ground of conversion, proof and comparison."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from smolpilot.common.statistics import PackedStatistics, Statistics
from smolpilot.datasets.copy.options import Progress
from smolpilot.datasets.copy.pool import Pool
from smolpilot.datasets.copy.source import read_extras
from smolpilot.datasets.copy.tables import RowReader, Rows, column_digests, rows_of
from smolpilot.datasets.copy.video.packets import Clip, Packets, Span, clips_of, read_packets
from smolpilot.datasets.copy.video.proof_images import image_digests
from smolpilot.datasets.format.meta import DatasetMeta

type BoundaryImages = tuple[str, str]
type Scanned = tuple[Clip, BoundaryImages]

# Of files with more episodes, the images are decoded in several tasks: one file alone would occupy one core.
_TOGETHER = 4


@dataclass(frozen=True)
class ScanTask:
    """Read a video file: the clips of some of its episodes, and their first and last images."""

    path: Path
    spans: list[Span]
    starts: list[float]
    fps: float


@dataclass
class EpisodeDigests:
    """One episode: `columns` [type, hash], `clips` and `pictures` by camera, its stored statistics, packed.

    `encoded` are cameras whose clips are not the source's but were encoded again.
    """

    index: int
    length: int
    tasks: list[str]
    columns: dict[str, list[str]]
    clips: dict[str, Clip] = field(default_factory=dict)
    pictures: dict[str, BoundaryImages] = field(default_factory=dict)
    packed: PackedStatistics | None = None
    encoded: set[str] = field(default_factory=set)

    @property
    def statistics(self) -> Statistics:
        """The stored statistics."""
        return self.packed.unpack() if self.packed is not None else {}


def scan(task: ScanTask) -> list[Scanned]:
    """Clip and hashes of first and last image of each wanted episode."""
    packets, clips = _scan_packets(task)
    return list(zip(clips, image_digests(task.path, packets, clips), strict=True))


def _scan_packets(task: ScanTask) -> tuple[Packets, list[Clip]]:
    packets = read_packets(task.path)
    return packets, clips_of(task.path, packets, task.spans, task.starts, task.fps)


def _scan_file(task: ScanTask) -> list[Scanned] | tuple[Packets, list[Clip]]:
    """Everything of a file of few episodes; of others what the tasks for their images need."""
    if len(task.spans) <= _TOGETHER:
        return scan(task)
    packets, clips = _scan_packets(task)
    return replace(packets, digests=[]), clips


def digest_videos(
    meta: DatasetMeta, episodes: Sequence[int], pool: Pool, progress: Progress, what: str
) -> dict[tuple[str, int], tuple[Clip, BoundaryImages]]:
    """The clips of some episodes of a dataset, by camera and episode."""
    tasks: dict[tuple[str, Path], ScanTask] = {}
    wanted = set(episodes)
    for episode in meta.episodes:
        for camera, span in episode.videos.items():
            task = tasks.setdefault((camera, span.path), ScanTask(span.path, [], [], meta.fps))
            task.starts.append(span.start)
            if episode.index in wanted:
                task.spans.append(Span(episode.index, span.start, span.stop, episode.length))
    chosen = [(camera, task) for (camera, _), task in tasks.items() if task.spans]
    results = _scan_files([task for _, task in chosen], pool, progress, what)
    found = {}
    for (camera, task), scanned in zip(chosen, results, strict=True):
        for wanted_span, result in zip(task.spans, scanned, strict=True):
            found[camera, wanted_span.episode] = result
    return found


def _scan_files(files: Sequence[ScanTask], pool: Pool, progress: Progress, what: str) -> list[list[Scanned]]:
    """What `scan` finds in each file; the work is spread also where it is one file."""
    results: list[list[Scanned]] = [[] for _ in files]
    opened: dict[int, tuple[Packets, list[Clip]]] = {}
    progress(what, 0, len(files))
    for done, (number, found) in enumerate(pool.run(_scan_file, files)):
        if isinstance(found, tuple):
            opened[number] = found
        else:
            results[number] = found
        progress(what, done + 1, len(files))
    if not opened:
        return results
    places: list[list[tuple[int, int]]] = []
    tasks: list[Callable[[], list[BoundaryImages]]] = []
    for number, (packets, clips) in opened.items():
        for numbers, task in _image_tasks(files[number], packets, clips, pool.jobs):
            places.append([(number, place) for place in numbers])
            tasks.append(task)
    pictures: dict[tuple[int, int], BoundaryImages] = {}
    total = sum(map(len, places))
    for which, found_images in pool.run(operator.call, tasks):
        pictures |= zip(places[which], found_images, strict=True)
        progress(f"{what}, boundary frames", len(pictures), total)
    for number, (_, clips) in opened.items():
        results[number] = [(clip, pictures[number, place]) for place, clip in enumerate(clips)]
    return results


def _image_tasks(
    file: ScanTask, packets: Packets, clips: list[Clip], jobs: int
) -> Iterator[tuple[list[int], Callable[[], list[BoundaryImages]]]]:
    """The first and last images of clips, by their places; neighbors together: the decoder plays on between them."""
    order = sorted(range(len(clips)), key=lambda number: clips[number].first_pts)
    share = max(_TOGETHER, -(-len(order) // (2 * jobs)))
    for first in range(0, len(order), share):
        numbers = order[first : first + share]
        before = clips[order[first - 1]] if first else None
        yield numbers, partial(image_digests, file.path, packets, [clips[number] for number in numbers], before)


def digest_rows(rows: list[Rows]) -> list[dict[str, list[str]]]:
    """Column hashes of the episodes of one data file."""
    reader = RowReader()
    return [column_digests(reader.read(one)) for one in rows]


def collect(meta: DatasetMeta, pool: Pool, progress: Progress, what: str) -> list[EpisodeDigests]:
    """The facts of all episodes of a dataset; reads everything once."""
    videos = digest_videos(meta, [episode.index for episode in meta.episodes], pool, progress, f"{what}: videos")
    files: dict[Path, list[Rows]] = {}
    for index, rows in rows_of(meta).items():
        files.setdefault(meta.episode(index).data_path, []).append(rows)
    parts = list(files.values())
    columns: dict[int, dict[str, list[str]]] = {}
    for done, (number, digests) in enumerate(pool.run(digest_rows, parts)):
        columns |= {rows.episode: digest for rows, digest in zip(parts[number], digests, strict=True)}
        progress(f"{what}: tables", done + 1, len(parts))
    statistics = read_extras(meta).statistics
    found = []
    for episode in meta.episodes:
        mine = {camera: videos[camera, episode.index] for camera in episode.videos}
        found.append(
            EpisodeDigests(
                index=episode.index,
                length=episode.length,
                tasks=episode.tasks,
                columns=columns[episode.index],
                clips={camera: clip for camera, (clip, _) in mine.items()},
                pictures={camera: pictures for camera, (_, pictures) in mine.items()},
                packed=statistics.get(episode.index),
            )
        )
    return found
