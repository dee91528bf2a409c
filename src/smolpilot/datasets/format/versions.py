"""LeRobot's three layouts as data: what each of them keeps where. Nobody else asks for a version by its name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

type WrittenVersion = Literal["v3.0", "v2.1"]


@dataclass(frozen=True)
class Format:
    """One version. `data_path` and `video_path` are the patterns that LeRobot writes into info.json.

    `shared_files`: many episodes in a file, and tables under meta/episodes that say where; else a file for each episode
    and lists of JSON lines. `loadable`: LeRobot 0.6 itself reads it; the others it converts first.
    `episode_statistics` and `whole_statistics` say of what statistics are stored; `comparable_statistics` is False
    where they were counted in another way. `totals` are the keys of info.json that only this layout has.
    """

    version: str
    data_path: str
    video_path: str
    shared_files: bool
    loadable: bool
    episode_statistics: bool
    whole_statistics: bool
    comparable_statistics: bool
    totals: tuple[str, ...]

    @property
    def written(self) -> WrittenVersion:
        """The version in which a copy in the same layout is written."""
        return "v3.0" if self.shared_files else "v2.1"

    def names(self, chunk: int, number: int, key: str | None = None) -> dict[str, Any]:
        """What fills a pattern: a folder and a file's number or, where each episode has a file, the episode's."""
        names = ("chunk_index", "file_index") if self.shared_files else ("episode_chunk", "episode_index")
        return {**dict(zip(names, (chunk, number), strict=True)), **({} if key is None else {"video_key": key})}

    def data_file(self, number: int, episode: int, per_chunk: int) -> str:
        """The path of data file `number`, relative to the dataset; `episode` is the index of the first one in it."""
        return self.data_path.format(**self.names(*self._place(number, episode, per_chunk)))

    def video_file(self, key: str, number: int, episode: int, per_chunk: int) -> str:
        """The path of video file `number` of a camera, relative to the dataset."""
        return self.video_path.format(**self.names(*self._place(number, episode, per_chunk), key))

    def _place(self, number: int, episode: int, per_chunk: int) -> tuple[int, int]:
        return divmod(number, per_chunk) if self.shared_files else (episode // per_chunk, episode)


_V21 = Format(
    version="v2.1",
    data_path="data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
    video_path="videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    shared_files=False,
    loadable=False,
    episode_statistics=True,
    whole_statistics=False,
    comparable_statistics=True,
    totals=("total_videos", "total_chunks"),
)
_V20 = replace(_V21, version="v2.0", episode_statistics=False, whole_statistics=True, comparable_statistics=False)
_V30 = Format(
    version="v3.0",
    data_path="data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
    video_path="videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    shared_files=True,
    loadable=True,
    episode_statistics=True,
    whole_statistics=True,
    comparable_statistics=True,
    totals=("data_files_size_in_mb", "video_files_size_in_mb"),
)
INFO_KEYS = (
    "codebase_version", "robot_type", "fps", "features", "splits", "total_episodes", "total_frames", "total_tasks",
    "chunks_size", "data_path", "video_path", *_V21.totals, *_V30.totals,
)  # fmt: skip
"""What meta/info.json says in one of the versions; other keys are its recorder's own."""
FORMATS = {one.version: one for one in (_V20, _V21, _V30)}
CURRENT = _V30
SINGLE = _V21
"""Written where each episode is to have a file of its own."""
WRITTEN = (CURRENT.version, SINGLE.version)


def format_of(version: Any) -> Format | None:
    """The format that info.json's `codebase_version` names, with or without its `v`; None for an unknown one."""
    text = str(version).strip()
    return FORMATS.get(text if text.startswith("v") else f"v{text}")


def written_as(formats: Iterable[Format]) -> WrittenVersion:
    """The version of a copy of datasets of these formats: that of shared files where one of them has those."""
    return CURRENT.written if any(one.shared_files for one in formats) else _V21.written


def looks_like(root: Path, info: dict[str, Any]) -> Format:
    """The format that the files of a folder are laid out in, whatever info.json says of it."""
    meta = root / "meta"
    joined = (meta / "episodes").is_dir() or (meta / "tasks.parquet").exists()
    single = any((meta / name).exists() for name in ("episodes.jsonl", "tasks.jsonl"))
    stated = format_of(info.get("codebase_version", ""))
    if stated is not None and joined == single:
        return stated
    shared = joined and not single
    if not joined and not single:
        first = next((path.name for path in sorted(root.glob("data/*/*.parquet"))), "")
        shared = "file_index" in str(info.get("data_path", "")) or "file-" in first
    if stated is not None and stated.shared_files == shared:
        return stated
    if shared:
        return _V30
    whole_only = not (meta / "episodes_stats.jsonl").exists() and (meta / "stats.json").exists()
    return _V20 if whole_only else _V21
