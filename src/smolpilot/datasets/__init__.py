"""LeRobot datasets on disk: read v2.0, v2.1 and v3.0, write v3.0, split, statistics.

The names below load on first use: converting needs no decoder threads, and reading needs no writer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

from smolpilot.common.statistics import Statistics

if TYPE_CHECKING:
    from .format.episodes import Episode
    from .format.features import CameraInfo, Feature
    from .format.meta import DatasetMeta, read_meta
    from .format.metadata import VideoSpan
    from .read.loader import Loader
    from .read.order import SampleOrder
    from .read.reader import Dataset, compute_statistics, open_dataset
    from .splits import episode_ranges, parse_episodes, split_episodes
    from .write.writer import DatasetWriter

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
        "format.features": ["CameraInfo", "Feature"],
        "format.episodes": ["Episode"],
        "format.metadata": ["VideoSpan"],
        "read.loader": ["Loader"],
        "format.meta": ["DatasetMeta", "read_meta"],
        "read.order": ["SampleOrder"],
        "read.reader": ["Dataset", "compute_statistics", "open_dataset"],
        "splits": ["episode_ranges", "parse_episodes", "split_episodes"],
        "write.writer": ["DatasetWriter"],
    },
)
