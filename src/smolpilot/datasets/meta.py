"""DatasetMeta: what a dataset is, read from its meta folder without opening the recordings."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from smolpilot.datasets.features import CameraInfo, Feature, dimension_names, parse_cameras, parse_features
from smolpilot.datasets.files import read_json
from smolpilot.datasets.layout import Episode, read_layout
from smolpilot.errors import DatasetError, UsageError
from smolpilot.keys import ACTION, STATE
from smolpilot.statistics import Statistics

VERSIONS = ("v2.0", "v2.1", "v3.0")


@dataclass
class DatasetMeta:
    """Facts of a dataset. `cameras` and `Episode.videos` are keyed by camera name, `features` by LeRobot's key.

    `without` are features and columns that are on disk but were left out by choice, see `read_meta`.
    """

    root: Path
    version: str
    fps: float
    robot_type: str | None
    features: dict[str, Feature]
    cameras: dict[str, CameraInfo]
    tasks: dict[int, str]
    episodes: list[Episode]
    statistics: Statistics
    without: frozenset[str] = frozenset()

    @property
    def camera_names(self) -> list[str]:
        """Names of the cameras, in the dataset's order, without `observation.images.`."""
        return list(self.cameras)

    @property
    def state_names(self) -> list[str]:
        """Names of the state's dimensions."""
        return dimension_names(self.features[STATE])

    @property
    def action_names(self) -> list[str]:
        """Names of the action's dimensions."""
        return dimension_names(self.features[ACTION])

    @property
    def total_frames(self) -> int:
        """Frames of all episodes."""
        return sum(episode.length for episode in self.episodes)

    def episode(self, index: int) -> Episode:
        """The episode with this index value; UsageError when there is none."""
        episode = self._by_index.get(index)
        if episode is None:
            raise unknown_episode(self, index)
        return episode

    @cached_property
    def _by_index(self) -> dict[int, Episode]:
        return {episode.index: episode for episode in self.episodes}

    @cached_property
    def sorted_indices(self) -> list[int]:
        """Index values of the episodes, in order."""
        return sorted(self._by_index)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the contents of meta and tables and of the videos' sizes; the same wherever the folder lies."""
        digest = hashlib.sha256()
        pictures_inside = any(not camera.is_video for camera in self.cameras.values())
        tables = {episode.data_path for episode in self.episodes}
        videos = {span.path for episode in self.episodes for span in episode.videos.values()}
        meta = sorted(path for path in (self.root / "meta").rglob("*") if path.is_file())
        for path in [*meta, *sorted(tables), *sorted(videos)]:
            digest.update(f"{path.relative_to(self.root).as_posix()} {path.stat().st_size}\n".encode())
            # Tables with pictures inside are as large as videos: their size has to do, too.
            if path in videos or (pictures_inside and path in tables):
                continue
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        return digest.hexdigest()[:16]


def unknown_episode(meta: DatasetMeta, index: int) -> UsageError:
    """The error for an episode index that the dataset does not have."""
    known = [episode.index for episode in meta.episodes]
    return UsageError(
        f"The dataset {meta.root} has no episode {index}.", expected=f"one of its {len(known)}: {_ranges(known)}"
    )


def read_meta(path: str | Path, *, trainable: bool = True, without: Collection[str] = ()) -> DatasetMeta:
    """Read the meta folder of a LeRobot v2.0, v2.1 or v3.0 dataset.

    `trainable` False also takes what no policy here can be trained on, but what can be copied and compared: depth
    cameras, recordings without state or action. `without` are keys of features that are read as if they were not
    there, whatever is wrong with them.

    Raises UsageError when `path` does not exist, DatasetError when it is no dataset, is of another version, or
    when a file is missing, torn, a Git-LFS pointer, or contradicts another.
    """
    root = Path(path).expanduser()
    if not root.exists():
        raise UsageError(f"The dataset path {root} does not exist.", fix="Check the path.")
    info_path = root / "meta" / "info.json"
    if not root.is_dir() or not info_path.is_file():
        raise DatasetError(
            f"{root} is not a LeRobot dataset folder: it has no meta/info.json.",
            expected="a folder with meta/, data/ and, for cameras, videos/",
            fix="Name the folder that holds meta/, not one above or below it.",
        )
    root = root.resolve()
    info = read_json(info_path, "dataset description")
    version = _version(info, info_path)
    fps = info.get("fps")
    if isinstance(fps, bool) or not isinstance(fps, int | float) or not 0 < fps < 1e6:
        raise DatasetError(f"{info_path} has fps {fps!r}.", expected="frames per second, above 0")
    if without and isinstance(info.get("features"), dict):
        info = {**info, "features": {key: one for key, one in info["features"].items() if key not in without}}
    features = parse_features(info, info_path, trainable=trainable)
    cameras = parse_cameras(info, features, info_path, trainable=trainable)
    layout = read_layout(root, version, info, cameras)
    return DatasetMeta(
        root=root,
        version=version,
        fps=float(fps),
        robot_type=info.get("robot_type"),
        features=features,
        cameras=cameras,
        tasks=layout.tasks,
        episodes=layout.episodes,
        statistics={name: stats for name, stats in layout.statistics.items() if name not in without},
        without=frozenset(without),
    )


def _version(info: dict[str, Any], path: Path) -> str:
    version = str(info.get("codebase_version", "")).strip()
    version = version if version.startswith("v") else f"v{version}"
    if version not in VERSIONS:
        found = f"version {version}" if len(version) > 1 else "no version (codebase_version)"
        raise DatasetError(
            f"{path} says {found}.",
            expected=f"{', '.join(VERSIONS[:-1])} or {VERSIONS[-1]}",
            fix="Convert the dataset with the LeRobot release that wrote it, or record it anew.",
        )
    return version


def _ranges(numbers: list[int]) -> str:
    if len(numbers) > 12 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]} to {numbers[-1]}"
    return ", ".join(map(str, numbers[:12])) + (", …" if len(numbers) > 12 else "")
