"""What a source says beyond DatasetMeta: raw description, extra fields and statistics per episode, other files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smolpilot.datasets.files import MANIFEST, iter_jsonl, open_parquet, read_json, read_jsonl, reading
from smolpilot.datasets.meta import DatasetMeta
from smolpilot.errors import DatasetError, SmolpilotError
from smolpilot.statistics import PackedStatistics, StatisticsPacker, readable_statistics

_LAYOUT = ("episode_index", "tasks", "length", "dataset_from_index", "dataset_to_index")
_OWN_META = ("info.json", "tasks.jsonl", "tasks.parquet", "episodes.jsonl", "episodes_stats.jsonl", "stats.json")
_SKIPPED = ("data", "videos", ".git", ".cache", ".huggingface")


@dataclass
class Extras:
    """Per episode index: fields of the episode list that no reader needs, and stored statistics."""

    info: dict[str, Any]
    fields: dict[int, dict[str, Any]] = field(default_factory=dict)
    statistics: dict[int, PackedStatistics] = field(default_factory=dict)


def read_extras(meta: DatasetMeta) -> Extras:
    """Read them; what is damaged counts as missing, since `read_meta` has said already what has to be there.

    Raises DatasetError for an episode table (v3.0) that cannot be read.
    """
    folder = meta.root / "meta"
    try:
        extras = Extras(info=read_json(folder / "info.json", "dataset description"))
    except SmolpilotError:
        extras = Extras(info={})
    if meta.without and isinstance(extras.info.get("features"), dict):
        kept = {key: one for key, one in extras.info["features"].items() if key not in meta.without}
        extras.info = {**extras.info, "features": kept}
    packer = StatisticsPacker()
    if meta.version == "v3.0":
        # A damaged page in a table that lists the episodes is no lack: what it held would be lost without a word.
        with suppress(ValueError, TypeError, KeyError, AttributeError):
            _read_v30(folder, extras, packer)
        return extras
    with suppress(SmolpilotError, ValueError, TypeError, KeyError, AttributeError):
        _read_v21(folder, extras, packer)
    return extras


def extra_files(root: Path) -> list[Path]:
    """Files that are neither recordings nor their description: card, licence, other meta files; relative paths."""
    found = []
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        first, *rest = relative.parts
        if not path.is_file() or first in _SKIPPED or relative.as_posix() == MANIFEST:
            continue
        if first == "meta" and (rest[0] == "episodes" or (len(rest) == 1 and rest[0] in _OWN_META)):
            continue
        found.append(relative)
    return found


def state_of(meta: DatasetMeta) -> str:
    """A hash of names, sizes and modification times of all files of a source: cheap, to see that it is the same."""
    digest = hashlib.sha256(str(meta.version).encode())
    for path in sorted(meta.root.rglob("*")):
        if path.is_file():
            stat = path.stat()
            digest.update(f"{path.relative_to(meta.root).as_posix()} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _read_v21(folder: Path, extras: Extras, packer: StatisticsPacker) -> None:
    for row in read_jsonl(folder / "episodes.jsonl", "episode list"):
        extras.fields[int(row["episode_index"])] = {key: row[key] for key in row if key not in _LAYOUT}
    if (folder / "episodes_stats.jsonl").exists():
        for row in iter_jsonl(folder / "episodes_stats.jsonl", "statistics"):
            extras.statistics[int(row["episode_index"])] = packer.pack(readable_statistics(row.get("stats")))


def _read_v30(folder: Path, extras: Extras, packer: StatisticsPacker) -> None:
    for path in sorted((folder / "episodes").glob("*/*.parquet")):
        file = open_parquet(path, "episode table")
        batches = file.iter_batches(batch_size=256)
        while True:
            with reading(path, "episode table"):
                batch = next(batches, None)
            if batch is None:
                break
            for row in batch.to_pylist():
                _read_row(row, extras, packer)


def _read_row(row: dict[str, Any], extras: Extras, packer: StatisticsPacker) -> None:
    index = int(row["episode_index"])
    stats: dict[str, dict[str, Any]] = {}
    fields = {}
    for key, value in row.items():
        if key.startswith("stats/"):
            feature, _, name = key.removeprefix("stats/").rpartition("/")
            if value is not None:
                stats.setdefault(feature, {})[name] = value
        elif key not in _LAYOUT and not key.startswith(("data/", "videos/", "meta/episodes/")):
            fields[key] = value
    extras.fields[index], extras.statistics[index] = fields, packer.pack(readable_statistics(stats))


def require_same_kind(sources: Sequence[DatasetMeta]) -> None:
    """Raise DatasetError when recordings that are to become one have other features, cameras or rates."""
    first = sources[0]
    for other in sources[1:]:
        if other.fps != first.fps:
            raise _unlike(first, other, "frames per second", first.fps, other.fps)
        if set(other.features) != set(first.features):
            odd = sorted(set(other.features) ^ set(first.features))[0]
            raise _unlike(first, other, f"feature '{odd}'", odd in first.features, odd in other.features)
        for name, mine in first.features.items():
            theirs = other.features[name]
            if (mine.dtype, mine.shape) != (theirs.dtype, theirs.shape):
                raise _unlike(
                    first, other, f"feature '{name}'", [mine.dtype, *mine.shape], [theirs.dtype, *theirs.shape]
                )


def _unlike(first: DatasetMeta, other: DatasetMeta, what: str, mine: Any, theirs: Any) -> DatasetError:
    return DatasetError(
        f"{other.root.name} differs from {first.root.name} in {what}: {theirs}, not {mine}.",
        expected="recordings of the same robot, cameras and rate",
    )
