"""copy_episodes(): the steps from planned episodes to a proven folder, each of them resumable."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from smolpilot.common.atomic import refuse_existing
from smolpilot.common.errors import DatasetError, SmolpilotError, UsageError
from smolpilot.common.safe_paths import below
from smolpilot.common.statistics import PackedStatistics
from smolpilot.common.text import format_bytes
from smolpilot.datasets.beside import files_beside
from smolpilot.datasets.format.meta import DatasetMeta, read_meta

from . import copy_plan as planning
from .data_file import EpisodeRows, write_rows
from .episode_statistics import camera_statistics
from .info import result_info, split_note
from .manifest import write_manifest
from .meta_files import EpisodeRecord, write_meta
from .options import CopyOptions, EpisodePlan, Progress
from .pool import Pool, size_of
from .proof.comparison import Comparison, compare_episodes, compare_fields, compare_files, compare_meta, compare_whole
from .proof.content_digests import BoundaryImages, EpisodeDigests, collect, digest_videos
from .proof.copy_report import CopyReport
from .remarks import content_warnings, layout_notes
from .source import read_extras, require_same_kind, state_of
from .statistics_plan import StatisticsPlan
from .tables import release_reader
from .video import mux
from .video.reencode import copyable
from .work import NoRoomError, Part, WorkFolder, clear_errors, execute, locked, may_go_on, work_folder


def copy_episodes(
    plans: Sequence[EpisodePlan],
    dst: str | Path,
    options: CopyOptions | None = None,
    *,
    info: Mapping[str, Any] | None = None,
    renumber: bool = False,
    files: Mapping[str, str] | None = None,
    renamed: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> CopyReport:
    """Write the planned episodes as a new dataset: whole and proven, or not at all.

    Video packets are copied; every column, dtype and value stays, but for what a plan changes; missing statistics are
    computed; card, license and other meta files of the first source come along. `info` replaces the first source's
    `info.json` as the base of the result's. `renumber` gives episodes 0, 1, …, in the order of the plans, rows and
    tasks new indices (tasks by text); otherwise they keep theirs. `files` are texts by relative path to be written,
    too, in place of the source's extra files of that name. `renamed` are names of features in the files of the source,
    and those that its DatasetMeta has for them. `progress(what, done, total)` is called often.
    Unfinished work stays beside `dst`, and the same call goes on with it. Raises UsageError when `dst` exists or
    cannot be written, DatasetError for sources that cannot be copied and for a result that is not equal to them.
    """
    if not plans:
        raise UsageError("No episodes are left to write.", expected="at least one")
    target = Path(dst).expanduser().absolute()
    chosen = options or CopyOptions()
    sources = planning.sources_of(plans)
    _check_target(target, sources)
    require_same_kind(sources)
    folder = work_folder(target)
    with clear_errors(target), locked(target):
        try:
            size = size_of(path for plan in plans for path in plan.origin.paths)
            with Pool(chosen.jobs, size) as pool:
                report = progress or (lambda what, done, total: None)
                job = _Job(plans, target, chosen, info, renumber, files or {}, renamed or {}, pool, report)
                return job.run()
        except BaseException as error:
            # Nothing worth keeping: the plan did not get as far as a first part, or can never be finished.
            if folder.exists() and (not (folder / "state").exists() or not may_go_on(error)):
                shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            release_reader()


@dataclass
class _Job:
    _plans: Sequence[EpisodePlan]
    _target: Path
    _options: CopyOptions
    _info: Mapping[str, Any] | None
    _renumber: bool
    _files: Mapping[str, str]
    _renamed: Mapping[str, str]
    _pool: Pool
    _progress: Progress

    def __post_init__(self) -> None:
        self._sources = planning.sources_of(self._plans)
        self._states = {id(meta): state_of(meta) for meta in self._sources}
        # Whether the result is a whole source of its own, and not described anew.
        self._same = len(self._sources) == 1 and not self._renumber and self._info is None
        texts: Mapping[str, Any] | None = self._info
        if self._files or self._renamed:
            texts = {"info": self._info, "files": self._files, "renamed": self._renamed}
        name = planning.fingerprint(self._plans, self._options, texts, self._states, self._renumber)
        self._work = WorkFolder(self._target, name)
        self._report = CopyReport()

    def run(self) -> CopyReport:
        # Before the work: a file that may not be read stops it.
        self._beside = files_beside(self._sources[0].root)
        self._extras = {id(meta): read_extras(meta, self._renamed) for meta in self._sources}
        self._placed, self._tasks = planning.place_episodes(self._plans, renumber=self._renumber, renamed=self._renamed)
        self._fps = self._sources[0].fps
        self._keys = {name: camera.key for name, camera in self._sources[0].cameras.items() if camera.is_video}
        source_files = planning.source_files(self._placed)
        self._statistics = StatisticsPlan(self._extras, source_files)
        pictures = self._read_sources()
        data_files = planning.place_rows(self._placed, source_files, self._options)
        _check_space(self._work, self._placed)
        self._work.open()
        pictures |= copyable(self._placed, self._fps, self._options, self._execute, self._work, self._report)
        self._execute(list(self._parts(data_files)), "write")
        expected = self._expected(data_files, pictures)
        self._write_meta(expected)
        self._prove(expected)
        states = [self._states[id(meta)] for meta in self._sources]
        if states != [state_of(meta) for meta in self._sources]:
            self._work.clear()
            raise DatasetError("The source changed while it was read.", fix="Run again when nothing writes to it.")
        write_manifest(self._work, self._report, self._sources)
        self._work.finish()
        self._report.episodes = len(self._placed)
        self._report.frames = sum(one.rows.length for one in self._placed)
        self._report.warnings = [*content_warnings(self._placed, self._tasks, self._report), *self._said]
        self._report.notes = [*layout_notes(self._sources, source_files), *self._report.notes]
        self._report.notes += self._statistics.derived.notes(len(self._placed))
        return self._report

    def _read_sources(self) -> dict[tuple[int, str], BoundaryImages]:
        pictures = {}
        by_source: dict[int, list[planning.PlacedEpisode]] = {}
        for one in self._placed:
            by_source.setdefault(id(one.plan.source), []).append(one)
        for meta in self._sources:
            mine = by_source[id(meta)]
            found = digest_videos(meta, [one.plan.episode for one in mine], self._pool, self._progress, "read")
            for one in mine:
                for camera in one.plan.origin.videos:
                    one.clips[camera], pictures[one.index, camera] = found[camera, one.plan.episode]
        return pictures

    def _parts(self, data_files: list[list[planning.PlacedEpisode]]) -> Iterator[Part]:
        """What is written; largest kinds first."""
        for camera, key in self._keys.items():
            for number, segments in enumerate(planning.place_videos(self._placed, camera, self._fps, self._options)):
                first = self._placed[number].index
                path = self._options.format.video_file(key, number, first, self._options.chunk_files)
                write = partial(mux.write_segments, segments=segments)
                yield Part(f"video {camera} {number}", f"result/{path}", write)
        for number, inside in enumerate(data_files):
            path = self._options.format.data_file(number, inside[0].index, self._options.chunk_files)
            episodes = [self._episode_rows(one) for one in inside]
            rows = partial(write_rows, episodes=episodes, fps=self._fps, misaligned=self._options.misaligned)
            yield Part(f"data {number}", f"result/{path}", rows)
        for one in self._placed:
            wanted = self._statistics.pictures(one)
            for camera, clip in one.clips.items():
                if self._keys[camera] in wanted:
                    statistics = partial(camera_statistics, path=one.video(camera), clip=clip)
                    yield Part(f"pictures {camera} {one.index}", None, statistics)

    def _episode_rows(self, one: planning.PlacedEpisode) -> EpisodeRows:
        features = one.plan.source.features
        pictures = [name for name, feature in features.items() if feature.dtype == "image"]
        wanted = set(self._statistics.pictures(one))
        return EpisodeRows(
            rows=one.rows,
            index=one.index,
            change=one.plan.change,
            numbers=one.numbers,
            stored=self._statistics.columns(one),
            skipped=pictures,
            pictures=[name for name in pictures if name in wanted],
            clips={camera: (one.video(camera), clip) for camera, clip in one.clips.items()},
        )

    def _execute(self, parts: Sequence[Part], what: str) -> None:
        """Run the parts that the journal does not have, and note each as it is ready."""
        todo = [part for part in parts if part.name not in self._work.records]
        self._report.parts += len(parts)
        self._report.resumed += len(parts) - len(todo)
        done = len(parts) - len(todo)
        self._progress(what, done, len(parts))
        for _, record in self._pool.run(execute, [(part, self._work.folder) for part in todo]):
            self._work.add(record)
            done += 1
            self._progress(what, done, len(parts))

    def _expected(
        self, files: list[list[planning.PlacedEpisode]], pictures: Mapping[tuple[int, str], BoundaryImages]
    ) -> list[EpisodeDigests]:
        """What the result has to hold, by the sources and the journal."""
        facts: list[EpisodeDigests] = []
        not_finite: dict[str, None] = {}
        for number, inside in enumerate(files):
            found = self._work.take(f"data {number}")["episodes"]
            for one, rows in zip(inside, found, strict=True):
                self._report.off_video = max(self._report.off_video, rows["off_video"])
                not_finite |= dict.fromkeys(rows["not_finite"])
                facts.append(
                    EpisodeDigests(
                        index=one.index,
                        length=one.rows.length,
                        tasks=self._episode_tasks(one, rows["tasks"]),
                        columns=rows["columns"],
                        clips=dict(one.clips),
                        pictures={camera: pictures[one.index, camera] for camera in one.clips},
                        packed=self._episode_statistics(one, rows),
                        encoded=set(one.encoded),
                    )
                )
        self._whole = self._statistics.of_whole(
            self._placed, (one.statistics for one in facts), same=self._same, version=self._options.version
        )
        self._report.not_finite = list(not_finite)
        self._report.computed = self._statistics.derived.computed
        self._report.carried = list(self._statistics.derived.carried)
        return facts

    def _episode_tasks(self, one: planning.PlacedEpisode, used: list[int]) -> list[str]:
        if one.plan.change is None and one.numbers is None and one.plan.tasks is None and one.plan.origin.tasks:
            return one.plan.origin.tasks
        for index in used:
            if index not in self._tasks:
                raise DatasetError(
                    f"Frames of episode {one.plan.episode} point to task {index}, which has no text.",
                    expected=f"one of the task indices {sorted(self._tasks)}",
                    fix="See `smolpilot dataset check`.",
                )
        return [self._tasks[index] for index in used]

    def _episode_statistics(self, one: planning.PlacedEpisode, rows: Mapping[str, Any]) -> PackedStatistics:
        found = dict(rows["statistics"])
        for camera in one.clips:
            name = f"pictures {camera} {one.index}"
            if name in self._work.records:
                found[self._keys[camera]] = self._work.take(name)["statistics"]
        return self._statistics.of_episode(one, found, rows["wrong_statistics"])

    def _write_meta(self, expected: Sequence[EpisodeDigests]) -> None:
        first = self._sources[0]
        by_index = {facts.index: facts for facts in expected}
        records = []
        for one in self._placed:
            fields = self._extras[id(one.plan.source)].fields.get(one.plan.episode, {})
            records.append(EpisodeRecord(one, by_index[one.index], fields))
        schema = pq.read_schema(self._work.folder / self._work.records["data 0"]["output"])
        clips = {self._keys[camera]: clip for camera, clip in self._placed[0].clips.items()}
        base = self._info if self._info is not None else self._extras[id(first)].info
        info = result_info(base, self._placed, self._tasks, self._options, clips, schema, self._recoded())
        self._report.notes += split_note(base.get("splits"), info["splits"], self._renumber)
        self._said = write_meta(self._work.root, info, self._tasks, records, self._whole, self._keys)
        self._said += self._beside.warnings()
        self._beside.copy_to(self._work.root)
        for name, text in self._files.items():
            path = below(self._work.root, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")

    def _recoded(self) -> set[str]:
        """Keys of cameras of which something was encoded again, and whose videos are now all coded alike."""
        found = set()
        for camera, key in self._keys.items():
            kinds = {(one.clips[camera].coding.codec, one.clips[camera].coding.pix_fmt) for one in self._placed}
            if len(kinds) == 1 and any(camera in one.encoded for one in self._placed):
                found.add(key)
        return found

    def _prove(self, expected: Sequence[EpisodeDigests]) -> None:
        """Read the whole result back and compare it with what was planned."""
        proof = self._report.proof
        try:
            result = read_meta(self._work.root, trainable=False)
            facts = collect(result, self._pool, self._progress, "prove")
        except SmolpilotError:
            self._work.clear()
            raise
        compare_episodes(expected, facts, proof)
        compare_whole(self._whole, result.statistics, proof)
        if self._same:
            compare_fields(self._extras[id(self._sources[0])], read_extras(result), proof)
            if not self._files:
                compare_files(self._sources[0].root, result.root, proof)
            compare_meta(_as_planned(self._sources[0], self._tasks), result, proof)
        if not proof.equal:
            changed = self._work.changed_since()
            self._work.clear()
            raise _unequal(proof, changed)


def _unequal(proof: Comparison, changed: list[str]) -> DatasetError:
    shown = "; ".join(str(one) for one in proof.differences[:5])
    if changed:
        # Written, hashed, and now something else: that is what a failing disk does.
        return DatasetError(
            f"The result has been removed: {', '.join(changed[:3])} {'reads' if len(changed) == 1 else 'read'} "
            f"otherwise than written a moment ago ({shown}).",
            expected="the bytes that were written",
            fix="Check the disk that holds the new folder, or choose a folder on another one.",
        )
    return DatasetError(
        f"The result is not equal to its source, and has been removed: {shown}.",
        expected="equal values, packets, images and instructions, and the statistics that were written",
        fix="Every file reads as it was written: this is a fault of smolpilot. Report it with this message.",
    )


def _as_planned(meta: DatasetMeta, tasks: dict[int, str]) -> DatasetMeta:
    """The source with the task list of the result, without statistics: those are decided anew."""
    return replace(meta, tasks=tasks, statistics={})


def _check_target(target: Path, sources: Sequence[DatasetMeta]) -> None:
    leftover = work_folder(target)
    if target.exists() and leftover.is_dir() and not (leftover / "result").exists():
        # Killed between putting the result in place and tidying up.
        shutil.rmtree(leftover, ignore_errors=True)
    refuse_existing(target, "datasets", *(meta.root for meta in sources))


def _check_space(work: WorkFolder, placed: Sequence[planning.PlacedEpisode]) -> None:
    videos = sum(clip.size for one in placed for clip in one.clips.values())
    tables = {one.rows.path: one.rows.path.stat().st_size for one in placed}
    there = sum(path.stat().st_size for path in work.folder.rglob("*") if path.is_file())
    needed = int(1.02 * (videos + sum(tables.values()))) - there
    free = shutil.disk_usage(work.folder).free
    if needed > free:
        raise NoRoomError(
            f"The disk is too full: {format_bytes(needed)} are needed for {work.target}, "
            f"{format_bytes(free)} are free.",
            fix="Free some space, or choose another disk.",
        )
