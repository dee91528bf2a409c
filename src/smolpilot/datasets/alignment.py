"""Which frame of a video belongs to which row of a table, and whether there is one for each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from smolpilot.datasets.layout import Episode
from smolpilot.datasets.video import VideoReader
from smolpilot.errors import DatasetError

# A row's frame is the one nearest in time; half a frame away its neighbour could be meant as well.
_TOLERANCE = 0.4


def match_frames(
    videos: VideoReader, camera: str, episode: Episode, times: npt.NDArray[np.float64], fps: float
) -> npt.NDArray[np.int64]:
    """For each row of an episode, at `times` seconds into the file, the position of its frame.

    Raises DatasetError when a row has no frame of its own: a video that is too short or runs at another rate.
    """
    path = episode.videos[camera].path
    index = videos.index(path)
    positions = index.positions(times)
    off = np.abs(index.pts[positions] * float(index.time_base) - times)
    bad = np.flatnonzero(off > _TOLERANCE / fps)
    repeated = np.flatnonzero(np.diff(positions) <= 0) + 1
    if len(bad) == 0 and len(repeated) == 0:
        return positions
    first = int(min([*bad[:1], *repeated[:1]]))
    if times[-1] > index.seconds(len(index.pts) - 1) + _TOLERANCE / fps:
        raise _too_short(camera, episode, first)
    raise DatasetError(
        f"The video of camera '{camera}' has no frame of its own for frame {first} of episode {episode.index}: the "
        f"nearest is {1000 * float(off[first]):.1f} ms away ({path}).",
        expected=f"one video frame every {1000 / fps:.1f} ms, at the time stamps of the table",
        fix="Leave this episode out, or record it anew.",
    )


def require_room(videos: VideoReader, episodes: Sequence[Episode], paths: set[Path]) -> None:
    """Check that between the starts of two episodes in one of the files there are as many frames as rows.

    Otherwise an episode would show pictures of the next one, without any time stamp being wrong.
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
                raise _too_short(camera, episode, int(frames))


def _too_short(camera: str, episode: Episode, found: int) -> DatasetError:
    return DatasetError(
        f"The video of camera '{camera}' is shorter than the table at episode {episode.index}: {found} frames for "
        f"{episode.length} rows ({episode.videos[camera].path}).",
        expected="one video frame per row",
        fix="Leave this episode out, or record it anew.",
    )
