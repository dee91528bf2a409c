"""Comparison of what two recordings say of themselves beyond their data: own fields, splits, attributes, files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from smolpilot.common.hashing import file_digest
from smolpilot.datasets.beside import files_beside
from smolpilot.datasets.copy.info import splits_fit
from smolpilot.datasets.copy.source import Extras
from smolpilot.datasets.format.episode_fields import plain_field, same_field
from smolpilot.datasets.format.meta import DatasetMeta
from smolpilot.datasets.format.versions import INFO_KEYS

from .comparison import Comparison
from .content_digests import EpisodeFacts

_HISTORY = Path("meta/smolpilot_history.json")
_NESTED = ("info", "video_info")
_NEVER = (
    "LeRobot version, division into files and folders, totals (counted from the data)",
    "meta/smolpilot_manifest.json and meta/smolpilot_history.json",
    "attributes of features and splits that only one side states",
)


def compare_descriptions(a: Extras, b: Extras, result: Comparison) -> None:
    """Splits, own fields of `info.json`, attributes of features, own fields of episodes."""
    own = [{key: value for key, value in side.info.items() if key not in INFO_KEYS} for side in (a, b)]
    for name in {**own[0], **own[1]}:
        _compare(name, own[0].get(name), own[1].get(name), result)
    if _has_splits("A", a, result) and _has_splits("B", b, result):
        _compare("splits", a.info["splits"], b.info["splits"], result)
    features = [side.info.get("features", {}) for side in (a, b)]
    for name in features[0]:
        mine, theirs = (_attributes(side.get(name)) for side in features)
        for key in mine:
            if key in theirs:
                _compare(f"'{key}' of feature '{name}'", mine[key], theirs[key], result)
    compare_fields(a, b, result)


def _has_splits(which: str, side: Extras, result: Comparison) -> bool:
    """Whether a recording states splits that are of its episodes; others are stale, not content."""
    splits = side.info.get("splits")
    if not splits or splits_fit(splits, len(side.fields)):
        return bool(splits)
    result.remarks.append(f"splits of {which} ({_shown(splits)}) are not of its {len(side.fields)} episodes")
    return False


def compare_fields(a: Extras, b: Extras, result: Comparison) -> None:
    """Own fields of the episodes that both have."""
    for index in sorted(a.fields.keys() & b.fields.keys()):
        mine, theirs = a.fields[index], b.fields[index]
        for name in {**mine, **theirs}:
            _compare(f"field '{name}'", mine.get(name), theirs.get(name), result, index)


def compare_files(a: Path, b: Path, result: Comparison) -> None:
    """Card, licence and other files beside the recording."""
    mine, theirs = (
        {name.as_posix(): root / path for path, name in files_beside(root).files.items() if name != _HISTORY}
        for root in (a, b)
    )
    for name in sorted(mine.keys() | theirs.keys()):
        result.count("files", 1)
        if name not in mine or name not in theirs:
            result.add("files", f"{name}: only in the {'first' if name in mine else 'second'} recording")
        elif file_digest(mine[name]) != file_digest(theirs[name]):
            result.add("files", f"{name} differs")


def not_compared(metas: Sequence[DatasetMeta], facts: Sequence[Sequence[EpisodeFacts]]) -> list[str]:
    """What two recordings can differ in all the same, and statistics that one of them lacks."""
    found = list(_NEVER)
    levels = {
        "in all": [set(meta.statistics) for meta in metas],
        "per episode": [{name for one in side for name in one.statistics} for side in facts],
    }
    for level, (mine, theirs) in levels.items():
        for side, absent, there in (("A", theirs - mine, mine), ("B", mine - theirs, theirs)):
            if absent:
                which = f" of {', '.join(sorted(absent))}" if there else ""
                found.append(f"statistics {level}{which}: none in {side}")
    odd = sorted({meta.version for meta in metas if not meta.format.comparable_statistics})
    return [*found, *(f"statistics in all: {version} counted them otherwise" for version in odd)]


def _compare(what: str, mine: Any, theirs: Any, result: Comparison, episode: int | None = None) -> None:
    check = "description" if episode is None else "episodes"
    # The count of episodes is that of episodes.
    if episode is None:
        result.count(check, 1)
    if not same_field(_plain(mine), _plain(theirs)):
        result.add(check, f"{what}: {_shown(mine)} and {_shown(theirs)}", episode)


def _attributes(entry: Any) -> dict[str, Any]:
    """Those that are not part of a feature's dtype, shape and names; of videos in one level."""
    if not isinstance(entry, Mapping):
        return {}
    found = {key: value for key, value in entry.items() if key not in ("dtype", "shape", "names", *_NESTED)}
    for key in reversed(_NESTED):
        found |= entry.get(key) or {}
    return found


def _plain(value: Any) -> Any:
    """Tables say null where json lines leave out, and have types that JSON has as text."""
    value = plain_field(value)
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items() if part is not None}
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value


def _shown(value: Any) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
