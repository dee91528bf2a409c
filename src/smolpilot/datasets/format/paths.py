"""Where the files of a dataset are, by the patterns `data_path` and `video_path` of meta/info.json."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smolpilot.common.safe_paths import OwnFiles, walk
from smolpilot.common.text import LIMIT, plain, shown

from .files import repair_advice
from .problems import Problems
from .versions import Format

OWN_META = (
    "info.json",
    "tasks.jsonl",
    "tasks.parquet",
    "episodes.jsonl",
    "episodes_stats.jsonl",
    "stats.json",
    "smolpilot_history.json",
    "smolpilot_manifest.json",
)
"""The files of a meta folder that say what a dataset is, beside the folder `episodes`; others are its owner's notes."""


class DatasetPaths:
    """Fills the patterns; many episodes may share a file. A pattern that cannot be filled is reported once."""

    def __init__(self, root: Path, info: Mapping[str, Any], form: Format, problems: Problems) -> None:
        self.root, self._problems = root, problems
        self.use(info, form)
        self._unusable: set[str] = set()
        self._known: dict[tuple[str | None, int, int], Path | None] = {}

    def use(self, info: Mapping[str, Any], form: Format) -> None:
        """Fill the patterns of this description."""
        self._info, self.form = info, form

    def file(self, key: str | None, chunk: int, number: int) -> Path | None:
        """The video of a camera, or the table, with this number in this folder: the episode's where each has files."""
        place = (key, chunk, number)
        if place not in self._known:
            self._known[place] = self.found(*place)
        return self._known[place]

    def pattern(self, key: str | None, chunk: int, number: int) -> Path | None:
        """The path that the pattern gives; None, with a report, when there is no usable pattern."""
        which = "data_path" if key is None else "video_path"
        template = self._info.get(which)
        if not isinstance(template, str):
            reason = "is missing" if template is None else f"is {shown(template)}"
        else:
            try:
                return self.root / fill_template(template, self.form.names(chunk, number, key))
            except ValueError as error:
                reason = f"{error}: {plain(template, LIMIT)}"
        # Without a readable info.json there are no patterns: that has been said.
        if which not in self._unusable and self._info:
            self._unusable.add(which)
            self._problems.report(
                "template-unusable",
                f"The '{which}' of {self._problems.named(self.root / 'meta' / 'info.json')} {reason}.",
                expected=f"a pattern such as {self.form.data_path if key is None else self.form.video_path}",
                advice=repair_advice(self.root, "finds the files and writes the pattern"),
            )
        return None

    def found(self, key: str | None, chunk: int, number: int) -> Path | None:
        """Where the file is: where the pattern says."""
        return self.pattern(key, chunk, number)


_SPEC = re.compile(r"(0?[1-9])?d?", re.ASCII)
_MAX_NAME, _MAX_PATH = 255, 4_000  # of file systems, in bytes


def fill_template(template: str, names: Mapping[str, int | str]) -> Path:
    """The path that a pattern gives, relative to the dataset.

    A field is one of `names` as it is; a number may have a width up to 9, as `{episode_index:06d}`. ValueError, in
    words that follow "the pattern", for other fields and for what is no path inside of a folder.
    """
    parts = []
    try:
        pieces = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"is not written as LeRobot does it ({error})") from None
    for text, field, spec, conversion in pieces:
        parts.append(text)
        if field is None:
            continue
        value = names.get(field)
        if value is None:
            raise ValueError(f"has the field '{field[:60]}', where {', '.join(names)} are known")
        if conversion or (spec and (isinstance(value, str) or not _SPEC.fullmatch(spec))):
            raise ValueError(f"fills '{field}' in a form that LeRobot does not use")
        parts.append(format(value, spec or ""))
    path = "".join(parts)
    if not path or "\0" in path or len(path.encode(errors="replace")) > _MAX_PATH:
        raise ValueError("gives no path")
    found = Path(path)
    if any(len(part.encode(errors="replace")) > _MAX_NAME for part in found.parts):
        raise ValueError(f"gives a name of over {_MAX_NAME} bytes")
    if found.is_absolute() or ".." in found.parts:
        raise ValueError("points out of the dataset")
    return found


def require_own_meta(root: Path) -> None:
    """Refuse a meta folder whose files are not the dataset's own, before any of them is opened."""
    places, meta = OwnFiles(root), root / "meta"
    if not meta.is_dir():
        return
    places.require(meta, "meta folder")
    for folder, _, names in walk(meta):
        for name in names:
            if folder != meta or name in OWN_META or name == "episodes":
                places.require(folder / name, "file")
