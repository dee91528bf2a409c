"""write_page: a folder with index.html, data and videos that a browser opens from the disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smolpilot.common.atomic import atomic_folder, refuse_existing
from smolpilot.common.errors import DatasetError
from smolpilot.common.keys import ACTION, STATE
from smolpilot.common.text import page_texts
from smolpilot.datasets.format.episodes import Episode
from smolpilot.datasets.format.features import CameraInfo
from smolpilot.datasets.format.meta import DatasetMeta
from smolpilot.datasets.media.table_images import TableImageReader
from smolpilot.datasets.media.video import read_index
from smolpilot.datasets.read.joint_units import joint_units
from smolpilot.datasets.tolerant.findings import SEVERITIES, Finding

from .clips import encode_clip, write_clip
from .curves import CurveReader, to_columns

if TYPE_CHECKING:
    from smolpilot.robots import RobotProfile

_PARTS = ("index.html", "view.css", "charts.js", "player.js", "view.js")


@dataclass
class PageSummary:
    """What was written. `encoded` counts videos by the reason why their packets could not be copied."""

    page: Path
    episodes: int
    videos: int = 0
    bytes: int = 0
    encoded: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def write_page(
    meta: DatasetMeta,
    out: Path,
    *,
    episodes: Sequence[int],
    findings: Sequence[Finding] | None,
    profile: RobotProfile | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> PageSummary:
    """Write the page of `episodes` (index values) into the new folder `out`, whole or not at all.

    `findings` None says on the page that no check was made. An episode whose table or video cannot be read is
    listed with the reason; the others are shown. Raises UsageError when `out` exists or lies inside the recording.
    """
    refuse_existing(out, "pages", meta.root)
    summary = PageSummary(out / "index.html", len(episodes))
    with atomic_folder(out) as folder:
        for name in _PARTS:
            text = resources.files("smolpilot.datasets.view").joinpath("page", name).read_text(encoding="utf-8")
            (folder / name).write_text(text, encoding="utf-8")
        facts = _facts(meta, findings, profile)
        writer = _EpisodeWriter(meta, folder, findings or (), summary)
        rows = []
        for done, index in enumerate(episodes, 1):
            rows.append(writer.write(meta.episode(index)))
            if progress is not None:
                progress("Writing the page", done, len(episodes))
        _write_script(folder / "data" / "index.js", "dataset", {**facts, "episodes": rows})
        summary.bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return summary


class _EpisodeWriter:
    def __init__(self, meta: DatasetMeta, folder: Path, findings: Sequence[Finding], summary: PageSummary) -> None:
        self._meta, self._folder, self._summary = meta, folder, summary
        self._findings: dict[int | None, list[Finding]] = {}
        for finding in findings:
            self._findings.setdefault(finding.episode, []).append(finding)
        self._curves = CurveReader(meta)
        self._pictures = TableImageReader()
        # Of each camera the last file, in which the next episode is, too, most of the time.
        self._index_of = lru_cache(maxsize=2 * len(meta.cameras))(read_index)

    def write(self, episode: Episode) -> dict[str, Any]:
        """Write the episode's script and videos; its entry in the list of episodes."""
        problems: list[str] = []
        tasks = list(episode.tasks)
        columns: dict[str, Any] = {STATE: [], ACTION: []}
        rows = episode.length
        try:
            vectors = self._curves.vectors(episode)
            columns |= {key: to_columns(values) for key, values in vectors.items()}
            rows = len(self._curves.rows(episode))
            tasks = self._curves.instructions(episode) or tasks
        except DatasetError as error:
            problems.append(error.found)
        videos = {}
        for name, camera in self._meta.cameras.items():
            try:
                videos[name] = self._clip(episode, name, camera)
            except DatasetError as error:
                problems.append(error.found)
        for name, video in videos.items():
            if video["frames"] != rows:
                problems.append(f"The video of camera '{name}' has {video['frames']} frames for {rows} rows.")
            camera = self._meta.cameras[name]
            if camera.is_video:
                index = self._index_of(episode.videos[name].path)
                if (index.width, index.height) != (camera.width, camera.height):
                    size = f"{index.width}x{index.height}, meta/info.json says {camera.width}x{camera.height}"
                    problems.append(f"The video of camera '{name}' is {size}.")
        self._summary.problems += [f"Episode {episode.index}: {text}" for text in problems]
        findings = self._findings.get(episode.index, [])
        document = {
            "index": episode.index,
            "rows": rows,
            "state": columns[STATE],
            "action": columns[ACTION],
            "videos": videos,
            "problems": problems,
            "findings": [asdict(finding) for finding in findings],
        }
        _write_script(self._folder / "data" / f"episode_{episode.index:06d}.js", "episode", document)
        counts = [sum(finding.severity == severity for finding in findings) for severity in SEVERITIES]
        counts[0] += len(problems)
        return {
            "index": episode.index,
            "length": rows,
            "tasks": page_texts(tasks) or ["(no instruction)"],
            "counts": counts,
        }

    def _clip(self, episode: Episode, name: str, camera: CameraInfo) -> dict[str, Any]:
        # Numbered folders: a camera's name may hold anything.
        number = list(self._meta.cameras).index(name)
        relative = Path("videos") / f"camera_{number}" / f"episode_{episode.index:06d}.mp4"
        target = self._folder / relative
        if camera.is_video:
            span = episode.videos[name]
            clip = write_clip(span, self._index_of(span.path), episode.length, self._meta.fps, target)
            frames, reason = clip.frames, clip.encoded
        else:
            rows = self._curves.rows(episode)
            size = (camera.height, camera.width)
            pictures = (self._pictures.picture(episode.data_path, camera.key, int(row), size) for row in rows)
            frames = encode_clip(pictures, target, width=camera.width, height=camera.height, fps=self._meta.fps)
            reason = "images in the tables are no video"
        self._summary.videos += 1
        if reason:
            self._summary.encoded[reason] = self._summary.encoded.get(reason, 0) + 1
        return {"src": relative.as_posix(), "frames": frames, "encoded": reason}


def _facts(meta: DatasetMeta, findings: Sequence[Finding] | None, profile: RobotProfile | None) -> dict[str, Any]:
    return {
        "name": meta.root.name,
        "version": meta.version,
        "fps": meta.fps,
        "robot": profile.name if profile is not None else meta.robot_type,
        "total_episodes": len(meta.episodes),
        "cameras": [{"name": name, "width": c.width, "height": c.height} for name, c in meta.cameras.items()],
        "joints": _joints(meta, profile),
        "checked": findings is not None,
        "findings": [asdict(finding) for finding in findings or () if finding.episode is None],
    }


def _joints(meta: DatasetMeta, profile: RobotProfile | None) -> list[dict[str, Any]]:
    """One chart per joint: the places of its value in state and in action, None where it has none."""
    units = joint_units(meta, profile)
    states, actions = meta.state_names, meta.action_names
    if states == actions:
        pairs: list[tuple[str, int | None, int | None]] = [(name, i, i) for i, name in enumerate(states)]
    else:
        pairs = [(name, i, actions.index(name) if name in actions else None) for i, name in enumerate(states)]
        pairs += [(name, None, i) for i, name in enumerate(actions) if name not in states]

    def unit(key: str, place: int) -> str | None:
        # Features by the names of others (`state`, `actions`) have none.
        return units[key][place] if place < len(units[key]) else None

    return [
        {
            "name": name,
            "unit": unit(STATE, state) if state is not None else unit(ACTION, action or 0),
            "state": state,
            "action": action,
        }
        for name, state, action in pairs
    ]


def _write_script(path: Path, call: str, document: dict[str, Any]) -> None:
    """Data as a script that calls the page: a page opened from the disk may not read other files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(document, allow_nan=False, separators=(",", ":"))
    path.write_text(f"smolpilot.{call}({text});\n", encoding="utf-8")
