"""Where the files of a dataset are: by the patterns of `info.json`, or else by their names and folders."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from smolpilot.common.safe_paths import require_readable, walk
from smolpilot.datasets.format.paths import DatasetPaths

from .found_dataset import Camera, FoundDataset

VIDEO_ENDINGS = (".mp4", ".mkv", ".mov", ".avi", ".webm")


class Locator(DatasetPaths):
    """Finds data and video files; notes which lie elsewhere than the patterns say."""

    def __init__(self, dataset: FoundDataset) -> None:
        super().__init__(dataset.root, dataset.info, dataset.format, dataset)
        self._recording = dataset
        files = sorted(_files(dataset))
        self.tables = [path for path in files if path.suffix == ".parquet"]
        self.videos = [path for path in files if path.suffix.lower() in VIDEO_ENDINGS]
        self._numbered: dict[str | None, dict[int, Path]] = {None: _by_number(self.tables)}
        self._elsewhere: dict[str, list[tuple[Path | None, Path]]] = {"data_path": [], "video_path": []}

    def found(self, key: str | None, chunk: int, number: int) -> Path | None:
        """Where the pattern says, or else where a file with that number is."""
        expected = self.pattern(key, chunk, number)
        if expected is not None and expected.is_file():
            return expected
        if key not in self._numbered:
            self._numbered[key] = _by_number(self.videos_of(self._recording.cameras[key or ""]))
        # Of shared files, each folder counts anew.
        other = self._numbered[key].get(number) if not self.form.shared_files or chunk == 0 else None
        if other is not None:
            self._elsewhere["data_path" if key is None else "video_path"].append((expected, other))
        return other or expected

    def strays(self, records: Collection[int], per_chunk: int) -> set[Path]:
        """Tables that are no episodes: unlisted and elsewhere, in a folder whose listed ones lie where they should."""
        there = set(self.tables)
        usual = {path: number_of(path) for path in self.tables}
        if not any(self.pattern(None, index // per_chunk, index) in there for index in records):
            return set()
        return {p for p, n in usual.items() if n is not None and self.pattern(None, n // per_chunk, n) != p}

    def videos_of(self, camera: Camera) -> list[Path]:
        """All video files of a camera, by the names of their folders."""
        names = {camera.key, camera.name, camera.key.rsplit(".", 1)[-1]}
        only = len(self._recording.video_cameras) == 1
        return [path for path in self.videos if only or names & set(path.relative_to(self.root).parts[:-1])]

    def any_video(self, camera: Camera) -> bool:
        """Whether there is any file that may be this camera's, where info.json says or elsewhere."""
        names = (camera.key, camera.name)
        return bool(self.videos_of(camera)) or any(
            name in path.relative_to(self.root).as_posix() for path in self.videos for name in names
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
        """Camera names as the folders of the videos tell them, for a dataset that declares no features."""
        keys = [part for path in self.videos for part in path.relative_to(self.root).parts[:-1]]
        return sorted({part for part in keys if part.startswith("observation.image")})


def number_of(path: Path) -> int | None:
    """The last number in a file's name: 3 of `episode_000003.parquet`."""
    numbers = re.findall(r"\d+", path.stem)
    return int(numbers[-1]) if numbers and len(numbers[-1]) < 10 else None


def _by_number(paths: list[Path]) -> dict[int, Path]:
    """Files by number, those left out whose number is not theirs alone."""
    numbers = {path: number_of(path) for path in paths}
    counts = Counter(numbers.values())
    return {number: path for path, number in numbers.items() if number is not None and counts[number] == 1}


def _files(dataset: FoundDataset) -> list[Path]:
    """Tables and videos, wherever they are. PermissionError for one that may not be read: it is there, not missing."""
    root, found = dataset.root, []
    for folder, folders, names in walk(root):
        # A dataset inside of another one's folder is none of its files.
        folders[:] = [
            name for name in folders if not name.startswith(".") and not (folder / name / "meta" / "info.json").exists()
        ]
        if (root / "meta") in (folder, *folder.parents):
            continue
        for name in names:
            path = folder / name
            if name.startswith(".") or path.suffix.lower() not in (".parquet", *VIDEO_ENDINGS):
                continue
            if path.is_file() and not dataset.places.why_not(path):
                require_readable(path)
                found.append(path)
    return found
