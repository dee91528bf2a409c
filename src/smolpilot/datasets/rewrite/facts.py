"""What a recording holds, as hashes per episode: the common ground of conversion, proof and comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from smolpilot.datasets.meta import DatasetMeta
from smolpilot.datasets.rewrite.options import Progress
from smolpilot.datasets.rewrite.packets import Clip, Span, clips_of, read_packets
from smolpilot.datasets.rewrite.pictures import picture_digests
from smolpilot.datasets.rewrite.pool import Pool
from smolpilot.datasets.rewrite.source import read_extras
from smolpilot.datasets.rewrite.tables import RowReader, Rows, column_digests, rows_of
from smolpilot.statistics import Statistics

type Pictures = tuple[str, str]


@dataclass(frozen=True)
class ScanTask:
    """Read a video file: the clips of some of its episodes, and their first and last pictures."""

    path: Path
    spans: list[Span]
    starts: list[float]
    fps: float


@dataclass
class EpisodeFacts:
    """One episode: `columns` [type, hash], `clips` and `pictures` by camera, its stored statistics.

    `encoded` are cameras whose clips are not the source's but were encoded again.
    """

    index: int
    length: int
    tasks: list[str]
    columns: dict[str, list[str]]
    clips: dict[str, Clip] = field(default_factory=dict)
    pictures: dict[str, Pictures] = field(default_factory=dict)
    statistics: Statistics = field(default_factory=dict)
    encoded: set[str] = field(default_factory=set)


def scan(task: ScanTask) -> list[tuple[Clip, Pictures]]:
    """Clip and hashes of first and last picture of each wanted episode."""
    packets = read_packets(task.path)
    clips = clips_of(task.path, packets, task.spans, task.starts, task.fps)
    return list(zip(clips, picture_digests(task.path, packets, clips), strict=True))


def scan_videos(
    meta: DatasetMeta, episodes: Sequence[int], pool: Pool, progress: Progress, what: str
) -> dict[tuple[str, int], tuple[Clip, Pictures]]:
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
    found = {}
    progress(what, 0, len(chosen))
    for done, (number, results) in enumerate(pool.run(scan, [task for _, task in chosen])):
        camera, task = chosen[number]
        for wanted_span, result in zip(task.spans, results, strict=True):
            found[camera, wanted_span.episode] = result
        progress(what, done + 1, len(chosen))
    return found


def digest_rows(rows: list[Rows]) -> list[dict[str, list[str]]]:
    """Column hashes of the episodes of one data file."""
    reader = RowReader()
    return [column_digests(reader.read(one)) for one in rows]


def collect(meta: DatasetMeta, pool: Pool, progress: Progress, what: str) -> list[EpisodeFacts]:
    """The facts of all episodes of a dataset; reads everything once."""
    videos = scan_videos(meta, [episode.index for episode in meta.episodes], pool, progress, f"{what}: videos")
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
            EpisodeFacts(
                index=episode.index,
                length=episode.length,
                tasks=episode.tasks,
                columns=columns[episode.index],
                clips={camera: clip for camera, (clip, _) in mine.items()},
                pictures={camera: pictures for camera, (_, pictures) in mine.items()},
                statistics=statistics.get(episode.index, {}),
            )
        )
    return found
