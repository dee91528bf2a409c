"""What to write: which episodes of which datasets, changed how, and in what format."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from smolpilot.common.errors import UsageError
from smolpilot.datasets.format.episodes import Episode
from smolpilot.datasets.format.meta import DatasetMeta
from smolpilot.datasets.format.versions import FORMATS, WRITTEN, Format, WrittenVersion, written_as

type Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class EpisodePlan:
    """One episode of the result: where it comes from, and what is changed on the way.

    `episode` is the index value in `source`. `change` gets the episode's own rows (every column, before indices are
    renumbered) and gives as many rows back; it must be picklable: a module's function or a `functools.partial` of
    one. `tasks` gives new texts to these task index values of the source, and may add values that `change` writes.
    """

    source: DatasetMeta
    episode: int
    change: Callable[[pa.Table], pa.Table] | None = None
    tasks: Mapping[int, str] | None = None

    @property
    def origin(self) -> Episode:
        """The episode as the source describes it."""
        return self.source.episode(self.episode)


@dataclass(frozen=True)
class CopyOptions:
    """Format and file sizes (LeRobot's defaults), whether images may be encoded again, number of processes.

    `misaligned` allows time stamps for which the video has no frame: such datasets cannot be loaded.
    """

    version: WrittenVersion = "v3.0"
    data_file_mb: int = 100
    video_file_mb: int = 200
    chunk_files: int = 1000
    reencode: bool = False
    jobs: int = 1
    misaligned: bool = False

    @property
    def format(self) -> Format:
        """What that version keeps where."""
        return FORMATS[self.version]

    def __post_init__(self) -> None:
        if self.version not in WRITTEN:
            raise UsageError(f"Unknown dataset version '{self.version}'.", expected=" or ".join(WRITTEN))
        for name in ("data_file_mb", "video_file_mb", "chunk_files", "jobs"):
            if getattr(self, name) < 1:
                raise UsageError(f"--{name.replace('_', '-')} is {getattr(self, name)}.", expected="1 or more")


@dataclass(frozen=True)
class EditSettings:
    """`version` "same" is that of the sources: v2.0 becomes v2.1, and different ones v3.0."""

    version: Literal["same"] | WrittenVersion = "same"
    jobs: int = 1
    reencode: bool = False

    def copying(self, sources: Sequence[DatasetMeta]) -> CopyOptions:
        """The options of the engine for these sources."""
        version = self.version
        if version == "same":
            version = written_as(meta.format for meta in sources)
        return CopyOptions(version=version, jobs=self.jobs, reencode=self.reencode)
