"""FoundDataset: a dataset folder as it is, damaged or not. What was wrong is in `findings`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from smolpilot.common.safe_paths import OwnFiles, require_readable
from smolpilot.common.text import plain
from smolpilot.datasets.format.features import Feature
from smolpilot.datasets.format.metadata import Listing
from smolpilot.datasets.format.problems import Problems
from smolpilot.datasets.format.versions import CURRENT, Format

from .findings import Finding, finding

type Array = npt.NDArray[Any]
type Progress = Callable[[str, int, int], None]


@dataclass
class Camera:
    """One camera feature: what `info.json` declares of it. `size` is (height, width), None when it does not say."""

    key: str
    name: str
    is_video: bool
    size: tuple[int, int] | None
    declared: dict[str, Any]
    depth: bool = False

    @property
    def color(self) -> bool:
        """Whether it gives the images that samples have: a depth camera's are left out of them."""
        return not self.depth


@dataclass
class Rows:
    """The rows of one episode, in the order of the file; `positions` are their places in it."""

    path: Path
    positions: npt.NDArray[np.int64]
    columns: dict[str, Array]

    def __len__(self) -> int:
        return len(self.positions)

    def get(self, name: str) -> Array | None:
        """A column, None when the file lacks it or holds no numbers there."""
        return self.columns.get(name)

    def numbers(self, name: str) -> Array | None:
        """A column of one finite number per row, `[N]`; None when it is anything else."""
        column = self.columns.get(name)
        if column is None or column.dtype.kind not in "iuf" or column.size != len(self) or not len(self):
            return None
        return column.reshape(-1) if np.isfinite(column).all() else None


@dataclass
class FoundDataset(Listing, Problems):
    """A dataset folder. `format` is the layout found in the files, `stated_version` what `info.json` claims.

    `nulls` has the rows without a value of each (data file, column) that has some. `outcome` is "empty" or
    "interrupted" for a recording that was not begun or not finished.
    """

    root: Path = field(kw_only=True)
    info: dict[str, Any] = field(default_factory=dict)
    format: Format = CURRENT
    stated_version: str = ""
    fps: float | None = None
    vectors: dict[str, Feature] = field(default_factory=dict)
    cameras: dict[str, Camera] = field(default_factory=dict)
    rows: dict[int, Rows] = field(default_factory=dict)
    schemas: dict[Path, pa.Schema] = field(default_factory=dict)
    video_files: dict[str, list[Path]] = field(default_factory=dict)
    nulls: dict[tuple[Path, str], npt.NDArray[np.int64]] = field(default_factory=dict)
    outcome: str = ""
    places: OwnFiles = field(init=False)
    _names: dict[Path, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.places = OwnFiles(self.root)

    @property
    def version(self) -> str:
        """The version of the layout."""
        return self.format.version

    def report(self, code: str, message: str, *, expected: str = "", advice: str = "", **place: Any) -> None:
        """Note a finding made while reading; what to do about it, its rule says."""
        camera = self.cameras.get(place.get("key") or "")
        if camera is not None:
            place.setdefault("camera", camera.name)
        self.findings.append(finding(code, message, root=self.root, **place))

    @contextmanager
    def about(self, episodes: Sequence[int], **place: Any) -> Iterator[None]:
        """What is found meanwhile, about a file, is about each of the episodes in it; it stays as it is without any."""
        before = len(self.findings)
        yield
        fresh = self.findings[before:] if episodes else []
        del self.findings[len(self.findings) - len(fresh) :]
        for found in fresh:
            for index in episodes:
                fix = found.fix.replace("--episodes N", f"--episodes {index}")
                self.findings.append(replace(found, episode=index, fix=fix, **place))

    def remark(self, code: str, message: str, **place: Any) -> None:
        """Note what only a tolerant reader tells."""
        self.report(code, message, **place)

    def named(self, path: Path) -> str:
        """As `relative`."""
        return self.relative(path)

    def opens(self, path: Path, what: str, code: str, **place: Any) -> bool:
        """Whether a file is the dataset's own; PermissionError for one that may not be read."""
        reason = self.places.why_not(path)
        if reason:
            fix = self.places.advice(reason)
            self.report(code, f"The {what} {self.relative(path)} {reason}: it is not read.", fix=fix, **place)
        else:
            require_readable(path)
        return not reason

    def relative(self, path: Path) -> str:
        """A path as the findings name it: from the dataset's folder on."""
        if path not in self._names:
            inside = path.is_relative_to(self.root)
            self._names[path] = plain(path.relative_to(self.root).as_posix() if inside else path)
        return self._names[path]

    @property
    def episodes(self) -> list[int]:
        """All episode numbers, listed or found."""
        return sorted(self.records)

    @property
    def video_cameras(self) -> dict[str, Camera]:
        """The cameras stored as video."""
        return {key: camera for key, camera in self.cameras.items() if camera.is_video}

    def values(self, key: str) -> Iterator[tuple[int, Array]]:
        """(episode, `[N, D]` float64) of a vector feature, for the episodes that have it whole: D as declared."""
        vector = self.vectors.get(key)
        width = math.prod(vector.shape) if vector is not None else None
        for episode in self.episodes:
            rows = self.rows.get(episode)
            column = rows.get(key) if rows is not None else None
            if column is None or not len(column) or column.dtype.kind not in "fiub":
                continue
            if width is None or column.size == width * len(column):
                yield episode, column.reshape(len(column), -1).astype(np.float64)

    def stacked(self, key: str) -> Array:
        """All rows of a vector feature, `[N, D]`; no rows when there are none or widths differ."""
        parts = [values for _, values in self.values(key)]
        if not parts or len({part.shape[1] for part in parts}) > 1:
            return np.zeros((0, 0))
        return np.concatenate(parts)

    def task_of(self, episode: int) -> str:
        """The instruction of an episode: of its rows' task, else of the episode list, else none."""
        text = self.task_at(episode, 0)
        if text is not None:
            return text
        record = self.records.get(episode)
        return record.tasks[0] if record and record.tasks else ""

    def task_at(self, episode: int, frame: int) -> str | None:
        """The instruction of one row, None where the tables do not tell."""
        rows = self.rows.get(episode)
        column = rows.numbers("task_index") if rows is not None else None
        if column is None or frame >= len(column):
            return None
        value = float(column[frame])
        return self.tasks.get(int(value)) if value.is_integer() else None
