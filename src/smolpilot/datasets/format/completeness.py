"""Which part of a dataset is on this machine: not yet recorded, interrupted, partly downloaded, or whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smolpilot.common.errors import DatasetError
from smolpilot.common.safe_paths import OwnFiles
from smolpilot.common.text import pluralize

from .files import (
    FileState,
    absent_file,
    fetch_advice,
    file_state,
    has_files,
    has_footer,
    lfs_advice,
    repair_advice,
    without_footer,
)
from .versions import Format

_LOOKED_FOR = 20


@dataclass(frozen=True)
class Absent:
    """A file that the meta folder names, but that is missing, empty or a Git-LFS pointer; its episodes."""

    path: Path
    what: str
    state: FileState
    episodes: list[int] = field(default_factory=list)


def require_recorded(root: Path, form: Format, info: dict[str, Any], *, complete: bool = True) -> None:
    """Raise DatasetError for a dataset without a finished episode: empty as it was created, or interrupted.

    `complete` also refuses one of which only the description is here.
    """
    tables = _tables(root, "meta/episodes") if form.shared_files else []
    if any(has_footer(path) for path in tables):
        return
    if not form.shared_files and file_state(root / "meta" / "episodes.jsonl") == "whole":
        return
    data = _tables(root, "data")
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
    if data and all(without_footer(path) for path in written):
        rest = f", and images of an episode that was not finished are left in {left}" if began else ""
        raise DatasetError(
            f"The recording of {root} was interrupted: its tables have no footer; they cannot be read{rest}.",
            expected="a finished recording: LeRobot 0.6 writes the end of its tables in `finalize()`",
            fix="Record it anew into another folder: without their footer no program can read the tables.",
        )


def require_complete(root: Path, absent: Sequence[Absent], episodes: int) -> None:
    """Raise DatasetError that says which files of a dataset are not there, for which episodes, how to get them."""
    first = next((one for state in ("pointer", "missing", "empty") for one in absent if one.state == state), absent[0])
    error = absent_file(first.path, first.what, first.state, str(first.path))
    if len(absent) == 1 and len(first.episodes) == episodes == 1:
        raise error
    same = [one for one in absent if one.state == first.state and one.what == first.what]
    hit = sorted({index for one in same for index in one.episodes})
    others = len(absent) - len(same)
    more = f" {pluralize(others, 'other file')} of the dataset {'is' if others == 1 else 'are'} not there either."
    which = (
        "all episodes" if len(hit) == episodes else f"episodes {_shortened(hit)}" if hit[1:] else f"episode {hit[0]}"
    )
    found = f"{error.found} That concerns {which}.{more if others else ''}"
    expected = "the file that the pointer stands for" if first.state == "pointer" else "every file that meta/ names"
    raise DatasetError(found, expected=expected, fix=absent_advice(root, absent, episodes))


def absent_advice(root: Path, absent: Sequence[Absent], episodes: int) -> str:
    """How to get the files that are not there, or to do without them; `episodes` is how many the dataset has."""
    pointer = next((one for one in absent if one.state == "pointer"), None)
    if pointer is not None:
        return lfs_advice(pointer.path)
    elsewhere = next((found for one in absent[:_LOOKED_FOR] if (found := _elsewhere(root, one.path))), None)
    if elsewhere is not None:
        return f"A file of that name is {elsewhere}: " + repair_advice(root, "finds the files and writes their places")
    hit = {index for one in absent for index in one.episodes}
    keeps = " " + repair_advice(root, "keeps the other episodes") if len(hit) < episodes else ""
    return fetch_advice(root) + keeps


def absent_note(root: Path, absent: Sequence[Absent], episodes: int) -> str:
    """One line on files that are not there, for verbs that go on without them; else empty."""
    if not absent:
        return ""
    pointers = sum(one.state == "pointer" for one in absent)
    those = f", {pointers} of them Git-LFS pointers" if 0 < pointers < len(absent) else ""
    what = "are Git-LFS pointers" if pointers == len(absent) else f"are not here{those}"
    return f"{pluralize(len(absent), 'file')} of the dataset {what}. {absent_advice(root, absent, episodes)}"


def _elsewhere(root: Path, path: Path) -> Path | None:
    """A file of the same name in another folder of the same kind, if there is just one: the pattern is wrong."""
    below = path.relative_to(root).parts
    folder = root / below[0]
    if below[0] == "videos":
        camera = next((part for part in below[1:-1] if not part.startswith("chunk-")), "")
        found = [one for one in folder.rglob(path.name) if camera in one.parts]
    else:
        found = list(folder.rglob(path.name))
    return found[0] if len(found) == 1 and file_state(found[0]) == "whole" else None


def _shortened(episodes: Sequence[int], limit: int = 10) -> str:
    return ", ".join(map(str, episodes[:limit])) + (f", … ({len(episodes)} in all)" if len(episodes) > limit else "")


def _empty(root: Path, left: Path | None) -> DatasetError:
    why, advice = "it was created, but nothing has been recorded into it", "Record into it"
    if left is not None:
        images = f"its images are left in {left}, without states and actions"
        why, advice = f"the recording of the first one was interrupted; {images}", "Record it anew"
    return DatasetError(
        f"The dataset {root} has no episodes yet: {why}.",
        expected="at least one episode",
        fix=f"{advice}, and finish the recording (LeRobot 0.6: `save_episode()`, then `finalize()`).",
    )


def _tables(root: Path, folder: str) -> list[Path]:
    places, found = OwnFiles(root), (root / folder).rglob("*.parquet")
    return sorted(path for path in found if path.is_file() and not places.why_not(path))
