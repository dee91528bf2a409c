"""CheckContext: what the checks look at."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smolpilot.datasets.splits import episode_ranges
from smolpilot.datasets.tolerant.findings import Finding, finding
from smolpilot.datasets.tolerant.found_dataset import FoundDataset
from smolpilot.robots import RobotProfile

from .scan.video_scans import VideoScans

type Check = Callable[["CheckContext"], Iterator[Finding]]


@dataclass(frozen=True)
class CheckContext:
    """A dataset, its videos, the robot it should fit (None: unknown), and the rate that the data really have.

    `units`: those of the dataset's joints where they differ from the profile's. `robot_named`: by the user, in the
    word `robot`; else the profile was found by robot_type or joint names.
    """

    dataset: FoundDataset
    video_scans: VideoScans
    profile: RobotProfile | None
    fps: float
    units: Mapping[str, str] = field(default_factory=dict)
    robot_named: bool = True
    robot: str | None = None

    def finding(self, code: str, message: str, **place: Any) -> Finding:
        """A finding about this recording."""
        return finding(code, message, root=self.dataset.root, **place)

    def episodes_in(self, tables: Collection[Path]) -> list[int | None]:
        """The episodes in some of the tables; only None, for the whole dataset, where these are all of its tables."""
        if len(tables) == len(self.dataset.schemas):
            return [None]
        among = set(tables)
        return [episode for episode, rows in self.dataset.rows.items() if rows.path in among]


def named(episodes: list[int]) -> str:
    """`Episode 3` or `Episodes 0-3, 5`."""
    return f"Episode{'s' if len(set(episodes)) > 1 else ''} {ranges(episodes)}"


def gaps(numbers: list[int], most: int = 1000) -> list[int]:
    """What is missing of 0, 1, 2, … below the largest; `most` at most, a damaged number may be anything."""
    missing: list[int] = []
    following = 0
    for number in sorted(numbers):
        missing.extend(range(following, min(number, following + most - len(missing))))
        following = max(following, number + 1)
    return missing


def ranges(numbers: list[int]) -> str:
    """`0-3, 5` for 0, 1, 2, 3, 5."""
    return episode_ranges(set(numbers)).replace(",", ", ")
