"""The episodes of a dataset that can be trained on: all lists whole, and every file that they name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smolpilot.common.errors import DatasetError
from smolpilot.common.safe_paths import OwnFiles

from .completeness import Absent, require_complete, require_recorded
from .features import CameraInfo
from .files import file_state
from .metadata import Listing, MetadataReader, Record, VideoSpan
from .paths import DatasetPaths
from .problems import REFUSE
from .versions import Format

NEVER_RECORDED = "a camera of which no episode has a video"


@dataclass(frozen=True, slots=True)
class Episode:
    """One demonstration: its index value, number of frames, instructions, and where its data is."""

    index: int
    length: int
    tasks: list[str]
    data_path: Path
    videos: dict[str, VideoSpan] = field(default_factory=dict)

    @property
    def paths(self) -> list[Path]:
        """Its data file and its video files."""
        return [self.data_path, *(span.path for span in self.videos.values())]


def read_contents(
    root: Path, form: Format, info: dict[str, Any], cameras: Mapping[str, CameraInfo], *, complete: bool = True
) -> tuple[Listing, list[Episode]]:
    """Read tasks, episodes and statistics; `never_recorded` has the cameras that no episode has a video of.

    Raises DatasetError for a dataset without episodes, and for files that are not there; with `complete` False those
    files are listed in `absent` instead.
    """
    require_recorded(root, form, info, complete=complete)
    names = {camera.key: name for name, camera in cameras.items() if camera.is_video}
    paths = DatasetPaths(root, info, form, REFUSE)
    listing = MetadataReader(info, paths, list(names), REFUSE, complete=complete).read()
    if not listing.records and complete:
        raise DatasetError(f"The dataset {root} has no episodes.", fix="Record at least one.")
    listing.never_recorded = _never_recorded(listing, form, info, names)
    recorded = {key: name for key, name in names.items() if key not in listing.never_recorded}
    episodes = [_episode(listing.records[index], recorded) for index in sorted(listing.records)]
    listing.absent += _absent_files(root, episodes)
    if complete and listing.absent:
        require_complete(root, listing.absent, len(episodes))
    return listing, episodes


def _episode(record: Record, cameras: Mapping[str, str]) -> Episode:
    assert record.length is not None
    assert record.data_path is not None
    videos = {name: record.spans[key] for key, name in cameras.items()}
    return Episode(record.index, record.length, record.tasks, record.data_path, videos)


def _never_recorded(listing: Listing, form: Format, info: Mapping[str, Any], keys: Mapping[str, str]) -> list[str]:
    """Keys of cameras that no episode has a video of, though info.json declares them.

    Where episode tables say which videos there are, they decide. Else a camera with statistics was recorded: its files
    are missing. Where no camera has any, the videos are not here, unless info.json counts none.
    """
    records = listing.records.values()
    if form.shared_files or not records:
        return listing.never_recorded
    unseen = [key for key in keys if not any(record.spans[key].path.exists() for record in records)]
    if len(unseen) == len(keys) and info.get("total_videos") != 0:
        return []
    return [key for key in unseen if key not in listing.statistics]


def _absent_files(root: Path, episodes: list[Episode]) -> list[Absent]:
    """Data and video files that are named, but missing, empty or Git-LFS pointers.

    DatasetError for one that is not the dataset's own.
    """
    places = OwnFiles(root)
    users: dict[Path, tuple[str, list[int]]] = {}
    for episode in episodes:
        users.setdefault(episode.data_path, ("data file", []))[1].append(episode.index)
        for name, span in episode.videos.items():
            users.setdefault(span.path, (f"video of camera '{name}'", []))[1].append(episode.index)
    for path, (what, _) in users.items():
        places.require(path, what)
    states = ((path, file_state(path)) for path in users)
    return [Absent(path, users[path][0], state, users[path][1]) for path, state in states if state != "whole"]
