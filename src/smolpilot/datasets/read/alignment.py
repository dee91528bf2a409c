"""Which frame of a video belongs to which row of a table, and whether there is one for each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from smolpilot.common.errors import DatasetError
from smolpilot.datasets.format.episodes import Episode
from smolpilot.datasets.format.files import repair_advice
from smolpilot.datasets.format.metadata import VideoSpan
from smolpilot.datasets.media.video import VideoIndex, VideoReader

# A row's frame is the one nearest in time; half a frame away its neighbor could be meant as well.
_TOLERANCE = 0.4


def match_frames(
    videos: VideoReader,
    camera: str,
    episode: Episode,
    times: npt.NDArray[np.float64],
    fps: float,
    root: Path,
) -> npt.NDArray[np.int64]:
    """For each row of an episode, at `times` seconds into the file, the position of its frame.

    Raises DatasetError when a row has no frame of its own: a video that is too short, or time stamps that are not
    those of its frames (a wall clock, another rate).
    """
    path = episode.videos[camera].path
    index = videos.index(path)
    positions = index.positions(times)
    off = np.abs(index.times[positions] - times)
    bad = np.flatnonzero(off > _TOLERANCE / fps)
    repeated = np.flatnonzero(np.diff(positions) <= 0) + 1
    if len(bad) == 0 and len(repeated) == 0:
        return positions
    first = int(min([*bad[:1], *repeated[:1]]))
    frames = _frames_of(index, episode.videos[camera], fps)
    if frames < episode.length and times[-1] > index.seconds(len(index.pts) - 1) + _TOLERANCE / fps:
        raise _too_short(camera, episode, min(first, frames), root)
    count = f"it has {frames} frames for {episode.length} rows"
    if frames == episode.length:
        count = f"the video has {frames} frames, as many as the table has rows"
    raise DatasetError(
        f"The time stamps of episode {episode.index} do not fit the video of camera '{camera}': it has no frame of its "
        f"own for frame {first} of episode {episode.index}, the nearest is {1000 * float(off[first]):.1f} ms away; "
        f"{count} ({path}).",
        expected=f"time stamps {1000 / fps:.1f} ms apart, those of the video's frames",
        fix=repair_advice(root, "puts the time stamps right, and leaves out episodes whose video has too few frames"),
    )


def _frames_of(index: VideoIndex, span: VideoSpan, fps: float) -> int:
    """How many frames the file has from the episode's start to its end."""
    stop = np.inf if span.stop is None else span.stop
    return int(np.count_nonzero((index.times >= span.start - 0.5 / fps) & (index.times < stop - 0.5 / fps)))


def require_room(videos: VideoReader, episodes: Sequence[Episode], paths: set[Path], root: Path) -> None:
    """Check that between the starts of two episodes in one of the files there are as many frames as rows.

    Otherwise an episode would show images of the next one, without any time stamp being wrong.
    """
    places: dict[tuple[str, Path], list[Episode]] = {}
    for episode in episodes:
        for camera, span in episode.videos.items():
            if span.path in paths:
                places.setdefault((camera, span.path), []).append(episode)
    for (camera, path), inside in places.items():
        index = videos.index(path)
        inside.sort(key=lambda episode: episode.videos[camera].start)
        starts = index.positions(np.array([episode.videos[camera].start for episode in inside]))
        room = np.diff([*starts, len(index.pts)])
        for episode, frames in zip(inside, room, strict=True):
            if frames < episode.length:
                raise _too_short(camera, episode, int(frames), root)


def _too_short(camera: str, episode: Episode, found: int, root: Path) -> DatasetError:
    return DatasetError(
        f"The video of camera '{camera}' is shorter than the table at episode {episode.index}: {found} frames for "
        f"{episode.length} rows ({episode.videos[camera].path}).",
        expected="one video frame per row",
        fix=repair_advice(root, "places the episodes anew where their rows add up, or leaves this one out"),
    )
