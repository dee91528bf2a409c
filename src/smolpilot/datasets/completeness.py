"""Which part of a dataset is on this machine: not yet recorded, interrupted, partly downloaded, or whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smolpilot.datasets.files import (
    FileState,
    absent_file,
    fetch_advice,
    file_state,
    has_footer,
    lfs_advice,
    repair_advice,
)
from smolpilot.errors import DatasetError
from smolpilot.words import numbered


@dataclass(frozen=True)
class Absent:
    """A file that the meta folder names, but that is missing, empty or a Git-LFS pointer; its episodes."""

    path: Path
    what: str
    state: FileState
    episodes: list[int] = field(default_factory=list)


def require_recorded(root: Path, version: str, info: dict[str, Any], *, complete: bool = True) -> None:
    """Raise DatasetError for a dataset without a finished episode: empty as it was created, or interrupted.

    `complete` also refuses one of which only the description is here.
    """
    tables = _tables(root / "meta" / "episodes") if version == "v3.0" else []
    if any(has_footer(path) for path in tables):
        return
    if version != "v3.0" and file_state(root / "meta" / "episodes.jsonl") == "whole":
        return
    data = _tables(root / "data")
    left = root / "images"
    began = has_files(left)
    if not tables and not data and not has_files(root / "videos"):
        if info.get("total_episodes") in (0, None):
            raise _empty(root, left if began else None)
        if complete:
            raise DatasetError(
                f"Only a part of the dataset {root} is here: meta/info.json says {info.get('total_episodes')} episodes,"
                " but there is no episode list, no data and no video.",
                expected="the whole folder: meta/, data/ and videos/",
                fix=fetch_advice(root),
            )
    written = [path for path in (*data, *tables) if path.stat().st_size]
    if data and not any(has_footer(path) for path in written) and all(_begun(path) for path in written):
        rest = f", and images of an episode that was not finished are left in {left}" if began else ""
        raise _interrupted(root, "its tables have no footer", f"they cannot be read{rest}")


def require_complete(root: Path, absent: Sequence[Absent], episodes: int) -> None:
    """Raise DatasetError that says which files of a dataset are not there, for which episodes, how to get them."""
    first = next((one for state in ("pointer", "missing", "empty") for one in absent if one.state == state), absent[0])
    if len(absent) == 1 and len(first.episodes) == episodes == 1:
        raise absent_file(first.path, first.what, first.state)
    same = [one for one in absent if one.state == first.state and one.what == first.what]
    hit = sorted({index for one in same for index in one.episodes})
    all_hit = sorted({index for one in absent for index in one.episodes})
    others = len(absent) - len(same)
    more = f" {numbered(others, 'other file')} of the dataset {'is' if others == 1 else 'are'} not there either."
    which = (
        "all episodes" if len(hit) == episodes else f"episodes {_shortened(hit)}" if hit[1:] else f"episode {hit[0]}"
    )
    found = f"The {first.what} {first.path} {_words(first)}. That concerns {which}.{more if others else ''}"
    fix = lfs_advice(first.path) if first.state == "pointer" else fetch_advice(root)
    if first.state != "pointer" and len(all_hit) < episodes:
        fix += " " + repair_advice(root, "keeps the other episodes")
    expected = "the file that the pointer stands for" if first.state == "pointer" else "every file that meta/ names"
    raise DatasetError(found, expected=expected, fix=fix)


def _words(absent: Absent) -> str:
    if absent.state == "pointer":
        return f"is a Git-LFS pointer of {absent.path.stat().st_size} bytes, not the file itself"
    return "is empty (0 bytes)" if absent.state == "empty" else "is missing"


def _shortened(episodes: Sequence[int], limit: int = 10) -> str:
    return ", ".join(map(str, episodes[:limit])) + (f", … ({len(episodes)} in all)" if len(episodes) > limit else "")


def _empty(root: Path, left: Path | None) -> DatasetError:
    if left is not None:
        return _interrupted(root, "it has no episodes yet", f"images of its first, unfinished one are left in {left}")
    return DatasetError(
        f"The dataset {root} has no episodes yet: it was created, but nothing has been recorded into it.",
        expected="at least one episode",
        fix="Record into it, and finish the recording (LeRobot 0.6: `save_episode()`, then `finalize()`).",
    )


def _interrupted(root: Path, why: str, left: str) -> DatasetError:
    return DatasetError(
        f"The recording of {root} was interrupted: {why}; {left}.",
        expected="a finished recording: LeRobot 0.6 writes the end of its tables in `finalize()`",
        fix="Record it anew into another folder: without their footer no program can read the tables.",
    )


def _begun(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def _tables(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.parquet") if path.is_file())


def has_files(folder: Path) -> bool:
    """Whether any file lies in a folder or below it."""
    return folder.is_dir() and any(path.is_file() for path in folder.rglob("*"))
