"""Tasks, episodes and statistics as the meta folder of each version lists them: one reader, strict or tolerant.

What is wrong goes to `Problems`: the strict reader stops at the first of it, the tolerant one goes on without it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from smolpilot.common.json_input import parse_json
from smolpilot.common.statistics import Statistics, merge_fitting, readable_statistics, statistic_values
from smolpilot.common.text import shown

from .completeness import Absent
from .episode_fields import is_own, own_fields
from .files import file_state, iter_jsonl, read_json, read_meta_table, repair_advice
from .paths import DatasetPaths
from .problems import Problems
from .statistics_columns import RowStatistics, Stored, stored_statistics

MOST_ROWS = 2**53
"""Above all indices and lengths: up to there floats, too, are whole numbers."""
_NEEDED = ("episode_index", "length", "data/chunk_index", "data/file_index")
_VIDEO_PLACE = ("chunk_index", "file_index", "from_timestamp")
_PLACES = "an index, a length and the place of data and videos for each episode"


@dataclass(frozen=True, slots=True)
class VideoSpan:
    """Where an episode's frames of one camera lie: a video file and the episode's start in it, in seconds.

    `stop` is the end where the meta folder states it (v3.0).
    """

    path: Path
    start: float = 0.0
    stop: float | None = None


@dataclass
class Record:
    """What the metadata say of an episode; `listed` is False when only its files or rows tell of it.

    `spans` are by camera key. `first` and `last` are its rows in the whole dataset. `fields` are entries of the episode
    list that no reader needs; they stay with the episode.
    """

    index: int
    length: int | None = None
    tasks: list[str] = field(default_factory=list)
    data_path: Path | None = None
    spans: dict[str, VideoSpan] = field(default_factory=dict)
    statistics: Stored = field(default_factory=dict)
    first: int | None = None
    last: int | None = None
    listed: bool = True
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass
class Listing:
    """What the meta folder of any version lists, in one form; absolute paths.

    `unplaced` has the episodes of a camera whose place in its videos the episode table does not say: what it lacks.
    `never_recorded` are keys of cameras that no episode has a place for. `task_labels` are the labels of the rows of
    meta/tasks.parquet as pandas, and so LeRobot, reads them; `order` the episodes as the episode table lists them.
    `absent` are lists that are not there.
    """

    tasks: dict[int, str] = field(default_factory=dict)
    records: dict[int, Record] = field(default_factory=dict)
    statistics: Statistics = field(default_factory=dict)
    unplaced: dict[str, dict[int, str]] = field(default_factory=dict)
    never_recorded: list[str] = field(default_factory=list)
    task_labels: list[Any] | None = None
    order: list[int] = field(default_factory=list)
    absent: list[Absent] = field(default_factory=list)


class MetadataReader:
    """Reads the lists of a dataset. `cameras` are the keys of those with videos.

    `whole` also reads what no sample needs: own fields, statistics of every episode. `complete` False notes lists that
    are not there as `absent`, instead of a report.
    """

    def __init__(
        self,
        info: Mapping[str, Any],
        paths: DatasetPaths,
        cameras: Sequence[str],
        problems: Problems,
        *,
        whole: bool = False,
        complete: bool = True,
        into: Listing | None = None,
    ) -> None:
        self._root, self._form, self._meta = paths.root, paths.form, paths.root / "meta"
        self._info, self._paths, self._cameras, self._problems = info, paths, cameras, problems
        self._whole, self._complete = whole, complete
        self.found = into if into is not None else Listing()

    def read(self) -> Listing:
        """Tasks, episodes with their places, and statistics."""
        if self._form.shared_files:
            self._task_table()
            self._episode_tables()
        else:
            path = self._meta / "tasks.jsonl"
            self._tasks(self._lines(path, "task list"), path)
            self._episode_lines()
        self._statistics()
        return self.found

    def place(self, record: Record, per_chunk: int) -> None:
        """Fill in where an episode with files of its own has them."""
        chunk = record.index // per_chunk
        record.data_path = self._paths.file(None, chunk, record.index)
        for key in self._cameras:
            video = self._paths.file(key, chunk, record.index)
            if video is not None:
                record.spans[key] = VideoSpan(video)

    def per_chunk(self) -> int:
        """How many episodes with files of their own a folder has."""
        stated = self._info.get("chunks_size", 1000)
        number = whole_number(stated)
        if number:
            return number
        self._report(
            "info-damaged",
            f"{self._problems.named(self._meta / 'info.json')} has chunks_size {shown(stated)}.",
            "episodes per folder",
            "finds it from the files",
        )
        return 1000

    def _task_table(self) -> None:
        path = self._meta / "tasks.parquet"
        table = None if self._is_absent(path, "task list") else read_meta_table(path, "task list", None, self._problems)
        if table is not None:
            self.found.task_labels = row_labels(table) if self._whole else None
            # LeRobot keeps the text as the index of a pandas table; unnamed, that index is a column of this name.
            names = ["task" if name == "__index_level_0__" else name for name in table.column_names]
            self._tasks(table.rename_columns(names).to_pylist(), path)

    def _tasks(self, rows: Iterator[dict[str, Any]] | list[dict[str, Any]], path: Path) -> None:
        """Instructions by index VALUE; gaps are fine, a value twice is not."""
        for row in rows:
            index = self._number(row, "task_index", path)
            if index is None:
                continue
            text = row.get("task")
            if not isinstance(text, str):
                where = self._problems.named(path)
                message = f"Task {index} in {where} has {shown(text)} as its instruction, which is no text."
                self._report("meta-damaged", message, "an instruction")
            elif index in self.found.tasks:
                message = f"Task {index} stands twice in {self._problems.named(path)}."
                self._report("task-duplicate", message, "one instruction per task index")
            else:
                self.found.tasks[index] = text

    def _episode_lines(self) -> None:
        path, per_chunk = self._meta / "episodes.jsonl", self.per_chunk()
        for row in self._lines(path, "episode list"):
            index = self._number(row, "episode_index", path)
            if index is None:
                continue
            length = self._number(row, "length", path, episode=index)
            record = Record(index, length, self._texts(row.get("tasks"), index, path))
            if self._whole:
                record.fields = own_fields(row)
            self.place(record, per_chunk)
            self._add(record, path)

    def _episode_tables(self) -> None:
        files = sorted((self._meta / "episodes").glob("*/*.parquet"))
        if not files and self._complete:
            self._report(
                "meta-damaged",
                f"The episode tables under {self._problems.named(self._meta / 'episodes')} are missing.",
                "meta/episodes/chunk-000/file-000.parquet, …",
                "makes them anew from the data",
            )
        elif not files:
            self.found.absent.append(Absent(self._meta / "episodes", "episode tables", "missing"))
        for path in files:
            table = read_meta_table(path, "episode table", None if self._whole else self._wanted(), self._problems)
            if table is not None:
                self._episode_table(path, table)
        if files:
            self._cameras_without_place()

    def _wanted(self) -> list[str]:
        """The columns that say where things are; not the statistics, which are most of an episode table."""
        places = [f"videos/{key}/{part}" for key in self._cameras for part in (*_VIDEO_PLACE, "to_timestamp")]
        return [*_NEEDED, "tasks", *places]

    def _episode_table(self, path: Path, table: pa.Table) -> None:
        columns = _Columns(table, path, self._problems, self._root)
        indices = columns.numbers("episode_index")
        length, chunk, number = (columns.needed(name, indices) for name in _NEEDED[1:])
        first, last = (columns.numbers(f"dataset_{end}_index", needed=False) for end in ("from", "to"))
        tasks = table["tasks"].to_pylist() if "tasks" in table.column_names else [None] * len(table)
        spans = {key: self._spans(columns, key, indices) for key in self._cameras}
        stored = stored_statistics(table) if self._whole else {}
        own = (
            table.select([name for name in dict.fromkeys(table.column_names) if is_own(name)]) if self._whole else None
        )
        fields = own.to_pylist() if own is not None else []
        for row, index in enumerate(indices):
            if index is None:
                continue
            record = Record(index, length[row], self._texts(tasks[row], index, path), first=first[row], last=last[row])
            folder, file = chunk[row], number[row]
            if folder is not None and file is not None:
                record.data_path = self._paths.file(None, folder, file)
            record.spans = {key: span for key, of_rows in spans.items() if (span := of_rows[row]) is not None}
            if own is not None:
                record.fields, record.statistics = own_fields(fields[row], own.schema), RowStatistics(stored, row)
                self.found.order.append(index)
            self._add(record, path)

    def _spans(self, columns: _Columns, key: str, indices: Sequence[int | None]) -> list[VideoSpan | None]:
        """Where each row says that its video is; what has no place is noted as `unplaced`."""
        names = [f"videos/{key}/{part}" for part in _VIDEO_PLACE]
        chunk, number = (columns.numbers(name, needed=False) for name in names[:2])
        start, stop = (columns.seconds(name) for name in (names[2], f"videos/{key}/to_timestamp"))
        found: list[VideoSpan | None] = []
        for row, index in enumerate(indices):
            begin, folder, file = start[row], chunk[row], number[row]
            if begin is None or folder is None or file is None:
                found.append(None)
                if index is not None:
                    empty = next(
                        name for name, value in zip(names, (folder, file, begin), strict=True) if value is None
                    )
                    self.found.unplaced.setdefault(key, {})[index] = empty
                continue
            path = self._paths.file(key, folder, file)
            found.append(None if path is None else VideoSpan(path, begin, stop[row]))
        return found

    def _cameras_without_place(self) -> None:
        """A camera that no episode has a place for was never recorded; in some episodes, that is damage."""
        for key, lacking in list(self.found.unplaced.items()):
            named = any((self._root / "videos" / key).rglob("*.mp4"))
            if len(lacking) == len(self.found.records) and not named:
                self.found.never_recorded.append(key)
                continue
            columns: dict[str, list[int]] = {}
            for index, column in lacking.items():
                columns.setdefault(column, []).append(index)
            for column, indices in columns.items():
                message = (
                    f"The episode table of {self._problems.named(self._meta / 'episodes')} {_empty(column, indices)}."
                )
                for index in indices:
                    self._report(
                        "meta-damaged", message, _PLACES, "makes the table anew from the data", episode=index, key=key
                    )

    def _statistics(self) -> None:
        lines, whole = self._meta / "episodes_stats.jsonl", self._meta / "stats.json"
        if self._form.shared_files or not lines.exists():
            if whole.exists():
                raw = read_json(whole, "statistics", self._problems)
                self.found.statistics = self._read_statistics(raw, None) if self._whole else readable_statistics(raw)
        elif not self._whole:
            rows = iter_jsonl(lines, "statistics", self._problems)
            self.found.statistics = merge_fitting(readable_statistics(row.get("stats")) for row in rows)
        else:
            for row in iter_jsonl(lines, "statistics", self._problems):
                record = self.found.records.get(whole_number(row.get("episode_index")) or 0)
                if record is not None:
                    record.statistics = self._read_statistics(row.get("stats"), record.index)
        stored = whole if self._form.whole_statistics else lines
        if not stored.exists():
            self._problems.remark("statistics-missing", f"{self._problems.named(stored)} is missing.")

    def _read_statistics(self, raw: Any, episode: int | None) -> Statistics:
        """Statistics as numbers; what holds none is a remark and left out."""
        found: Statistics = {}
        parts = raw if isinstance(raw, dict) else {}
        if parts is not raw:
            self._problems.remark("statistics-damaged", "The statistics are no object of features.", episode=episode)
        for feature, stats in parts.items():
            if not isinstance(stats, dict):
                message = f"The statistics of '{feature}' are no object."
                self._problems.remark("statistics-damaged", message, episode=episode)
                continue
            for name, value in stats.items():
                try:
                    found.setdefault(feature, {})[name] = statistic_values(value)
                except ValueError:
                    message = f"The {name} of '{feature}' in the statistics holds no numbers."
                    self._problems.remark("statistics-damaged", message, episode=episode)
        return found

    def _lines(self, path: Path, what: str) -> Iterator[dict[str, Any]]:
        return iter(()) if self._is_absent(path, what) else iter_jsonl(path, what, self._problems)

    def _is_absent(self, path: Path, what: str) -> bool:
        absent = not self._complete and file_state(path) == "missing"
        if absent:
            self.found.absent.append(Absent(path, what, "missing"))
        return absent

    def _number(self, row: Mapping[str, Any], key: str, path: Path, **place: Any) -> int | None:
        number = whole_number(row.get(key))
        if number is None:
            message = f"{self._problems.named(path)} has a row with {shown(row.get(key))} as '{key}'."
            self._report("meta-damaged", message, f"a whole number from 0 to {MOST_ROWS - 1:,}", **place)
        return number

    def _texts(self, value: Any, index: int, path: Path) -> list[str]:
        """The instructions of an episode; none where the list does not say, and without what is no text."""
        listed = value if isinstance(value, list) else [] if value is None else [value]
        wrong = next((text for text in listed if not isinstance(text, str)), None)
        if wrong is None and None not in listed:
            return listed
        where = self._problems.named(path)
        message = f"{where} has {shown(wrong)} as an instruction of episode {index}, which is no text."
        self._report("meta-damaged", message, "an instruction", episode=index)
        return [text for text in listed if isinstance(text, str)]

    def _add(self, record: Record, path: Path) -> None:
        if record.index in self.found.records:
            message = f"Episode {record.index} stands twice in {self._problems.named(path)}."
            self._report("episode-duplicate", message, "each episode once", "lists each once", episode=record.index)
            return
        self.found.records[record.index] = record

    def _report(
        self,
        code: str,
        message: str,
        expected: str,
        repair: str = "puts the list right where the data says how",
        **place: Any,
    ) -> None:
        self._problems.report(code, message, expected=expected, advice=repair_advice(self._root, repair), **place)


class _Columns:
    """The columns of an episode table as lists of plain numbers, None where there is none that can be meant."""

    def __init__(self, table: pa.Table, path: Path, problems: Problems, root: Path) -> None:
        self._table, self._problems, self._named = table, problems, problems.named(path)
        self._advice = repair_advice(root, "makes the table anew from the data")

    def needed(self, name: str, indices: Sequence[int | None]) -> list[int | None]:
        """Whole numbers that every episode needs: those without are reported."""
        values = self.numbers(name)
        lacking = [index for index, value in zip(indices, values, strict=True) if value is None and index is not None]
        if lacking and name in self._table.column_names:
            for index in lacking:
                self._report(f"The episode table {self._named} {_empty(name, lacking)}.", _PLACES, episode=index)
        return values

    def numbers(self, name: str, *, needed: bool = True) -> list[int | None]:
        """Whole numbers, 0 or more."""
        return self._read(name, needed=needed, seconds=False)

    def seconds(self, name: str) -> list[float | None]:
        """Finite numbers."""
        return self._read(name, needed=False, seconds=True)

    def _read(self, name: str, *, needed: bool, seconds: bool) -> list[Any]:
        nothing: list[Any] = [None] * len(self._table)
        if name not in self._table.column_names:
            if needed:
                self._report(f"The episode table {self._named} lacks the column '{name}'.", _PLACES)
            return nothing
        column = self._table[name]
        kind = column.type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind)):
            self._report(f"The column '{name}' of the episode table {self._named} is of type {kind}.", "numbers")
            return nothing
        values: list[Any] = column.to_pylist()
        if not column.null_count and not seconds and pa.types.is_integer(kind):
            numbers: npt.NDArray[Any] = column.to_numpy()
            if not len(numbers) or (numbers.min() >= 0 and numbers.max() < MOST_ROWS):
                return values
        read = _finite if seconds else whole_number
        found = [read(value) for value in values]
        wrong = next((value for value, good in zip(values, found, strict=True) if good is None is not value), None)
        if wrong is not None:
            expected = "seconds" if seconds else f"whole numbers from 0 to {MOST_ROWS - 1:,}"
            self._report(f"The column '{name}' of the episode table {self._named} holds {wrong}.", expected)
        return found

    def _report(self, message: str, expected: str, **place: Any) -> None:
        self._problems.report("meta-damaged", message, expected=expected, advice=self._advice, **place)


def whole_number(value: Any) -> int | None:
    """The value when it is a whole number that an index can be; JSON's `3.0` is one, too."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer):
        return None
    if isinstance(value, float) and not value.is_integer():
        return None
    return int(value) if 0 <= value < MOST_ROWS else None


def row_labels(table: pa.Table) -> list[Any]:
    """What pandas makes of a table's rows as their labels: the columns that its metadata call the index, else numbers.

    LeRobot takes the label of the row at the place `task_index` for the instruction.
    """
    try:
        index = parse_json((table.schema.metadata or {})[b"pandas"])["index_columns"]
    except (KeyError, ValueError, TypeError):
        index = []
    listed = index if isinstance(index, list) else []
    named = [name for name in listed if isinstance(name, str) and name in table.column_names]
    if not named:
        return list(range(table.num_rows))
    labels = [table[name].to_pylist() for name in named]
    return labels[0] if len(labels) == 1 else list(zip(*labels, strict=True))


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and np.isfinite(value) else None


def _empty(column: str, episodes: Sequence[int], limit: int = 10) -> str:
    some = f"{', '.join(map(str, episodes[:limit]))}{', …' if len(episodes) > limit else ''}"
    return f"has no value of '{column}' for {len(episodes)} episodes ({some})"
