"""What a repair is going to do: which episodes stay and how they change, which are left out, what is beyond repair."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from smolpilot.datasets.audit.recording import Span


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
    spans: dict[str, Span]
    times: npt.NDArray[np.float64] | None = None
    keep_statistics: list[str] = field(default_factory=list)

    @property
    def length(self) -> int:
        """Number of rows."""
        return len(self.positions)


@dataclass
class RepairPlan:
    """`actions` and `impossible` are sentences for a person; `dropped` gives the reason for each episode left out.

    `types` are the Arrow types of the result's columns, `column_types` LeRobot's words for them.
    """

    version: str
    fps: float
    info: dict[str, Any] = field(default_factory=dict)
    tasks: dict[int, str] = field(default_factory=dict)
    episodes: list[EpisodeRepair] = field(default_factory=list)
    actions: list[str] = field(default_factory=list)
    dropped: dict[int, str] = field(default_factory=dict)
    impossible: list[str] = field(default_factory=list)
    types: dict[str, pa.DataType] = field(default_factory=dict)
    column_types: dict[str, str] = field(default_factory=dict)

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
        }
