"""From a list of episodes to a list of files: which episode goes where, under which index, with which tasks."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from smolpilot.common.errors import UsageError
from smolpilot.datasets.format.meta import DatasetMeta

from .options import CopyOptions, EpisodePlan
from .tables import RowReader, Rows, rows_of, stored
from .video import mux
from .video.packets import Clip

_MB = 1024 * 1024
# Raised whenever the same plan would give other bytes, or another journal.
_ENGINE = 3


@dataclass
class Numbers:
    """New indices: of the episode's first row, and of each task that its rows point to."""

    first_row: int
    tasks: dict[int, int]


@dataclass
class PlacedEpisode:
    """Where an episode is in the result; `videos` per camera (file, offset in ticks, end in ticks).

    `numbers` None: the indices of the source stay.
    """

    plan: EpisodePlan
    index: int
    rows: Rows
    numbers: Numbers | None
    data_file: int = 0
    videos: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    clips: dict[str, Clip] = field(default_factory=dict)
    encoded: dict[str, Path] = field(default_factory=dict)

    def video(self, camera: str) -> Path:
        """The file to copy from: the source's, or one that was encoded anew."""
        return self.encoded.get(camera, self.plan.origin.videos[camera].path)


def place_episodes(
    plans: Sequence[EpisodePlan], *, renumber: bool, renamed: Mapping[str, str]
) -> tuple[list[PlacedEpisode], dict[int, str]]:
    """Give each episode its index and rows; also the task list of the result."""
    where = {id(meta): rows_of(meta, renamed) for meta in sources_of(plans)}
    if not renumber:
        placed = [PlacedEpisode(plan, plan.episode, where[id(plan.source)][plan.episode], None) for plan in plans]
        indices = [plan.episode for plan in plans]
        if len(set(indices)) != len(indices):
            raise UsageError("Two episodes have the same index.", fix="Number them anew.")
        return sorted(placed, key=lambda one: one.index), _kept_tasks(plans)
    tasks: dict[str, int] = {}
    placed, first_row, reader = [], 0, RowReader()
    for number, plan in enumerate(plans):
        rows = where[id(plan.source)][plan.episode]
        changed, texts = plan.tasks or {}, plan.source.tasks
        columns = None if plan.change is not None else ["task_index", "episode_index", "frame_index", "timestamp"]
        table = reader.read(rows, columns)
        used = used_tasks(table if plan.change is None else plan.change(table))
        mapping = {old: tasks.setdefault(changed.get(old, texts.get(old, "")), len(tasks)) for old in used}
        placed.append(PlacedEpisode(plan, number, rows, Numbers(first_row, mapping)))
        first_row += rows.length
    return placed, {index: text for text, index in tasks.items()}


def sources_of(plans: Sequence[EpisodePlan]) -> list[DatasetMeta]:
    """The sources, each once, in order of first use."""
    return list({id(plan.source): plan.source for plan in plans}.values())


def place_videos(
    placed: Sequence[PlacedEpisode], camera: str, fps: float, options: CopyOptions
) -> list[list[mux.VideoSegment]]:
    """The pieces of each video file of a camera; notes in `placed` where each episode comes to lie."""
    files: list[list[mux.VideoSegment]] = []
    size, end = 0, 0
    for run in runs(placed, camera, options):
        clip, path = joined([one.clips[camera] for one in run]), run[0].video(camera)
        fits = (
            options.format.shared_files
            and bool(files)
            and size + clip.size < options.video_file_mb * _MB
            and mux.follows(files[-1][-1], clip, end)
        )
        if not fits:
            files.append([])
            size, end = 0, 0
        files[-1].append(mux.VideoSegment(path, clip, end))
        begins = [
            end + clip.lead + one.clips[camera].first_pts - clip.first_pts - one.clips[camera].lead for one in run
        ]
        last = mux.place(run[-1].clips[camera], fps, begins[-1])
        for one, begin, after in zip(run, begins, [*begins[1:], last], strict=True):
            one.videos[camera] = (len(files) - 1, begin, after)
        size, end = size + clip.size, last
    return files


def runs(placed: Sequence[PlacedEpisode], camera: str, options: CopyOptions) -> list[list[PlacedEpisode]]:
    """Episodes whose packets are copied together: those that cannot be cut, with their neighbors in the source's file.

    Where the cut itself is asked for (`reencode`, or a file for each episode), each is alone.
    """
    found: list[list[PlacedEpisode]] = []
    for one in placed:
        before = found[-1][-1] if found else None
        if before is not None and options.format.shared_files and not options.reencode and _bound(before, one, camera):
            found[-1].append(one)
        else:
            found.append([one])
    return [part for run in found for part in ([run] if _copied_as_one(run, camera) else [[one] for one in run])]


def _bound(before: PlacedEpisode, one: PlacedEpisode, camera: str) -> bool:
    first, second = before.clips[camera], one.clips[camera]
    neighbors = before.video(camera) == one.video(camera) and first.next_pts == second.first_pts
    return neighbors and bool(first.problem or second.problem)


def _copied_as_one(run: Sequence[PlacedEpisode], camera: str) -> bool:
    """Whether a run begins with a key frame and its packets follow one another, without those of other episodes."""
    clips = [one.clips[camera] for one in run]
    begin, end = min(clip.first_packet for clip in clips), max(clip.last_packet for clip in clips)
    together = end - begin + 1 == sum(clip.frames for clip in clips) and all(clip.ordered for clip in clips)
    return len(run) == 1 or (together and clips[0].key and clips[0].first_packet == begin)


def joined(clips: Sequence[Clip]) -> Clip:
    """The clips of neighbors as one."""
    first, last = clips[0], clips[-1]
    if len(clips) == 1:
        return first
    return replace(
        first,
        frames=sum(clip.frames for clip in clips),
        size=sum(clip.size for clip in clips),
        last=last.first_pts + last.last - first.first_pts,
        last_decode=max(clip.last_decode + clip.first_pts - first.first_pts for clip in clips),
        step=last.step,
        problem="",
    )


@dataclass(frozen=True)
class SourceFile:
    """A data file of a source: uncompressed bytes of its columns, their dtypes, and rows of all its episodes."""

    size: int
    schema: pa.Schema
    frames: int


def source_files(placed: Sequence[PlacedEpisode]) -> dict[Path, SourceFile]:
    """The data files of the placed episodes, each opened once."""
    found: dict[Path, SourceFile] = {}
    frames: dict[Path, int] = {}
    for meta in sources_of([one.plan for one in placed]):
        for episode in meta.episodes:
            frames[episode.data_path] = frames.get(episode.data_path, 0) + episode.length
    for one in placed:
        path = one.rows.path
        if path not in found:
            size, schema = stored(path)
            names = one.rows.form.renamed
            columns = pa.schema([column.with_name(names.get(column.name, column.name)) for column in schema])
            found[path] = SourceFile(size, columns, max(frames[path], 1))
    return found


def place_rows(
    placed: Sequence[PlacedEpisode], files_there: Mapping[Path, SourceFile], options: CopyOptions
) -> list[list[PlacedEpisode]]:
    """The episodes of each data file."""
    files: list[list[PlacedEpisode]] = []
    size, before = 0.0, pa.schema([])
    for one in placed:
        source = files_there[one.rows.path]
        mine = source.size * one.rows.length / source.frames
        full = size + mine >= options.data_file_mb * _MB
        # One file has one schema: where the dtypes of the source change, a new file begins.
        same = source.schema is before or source.schema.equals(before)
        if not files or not options.format.shared_files or full or not same:
            files.append([])
            size = 0.0
        before = source.schema
        files[-1].append(one)
        one.data_file = len(files) - 1
        size += mine
    return files


def fingerprint(
    plans: Sequence[EpisodePlan],
    options: CopyOptions,
    info: Mapping[str, Any] | None,
    states: Mapping[int, str],
    renumber: bool,
) -> str:
    """Equal for equal work: sources as they are now, episodes, changes and options (but the number of processes)."""
    digest = hashlib.sha256()
    chosen = {name: value for name, value in vars(options).items() if name != "jobs"}
    digest.update(json.dumps([_ENGINE, chosen, renumber, info], sort_keys=True, default=str).encode())
    for meta in sources_of(plans):
        digest.update(f"{meta.root} {states[id(meta)]} {sorted(meta.without)}".encode())
    for plan in plans:
        change = pickle.dumps(plan.change) if plan.change is not None else b""
        where = f"{plan.source.root} {plan.episode} {sorted((plan.tasks or {}).items())}"
        digest.update(where.encode())
        digest.update(change)
    return digest.hexdigest()


def _kept_tasks(plans: Sequence[EpisodePlan]) -> dict[int, str]:
    tasks: dict[int, str] = {}
    by_source: dict[int, list[EpisodePlan]] = {}
    for plan in plans:
        by_source.setdefault(id(plan.source), []).append(plan)
    for meta in sources_of(plans):
        changed = by_source[id(meta)]
        replaced = {index for plan in changed for index in plan.tasks or {}}
        always = all(plan.tasks is not None for plan in changed)
        for index, text in meta.tasks.items():
            # A text that every episode replaces is gone; one that only some replace would stand for two texts.
            if not (always and index in replaced):
                _set_task(tasks, index, text)
        for plan in changed:
            for index, text in (plan.tasks or {}).items():
                _set_task(tasks, index, text)
    return dict(sorted(tasks.items()))


def _set_task(tasks: dict[int, str], index: int, text: str) -> None:
    if tasks.setdefault(index, text) != text:
        raise UsageError(
            f"Task {index} would have two texts: '{tasks[index]}' and '{text}'.",
            expected="one text per task index",
            fix="Number the tasks anew (renumber), or give the new text an index of its own.",
        )


def used_tasks(table: pa.Table) -> list[int]:
    """The task indices of an episode's rows, in order of first use."""
    return list(dict.fromkeys(table["task_index"].to_pylist())) if "task_index" in table.column_names else []
