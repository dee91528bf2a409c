"""What a repair is going to do: which episodes stay and how they change, which are left out, what is beyond repair."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from smolpilot.datasets.format.metadata import VideoSpan
from smolpilot.datasets.format.versions import WrittenVersion


@dataclass(frozen=True)
class RepairWishes:
    """What a person chose: features to keep or to leave out (one of both), whether videos may be encoded again, and how
    many files are worked on at a time (None: one per core)."""

    features: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    reencode: bool = False
    jobs: int | None = None


@dataclass(frozen=True)
class Column:
    """A column of the copy: `kind` is its type; `scalar` lists of one value become the value, `fill` empty texts."""

    kind: pa.DataType
    scalar: bool = False
    fill: bool = False


@dataclass
class EpisodeRepair:
    """One episode of the result. `positions` are its rows in the source's file, in the new order.

    `times` replaces the time stamps (None: they stay); `task_index` gives the new task of each row; `keep_statistics`
    names the features whose stored statistics still hold.
    """

    old: int
    new: int
    positions: npt.NDArray[np.int64]
    first_row: int
    task_index: npt.NDArray[np.int64]
    tasks: list[str]
    spans: dict[str, VideoSpan]
    times: npt.NDArray[np.float64] | None = None
    keep_statistics: list[str] = field(default_factory=list)

    @property
    def length(self) -> int:
        """Number of rows."""
        return len(self.positions)


@dataclass
class RepairPlan:
    """`actions` and `impossible` are sentences for a person; `dropped` gives the reason for each episode left out.

    `columns` says what becomes of each column of the tables and `widths` how many values its rows have; `left_out` are
    features that do not come along, `renames` how features were called in the files. `trimmed` counts the rows left out
    of an episode that stays. `aside` names what lies in the source's folder and belongs to no episode.
    """

    version: WrittenVersion
    fps: float
    info: dict[str, Any] = field(default_factory=dict)
    tasks: dict[int, str] = field(default_factory=dict)
    episodes: list[EpisodeRepair] = field(default_factory=list)
    actions: list[str] = field(default_factory=list)
    dropped: dict[int, str] = field(default_factory=dict)
    impossible: list[str] = field(default_factory=list)
    columns: dict[str, Column] = field(default_factory=dict)
    widths: dict[str, int | None] = field(default_factory=dict)
    left_out: set[str] = field(default_factory=set)
    renames: dict[str, str] = field(default_factory=dict)
    trimmed: dict[int, int] = field(default_factory=dict)
    aside: list[str] = field(default_factory=list)
    reencoded: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The plan as plain values."""
        return {
            "version": self.version,
            "fps": self.fps,
            "episodes": len(self.episodes),
            "frames": sum(episode.length for episode in self.episodes),
            "actions": self.actions,
            "dropped": [{"episode": episode, "reason": reason} for episode, reason in sorted(self.dropped.items())],
            "impossible": self.impossible,
            "reencoded": self.reencoded,
            "left_aside": self.aside,
            "renamed": self.renames,
            "features_left_out": sorted(self.left_out),
            "rows_left_out": [{"episode": episode, "rows": rows} for episode, rows in sorted(self.trimmed.items())],
        }
