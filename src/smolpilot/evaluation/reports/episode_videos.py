"""The videos of a report: a file for each episode that kept its images; small ones inside the page, with posters."""

from __future__ import annotations

import io
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import av
import markupsafe
from PIL import Image

from smolpilot.common.text import base64_markup
from smolpilot.evaluation.rollout.tiled_video import write_video

if TYPE_CHECKING:
    from smolpilot.evaluation.rollout.closed_loop import RolloutResult

FOLDER = "videos"
MOST_INSIDE = 1_200_000  # bytes of videos that one page holds: what is larger stays beside it


@dataclass(frozen=True)
class Video:
    """A video of a page: inside of it or a relative link, with its first image as poster."""

    source: str
    poster: str | None
    inside: bool


class Videos:
    """Puts videos into a page as long as there is room, and links the others relative to its folder."""

    def __init__(self, folder: Path, most: int = MOST_INSIDE) -> None:
        self._folder, self._left = folder, most

    def show(self, path: Path) -> Video | None:
        """The video of a file; None where there is none. A damaged one has no poster."""
        if not path.is_file():
            return None
        size, image = path.stat().st_size, poster(path)
        inside = size <= self._left
        if inside:
            self._left -= size
            source: str = markupsafe.Markup("data:video/mp4;base64,") + base64_markup(path.read_bytes())
        else:
            source = quote(path.relative_to(self._folder, walk_up=True).as_posix())
        return Video(source, image, inside)


def write_episode_videos(folder: Path, result: RolloutResult) -> dict[int, Path]:
    """Write videos/episode_SEED.mp4 for each episode that kept its images; seed -> file."""
    kept = [run for run in result.runs if run.images]
    found = {run.seed: folder / FOLDER / f"episode_{run.seed}.mp4" for run in kept}
    if kept:
        (folder / FOLDER).mkdir()
    for run in kept:
        write_video(found[run.seed], [run], result.spec.rate, result.spec.labels)
    return found


def poster(path: Path) -> str | None:
    """The first image of a video as a data URL, JPEG; None for a file that is no video."""
    with suppress(av.FFmpegError, OSError), av.open(str(path)) as container:
        for frame in container.decode(video=0):
            image, buffer = Image.fromarray(frame.to_ndarray(format="rgb24")), io.BytesIO()
            image.thumbnail((640, 640))
            image.save(buffer, "JPEG", quality=80)
            return markupsafe.Markup("data:image/jpeg;base64,") + base64_markup(buffer.getvalue())
    return None
