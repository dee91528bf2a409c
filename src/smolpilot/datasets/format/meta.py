"""DatasetMeta: what a dataset is, read from its meta folder without opening tables and videos."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from smolpilot.common.errors import DatasetError, UsageError
from smolpilot.common.keys import ACTION, STATE
from smolpilot.common.safe_paths import OwnFiles, require_utf8
from smolpilot.common.statistics import Statistics
from smolpilot.common.text import plain

from .completeness import Absent
from .episodes import NEVER_RECORDED, Episode, read_contents
from .features import CameraInfo, Feature, dimension_names, motion_keys, parse_cameras, parse_features, require_vectors
from .files import read_json, repair_advice
from .info_form import plain_info, read_fps
from .missing import missing_dataset
from .paths import require_own_meta
from .versions import FORMATS, Format, format_of


@dataclass
class DatasetMeta:
    """Facts of a dataset. `cameras` and `Episode.videos` are keyed by camera name, `features` by LeRobot's key.

    `without` are features and columns that are on disk but were left out by choice, see `read_meta`.
    `left_out` says for each feature that samples leave out (depth cameras, lists of varying length, columns with
    empty cells, cameras that were never recorded, …) why; what only the tables tell is added by `open_dataset`.
    `absent` are files that the meta folder names but that are not on this machine (only with `complete=False`).
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
    left_out: dict[str, str] = field(default_factory=dict)
    absent: list[Absent] = field(default_factory=list)

    @property
    def format(self) -> Format:
        """What its version keeps where."""
        return FORMATS[self.version]

    @property
    def camera_names(self) -> list[str]:
        """Names of the cameras, in the dataset's order, without `observation.images.`."""
        return list(self.cameras)

    @property
    def state_names(self) -> list[str]:
        """Names of the state's dimensions, whatever the feature is called; none where there is no state."""
        return self.names_of(STATE)

    @property
    def action_names(self) -> list[str]:
        """Names of the action's dimensions, whatever the feature is called; none where there is no action."""
        return self.names_of(ACTION)

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
    def sorted_indices(self) -> list[int]:
        """Index values of the episodes, in order."""
        return sorted(self._by_index)

    def names_of(self, key: str) -> list[str]:
        """Names of the dimensions of state or action; none where there is none."""
        found = motion_keys(self.features).get(key)
        return [] if found is None else dimension_names(self.features[found])

    @cached_property
    def _by_index(self) -> dict[int, Episode]:
        return {episode.index: episode for episode in self.episodes}

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the contents of meta and tables and of the videos' sizes; the same wherever the folder lies."""
        digest, places = hashlib.sha256(), OwnFiles(self.root)
        # The same for a reader that opens depth cameras, too, and for one that leaves them out.
        cameras = {name for name, camera in self.cameras.items() if camera.key not in self.left_out}
        images_inside = any(feature.dtype == "image" for feature in self.features.values())
        tables = sorted({episode.data_path for episode in self.episodes})
        used = (episode.videos.items() for episode in self.episodes)
        videos = sorted({span.path for spans in used for name, span in spans if name in cameras})
        meta = sorted(path for path in (self.root / "meta").rglob("*") if path.is_file() and not places.why_not(path))
        sizes_only = {*videos, *(tables if images_inside else ())}
        for path in [*meta, *tables, *videos]:
            digest.update(f"{path.relative_to(self.root).as_posix()} {path.stat().st_size}\n".encode())
            # Tables with images inside are as large as videos: their size has to do, too.
            if path in sizes_only:
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


def read_meta(
    path: str | Path, *, trainable: bool = True, complete: bool = True, without: Collection[str] = ()
) -> DatasetMeta:
    """Read the meta folder of a LeRobot v2.0, v2.1 or v3.0 dataset.

    `trainable` False also takes what no policy here can be trained on, but what can be copied and compared: depth
    cameras, datasets without state or action. `complete` False lists data and video files that are not on this
    machine in `absent`; they are an error otherwise. `without` are keys of features that are read as if they were not
    there, whatever is wrong with them.

    Raises UsageError when `path` does not exist, DatasetError when it is no dataset, is of another version, has no
    episodes yet, was interrupted, or when a file is missing, torn, a Git-LFS pointer, or contradicts another.
    """
    root = Path(path).expanduser()
    if not root.exists():
        raise missing_dataset(root)
    info_path = root / "meta" / "info.json"
    if not root.is_dir() or not info_path.is_file():
        raise DatasetError(
            f"{root} is not a LeRobot dataset folder: it has no meta/info.json.",
            expected="a folder with meta/, data/ and, for cameras, videos/",
            fix="Name the folder that holds meta/, not one above or below it.",
        )
    root = root.resolve()
    require_utf8(root, "dataset folder")
    require_own_meta(root)
    info_path = root / "meta" / "info.json"
    info = read_json(info_path, "dataset description")
    if without and isinstance(info.get("features"), dict):
        info = {**info, "features": {key: one for key, one in info["features"].items() if key not in without}}
    info = plain_info(info, info_path)
    form = _format(info, info_path)
    fps = read_fps(info, info_path)
    left_out: dict[str, str] = {}
    features = parse_features(info, info_path, left_out=left_out)
    if trainable:
        require_vectors(features, info_path)
    cameras = parse_cameras(info, features, trainable=trainable, left_out=left_out)
    listing, episodes = read_contents(root, form, info, cameras, complete=complete)
    left_out |= dict.fromkeys(sorted(listing.never_recorded), NEVER_RECORDED)
    return DatasetMeta(
        root=root,
        version=form.version,
        fps=fps,
        robot_type=info.get("robot_type"),
        features=features,
        cameras={name: camera for name, camera in cameras.items() if camera.key not in listing.never_recorded},
        tasks=listing.tasks,
        episodes=episodes,
        statistics={name: stats for name, stats in listing.statistics.items() if name not in without},
        without=frozenset(without),
        left_out=left_out,
        absent=listing.absent,
    )


def usable(meta: DatasetMeta) -> DatasetMeta:
    """The same dataset with only the cameras that samples carry."""
    cameras = {name: camera for name, camera in meta.cameras.items() if camera.key not in meta.left_out}
    if len(cameras) == len(meta.cameras):
        return meta
    episodes = [
        replace(episode, videos={name: span for name, span in episode.videos.items() if name in cameras})
        for episode in meta.episodes
    ]
    return replace(meta, cameras=cameras, episodes=episodes)


def _format(info: dict[str, Any], path: Path) -> Format:
    stated = str(info.get("codebase_version", "")).strip()
    form = format_of(stated)
    if form is None:
        version = stated if stated.startswith("v") else f"v{stated}"
        *others, last = FORMATS
        raise DatasetError(
            f"{path} says {f'version {plain(version, 60)}' if stated else 'no version (codebase_version)'}.",
            expected=f"{', '.join(others)} or {last}",
            fix=_version_advice(version, path),
        )
    return form


def _ranges(numbers: list[int]) -> str:
    if len(numbers) > 12 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]} to {numbers[-1]}"
    return ", ".join(map(str, numbers[:12])) + (", …" if len(numbers) > 12 else "")


def _version_advice(version: str, path: Path) -> str:
    if version.startswith("v1"):
        return "Convert the dataset with the LeRobot release that wrote it: v1 keeps frames in another form."
    return repair_advice(path.parent.parent, "finds the version by the layout of the files")
