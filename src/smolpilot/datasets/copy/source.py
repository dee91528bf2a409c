"""What a source says beyond DatasetMeta: raw description, extra fields and statistics per episode, other files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from smolpilot.common.errors import DatasetError, SmolpilotError
from smolpilot.common.safe_paths import OwnFiles, walk
from smolpilot.common.statistics import PackedStatistics, StatisticsPacker, readable_statistics
from smolpilot.datasets.feature_choice import ALWAYS_KEPT
from smolpilot.datasets.format.episode_fields import is_own, own_fields
from smolpilot.datasets.format.features import CAMERA_TYPES, Feature
from smolpilot.datasets.format.files import iter_jsonl, open_readable, read_json, read_meta_table, reading
from smolpilot.datasets.format.meta import DatasetMeta
from smolpilot.datasets.format.statistics_columns import RowStatistics, stored_statistics

_RECORD = "Merge datasets of the same robot with the same cameras and rate."

type _Pack = Callable[[Any], PackedStatistics]


@dataclass
class Extras:
    """Per episode index: fields of the episode list that no reader needs, and stored statistics."""

    info: dict[str, Any]
    fields: dict[int, dict[str, Any]] = field(default_factory=dict)
    statistics: dict[int, PackedStatistics] = field(default_factory=dict)


def read_extras(meta: DatasetMeta, renamed: Mapping[str, str] | None = None) -> Extras:
    """Read them; what is damaged counts as missing, since `read_meta` has said already what has to be there.

    `renamed` as in `copy_episodes`.

    Raises DatasetError for an episode table (v3.0) that cannot be read.
    """
    folder, names = meta.root / "meta", renamed or {}
    try:
        extras = Extras(info=read_json(folder / "info.json", "dataset description"))
    except SmolpilotError:
        extras = Extras(info={})
    if isinstance(extras.info.get("features"), dict):
        kept = {names.get(key, key): one for key, one in extras.info["features"].items() if key not in meta.without}
        extras.info = {**extras.info, "features": kept}
    packer = StatisticsPacker()

    def pack(raw: Any) -> PackedStatistics:
        return packer.pack({names.get(key, key): stats for key, stats in readable_statistics(raw).items()})

    if meta.format.shared_files:
        _read_tables(folder, extras, pack)
        return extras
    with suppress(SmolpilotError, ValueError, TypeError, KeyError, AttributeError, OverflowError):
        _read_lines(folder, extras, pack)
    return extras


def state_of(meta: DatasetMeta) -> str:
    """A hash of names, sizes and modification times of all files of a source: cheap, to see that it is the same."""
    digest, places = hashlib.sha256(str(meta.version).encode()), OwnFiles(meta.root)
    for folder, folders, names in walk(meta.root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (folder / name for name in names):
            if not places.why_not(path) and path.is_file():
                stat, name = path.stat(), os.fsencode(path.relative_to(meta.root))
                digest.update(name + f" {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _read_lines(folder: Path, extras: Extras, pack: _Pack) -> None:
    for row in iter_jsonl(folder / "episodes.jsonl", "episode list"):
        extras.fields[int(row["episode_index"])] = own_fields(row)
    if (folder / "episodes_stats.jsonl").exists():
        for row in iter_jsonl(folder / "episodes_stats.jsonl", "statistics"):
            extras.statistics[int(row["episode_index"])] = pack(row.get("stats"))


def _read_tables(folder: Path, extras: Extras, pack: _Pack) -> None:
    """A damaged page, or text that is no UTF-8, is no lack: what it held would be lost without a word."""
    try:
        for path in sorted((folder / "episodes").glob("*/*.parquet")):
            batches = open_readable(path, "episode table").iter_batches(batch_size=256)
            while True:
                with reading(path, "episode table"):
                    batch = next(batches, None)
                if batch is None:
                    break
                _read_batch(pa.Table.from_batches([batch]), extras, pack)
    except UnicodeDecodeError:
        # In a field beyond those that `read_meta` needs.
        for path in sorted((folder / "episodes").glob("*/*.parquet")):
            read_meta_table(path, "episode table")
        raise
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return


def _read_batch(table: pa.Table, extras: Extras, pack: _Pack) -> None:
    stored = stored_statistics(table)
    own = table.select([name for name in table.column_names if is_own(name)])
    rows = zip(table["episode_index"].to_pylist(), own.to_pylist(), strict=True)
    for place, (index, fields) in enumerate(rows):
        extras.fields[int(index)] = own_fields(fields, own.schema)
        extras.statistics[int(index)] = pack({key: dict(stats) for key, stats in RowStatistics(stored, place).items()})


def require_same_kind(sources: Sequence[DatasetMeta]) -> None:
    """Raise DatasetError when datasets that are to become one have other features, joint names or rates."""
    for other in sources[1:]:
        _require_same_kind(sources[0], other)


def _require_same_kind(first: DatasetMeta, other: DatasetMeta) -> None:
    if other.fps != first.fps:
        raise unlike(first, other, "frames per second", first.fps, other.fps)
    for name in dict.fromkeys([*first.features, *other.features]):
        mine, theirs = first.features.get(name), other.features.get(name)
        if mine is None or theirs is None:
            lacking, having = (first, other) if mine is None else (other, first)
            raise DatasetError(
                f"{lacking.root.name} has no feature '{name}', {having.root.name} has one.",
                expected="the same features in every dataset",
                fix=_RECORD if name in ALWAYS_KEPT else f"Leave it out: --without {name}",
            )
        for what, one, two in _facets(mine, theirs):
            if one != two:
                fix = _RECORD if name in ALWAYS_KEPT else f"{_RECORD} Or leave it out: --without {name}"
                raise unlike(first, other, f"the {what} of '{name}'", one, two, fix=fix)


def _facets(mine: Feature, theirs: Feature) -> list[tuple[str, Any, Any]]:
    facets: list[tuple[str, Any, Any]] = [
        ("dtype", mine.dtype, theirs.dtype),
        ("shape", list(mine.shape), list(theirs.shape)),
    ]
    # Names of an image's axes are spelled in many ways; a dataset without names is taken at its word.
    if mine.names and theirs.names and mine.dtype not in CAMERA_TYPES:
        facets.append(("names", mine.names, theirs.names))
    return facets


def unlike(
    first: DatasetMeta, other: DatasetMeta, what: str, mine: Any, theirs: Any, fix: str = _RECORD
) -> DatasetError:
    """The error for datasets that differ in what has to be alike."""
    if isinstance(mine, list) and isinstance(theirs, list) and len(mine) == len(theirs):
        place = next(i for i, (one, two) in enumerate(zip(mine, theirs, strict=True)) if one != two)
        what, mine, theirs = f"{what}, place {place}", mine[place], theirs[place]
    return DatasetError(
        f"{other.root.name} differs from {first.root.name} in {what}: {theirs!r} there, {mine!r} here.",
        expected="equal rate, robot, features and joint names",
        fix=fix,
    )
