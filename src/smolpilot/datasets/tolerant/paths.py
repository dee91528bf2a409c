"""Where the files of a recording are: by the patterns of `info.json`, or else by their names and folders."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

from smolpilot.common.paths import require_readable, walk
from smolpilot.common.text import LIMIT, plain, shown
from smolpilot.datasets.format.templates import fill_template

from .found_dataset import Camera, Recording

VIDEO_ENDINGS = (".mp4", ".mkv", ".mov", ".avi", ".webm")


class Locator:
    """Finds data and video files; notes which lie elsewhere than the patterns say."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._root = recording.root
        files = sorted(_files(recording))
        self.tables = [path for path in files if path.suffix == ".parquet"]
        self.videos = [path for path in files if path.suffix.lower() in VIDEO_ENDINGS]
        self._numbered_tables = _by_number(self.tables)
        self._numbered_videos: dict[str, dict[int, Path]] = {}
        self._unusable: set[str] = set()
        self._shared: dict[tuple[str, int, int], Path | None] = {}
        self._elsewhere: dict[str, list[tuple[Path | None, Path]]] = {"data_path": [], "video_path": []}

    def path(self, key: str, names: dict[str, Any]) -> Path | None:
        """The path that the pattern `data_path` or `video_path` gives; None when there is no usable pattern."""
        template = self._recording.info.get(key)
        reason = ""
        relative = None
        if not isinstance(template, str):
            reason = "is missing" if template is None else f"is {shown(template)}"
        else:
            try:
                relative = fill_template(template, names)
            except ValueError as error:
                reason = f"{error}: {plain(template, LIMIT)}"
        if relative is None:
            if key not in self._unusable and self._recording.info:
                self._unusable.add(key)
                self._recording.report("template-unusable", f"The {key} of meta/info.json {reason}.")
            return None
        return self._root / relative

    def data_of(self, episode: int, chunk: int) -> Path | None:
        """The table of an episode with a file of its own (v2.x)."""
        names = {"episode_index": episode, "episode_chunk": chunk}
        return self._found("data_path", self.path("data_path", names), self._numbered_tables.get(episode))

    def video_of(self, camera: Camera, episode: int, chunk: int) -> Path | None:
        """The video of an episode with a file of its own (v2.x)."""
        names = {"episode_index": episode, "episode_chunk": chunk, "video_key": camera.key}
        numbered = self._videos_of(camera)
        return self._found("video_path", self.path("video_path", names), numbered.get(episode))

    def shared_data(self, chunk: int, file: int) -> Path | None:
        """A table of many episodes (v3.0)."""
        place = ("data_path", chunk, file)
        if place not in self._shared:
            expected = self.path("data_path", {"chunk_index": chunk, "file_index": file})
            other = self._numbered_tables.get(file) if chunk == 0 else None
            self._shared[place] = self._found("data_path", expected, other)
        return self._shared[place]

    def shared_video(self, camera: Camera, chunk: int, file: int) -> Path | None:
        """A video of many episodes (v3.0)."""
        place = (camera.key, chunk, file)
        if place not in self._shared:
            names = {"video_key": camera.key, "chunk_index": chunk, "file_index": file}
            found = self._videos_of(camera).get(file) if chunk == 0 else None
            self._shared[place] = self._found("video_path", self.path("video_path", names), found)
        return self._shared[place]

    def videos_of(self, camera: Camera) -> list[Path]:
        """All video files of a camera, by the names of their folders."""
        names = {camera.key, camera.name, camera.key.rsplit(".", 1)[-1]}
        only = len(self._recording.video_cameras) == 1
        return [path for path in self.videos if only or names & set(path.relative_to(self._root).parts[:-1])]

    def any_video(self, camera: Camera) -> bool:
        """Whether there is any file that may be this camera's, where info.json says or elsewhere."""
        names = (camera.key, camera.name)
        return bool(self.videos_of(camera)) or any(
            name in path.relative_to(self._root).as_posix() for path in self.videos for name in names
        )

    def report(self) -> None:
        """One finding for each pattern that the files do not follow."""
        for key, listed in self._elsewhere.items():
            places = list(dict.fromkeys(listed))
            # Without a readable info.json there are no patterns: that has been said.
            if places and self._recording.info:
                expected, found = places[0]
                named = f", not at {self._recording.relative(expected)}" if expected is not None else ""
                more = f" (and {len(places) - 1} more)" if len(places) > 1 else ""
                self._recording.report(
                    "path-unusual", f"{key}: the file is at {self._recording.relative(found)}{named}{more}."
                )

    def camera_keys(self) -> list[str]:
        """Camera names as the folders of the videos tell them, for a recording that declares no features."""
        keys = [part for path in self.videos for part in path.relative_to(self._root).parts[:-1]]
        return sorted({part for part in keys if part.startswith("observation.image")})

    def _found(self, key: str, expected: Path | None, other: Path | None) -> Path | None:
        if expected is not None and expected.is_file():
            return expected
        if other is None:
            return expected
        self._elsewhere[key].append((expected, other))
        return other

    def _videos_of(self, camera: Camera) -> dict[int, Path]:
        if camera.key not in self._numbered_videos:
            self._numbered_videos[camera.key] = _by_number(self.videos_of(camera))
        return self._numbered_videos[camera.key]


def number_of(path: Path) -> int | None:
    """The last number in a file's name: 3 of `episode_000003.parquet`."""
    numbers = re.findall(r"\d+", path.stem)
    return int(numbers[-1]) if numbers and len(numbers[-1]) < 10 else None


def _by_number(paths: list[Path]) -> dict[int, Path]:
    """Files by number, those left out whose number is not theirs alone."""
    numbers = {path: number_of(path) for path in paths}
    counts = Counter(numbers.values())
    return {number: path for path, number in numbers.items() if number is not None and counts[number] == 1}


def _files(recording: Recording) -> list[Path]:
    """Tables and videos, wherever they are. PermissionError for one that may not be read: it is there, not missing."""
    root, found = recording.root, []
    for folder, folders, names in walk(root):
        # A recording inside of another one's folder is none of its files.
        folders[:] = [
            name for name in folders if not name.startswith(".") and not (folder / name / "meta" / "info.json").exists()
        ]
        if (root / "meta") in (folder, *folder.parents):
            continue
        for name in names:
            path = folder / name
            if name.startswith(".") or path.suffix.lower() not in (".parquet", *VIDEO_ENDINGS):
                continue
            if path.is_file() and not recording.places.why_not(path):
                require_readable(path)
                found.append(path)
    return found
