"""LeRobot datasets on disk: read v2.0, v2.1 and v3.0, write v3.0, split, statistics.

The names below load on first use: converting needs no decoder threads, and reading needs no writer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

from smolpilot.statistics import Statistics

if TYPE_CHECKING:
    from smolpilot.datasets.features import CameraInfo, Feature
    from smolpilot.datasets.layout import Episode, VideoSpan
    from smolpilot.datasets.loader import Loader
    from smolpilot.datasets.meta import DatasetMeta, read_meta
    from smolpilot.datasets.order import SampleOrder
    from smolpilot.datasets.reader import Dataset, compute_statistics, open_dataset
    from smolpilot.datasets.splits import episode_ranges, parse_episodes, split_episodes
    from smolpilot.datasets.writer import DatasetWriter

__all__ = [
    "CameraInfo",
    "Dataset",
    "DatasetMeta",
    "DatasetWriter",
    "Episode",
    "Feature",
    "Loader",
    "SampleOrder",
    "Statistics",
    "VideoSpan",
    "compute_statistics",
    "episode_ranges",
    "open_dataset",
    "parse_episodes",
    "read_meta",
    "split_episodes",
]

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "features": ["CameraInfo", "Feature"],
        "layout": ["Episode", "VideoSpan"],
        "loader": ["Loader"],
        "meta": ["DatasetMeta", "read_meta"],
        "order": ["SampleOrder"],
        "reader": ["Dataset", "compute_statistics", "open_dataset"],
        "splits": ["episode_ranges", "parse_episodes", "split_episodes"],
        "writer": ["DatasetWriter"],
    },
)
