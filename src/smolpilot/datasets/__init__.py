"""LeRobot datasets on disk: read v2.1 and v3.0, write v3.0, split, statistics."""

from smolpilot.datasets.features import CameraInfo, Feature
from smolpilot.datasets.layout import Episode, VideoSpan
from smolpilot.datasets.loader import Loader
from smolpilot.datasets.meta import DatasetMeta, read_meta
from smolpilot.datasets.order import SampleOrder
from smolpilot.datasets.reader import Dataset, compute_statistics, open_dataset
from smolpilot.datasets.splits import episode_ranges, parse_episodes, split_episodes
from smolpilot.datasets.writer import DatasetWriter
from smolpilot.statistics import Statistics

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
