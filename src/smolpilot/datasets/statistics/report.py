"""The statistics of a dataset beside those of its data: `report_statistics` for `smolpilot dataset stats`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smolpilot.common.statistics import Statistics
from smolpilot.datasets.format.meta import DatasetMeta, read_meta, usable
from smolpilot.datasets.left_out import say_left_out
from smolpilot.datasets.read.joint_units import find_profile, joint_units
from smolpilot.datasets.read.tables import load_tables

from .recompute import find_deviations, joint_names, recompute_statistics
from .rounding import Deviation


@dataclass
class StatisticsReport:
    """Stored statistics (`meta.statistics`), those of the data (None: not computed), and which stored ones are wrong.

    units: of each feature's joints; robot: the profile that they are from.
    """

    meta: DatasetMeta
    units: dict[str, list[str | None]]
    data: Statistics | None
    wrong: list[Deviation]
    robot: str | None
    notes: list[str]

    def joints(self, feature: str) -> list[str]:
        """The names of a feature's dimensions."""
        stats = (self.data or {}).get(feature) or self.meta.statistics.get(feature, {})
        size = next((values.size for stat, values in stats.items() if stat != "count"), None)
        return joint_names(self.meta, feature, size)

    def where(self, entry: Deviation) -> str:
        """The joint of a wrong statistic; `all` for a count."""
        names = self.joints(entry.feature)
        if entry.stat == "count":
            return "all"
        return names[entry.place] if entry.place < len(names) else str(entry.place)

    def to_json(self) -> dict[str, Any]:
        """All of it as one document."""
        stored, data = self.meta.statistics, self.data or {}
        features = {
            name: {
                "names": self.joints(name),
                "units": self.units.get(name),
                "stored": _lists(stored.get(name)),
                "recomputed": _lists(data.get(name)),
            }
            for name in self.meta.features
            if name in stored or name in data
        }
        wrong = [
            {
                "feature": entry.feature,
                "joint": self.where(entry),
                "stat": entry.stat,
                "stored": entry.stored,
                "recomputed": entry.data,
                "difference": entry.difference,
            }
            for entry in self.wrong
        ]
        return {
            "path": str(self.meta.root),
            "frames": self.meta.total_frames,
            "robot": self.robot,
            "features": features,
            "correct": None if self.data is None else not wrong,
            "wrong": wrong,
        }


def report_statistics(
    path: Path, *, robot: str | None, recompute: bool, jobs: int, progress: Callable[[str, int, int], None]
) -> StatisticsReport:
    """Read the stored statistics, and with `recompute` compare them with those of the data.

    robot: a profile that gives the joints their units, as for `find_profile`. Raises DatasetError for a damaged
    dataset, ProfileError for a profile of another robot.
    """
    meta = usable(read_meta(path, trainable=False, complete=recompute))
    notes: list[str] = []
    profile = find_profile(meta, robot, notes)
    units = joint_units(meta, profile, chosen=robot is not None, notes=notes)
    name = profile.name if profile is not None else None
    if not recompute:
        say_left_out(meta)
        return StatisticsReport(meta, units, None, [], name, notes)
    tables = load_tables(meta, meta.episodes, trainable=False)
    meta = usable(dataclasses.replace(meta, left_out=meta.left_out | tables.left_out))
    say_left_out(meta)
    data = recompute_statistics(meta, tables, progress, jobs=jobs)
    return StatisticsReport(meta, units, data, find_deviations(meta, tables, data, jobs=jobs), name, notes)


def _lists(stats: dict[str, Any] | None) -> dict[str, list[float]] | None:
    return None if stats is None else {stat: values.ravel().tolist() for stat, values in stats.items()}
