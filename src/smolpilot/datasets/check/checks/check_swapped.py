"""Exchanged videos: of two episodes, or of two cameras."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import numpy.typing as npt

from smolpilot.datasets.check.context import CheckContext
from smolpilot.datasets.check.scan.video_scans import Clip
from smolpilot.datasets.tolerant.findings import Finding
from smolpilot.datasets.tolerant.found_dataset import Camera
from smolpilot.datasets.tolerant.rules import REPAIR, VIEW

# A stored mean color that is this far from its video's is not the recorder's sampling.
_ODD = 0.012
# All alike may be off by this much: recorders sample frames, and convert colors in their own ways.
_OFFSET = 0.04
_MOST = 200


def swapped(context: CheckContext) -> Iterator[Finding]:
    """Videos of two episodes exchanged: told by their numbers of frames, or by the stored image statistics."""
    named: set[tuple[int, int]] = set()
    for key, camera in context.dataset.cameras.items():
        clips = [clip for clip in context.video_scans.of(key) if clip.frames and clip.episode in context.dataset.rows]
        if camera.is_video and not context.dataset.format.shared_files:
            for one, other in _by_length(clips):
                named.add((one.episode, other.episode))
                reason = f"{one.frames} frames for {one.rows} rows and {other.frames} for {other.rows}"
                yield from _pair(context, one, other, reason)
        if not camera.color:
            continue
        for one, other in _by_color(context, key, clips):
            if (one.episode, other.episode) not in named:
                reason = f"the stored image statistics of each fit the video of the other (camera '{camera.name}')"
                yield from _pair(context, one, other, reason)
    yield from _cameras(context)
    if context.dataset.format.shared_files:
        yield from _out_of_order(context)


def stored_color(context: CheckContext, key: str, episode: int) -> npt.NDArray[np.float64] | None:
    """The mean red, green, blue that the episode's stored statistics state."""
    mean = context.dataset.records[episode].statistics.get(key, {}).get("mean")
    if mean is None or mean.size != 3 or not np.isfinite(mean).all():
        return None
    return mean.reshape(3)


def _by_length(clips: list[Clip]) -> Iterator[tuple[Clip, Clip]]:
    """Two that have each other's number of frames, if nobody else has."""
    odd: dict[tuple[int, int], list[Clip]] = {}
    for clip in clips:
        if clip.frames != clip.rows:
            odd.setdefault((clip.frames, clip.rows), []).append(clip)
    for (frames, rows), mine in odd.items():
        others = odd.get((rows, frames), [])
        if frames < rows and len(mine) == len(others) == 1:
            one, other = sorted([mine[0], others[0]], key=lambda clip: clip.episode)
            yield one, other


def _by_color(context: CheckContext, key: str, clips: list[Clip]) -> Iterator[tuple[Clip, Clip]]:
    """Two whose stored mean colors fit each other's video, where those of the others fit their own."""
    known = [(clip, clip.color(), stored_color(context, key, clip.episode)) for clip in clips]
    pairs = [(clip, seen, told) for clip, seen, told in known if seen is not None and told is not None]
    if len(pairs) < 3:
        return
    # Sampling and color conversion shift all episodes alike: only what is left tells them apart.
    seen = np.array([pair[1] for pair in pairs])
    told = np.array([pair[2] for pair in pairs])
    offset = np.median(told - seen, axis=0)
    told = told - offset
    alone = np.linalg.norm(told - seen, axis=1)
    odd = np.flatnonzero(alone > _ODD)
    # Where most stored means fit nothing, they are of other images, and two that fit one another do so by chance.
    if np.abs(offset).max() > _OFFSET or not 2 <= len(odd) <= min(_MOST, max(2, len(pairs) // 3)):
        return
    apart = np.linalg.norm(told[odd][:, None] - seen[odd][None], axis=2)
    fits = apart < 0.25 * np.minimum(np.diag(apart)[:, None], np.diag(apart)[None])
    both = fits & fits.T
    for i, j in np.argwhere(np.triu(both, 1)).tolist():
        # Nobody can be exchanged with two others.
        if both[i].sum() == both[j].sum() == 1:
            yield pairs[odd[i]][0], pairs[odd[j]][0]


def _cameras(context: CheckContext) -> Iterator[Finding]:
    """Two cameras exchanged in an episode."""
    cameras = [camera for camera in context.dataset.video_cameras.values() if camera.color]
    for one, other in combinations(cameras, 2):
        for episode in context.dataset.episodes:
            if not _crossed(context, one, other, episode):
                continue
            message = f"Cameras '{one.name}' and '{other.name}' seem swapped in episode {episode}: the stored image "
            message += "statistics of each fit the video of the other."
            for camera in (one, other):
                yield context.finding("video-swapped", message, episode=episode, camera=camera.name)


def _crossed(context: CheckContext, one: Camera, other: Camera, episode: int) -> bool:
    """Whether each stored mean is the other camera's."""
    clips = [context.video_scans.clips.get((camera.key, episode)) for camera in (one, other)]
    told = [stored_color(context, camera.key, episode) for camera in (one, other)]
    seen = [clip.color() if clip is not None and clip.frames else None for clip in clips]
    if any(value is None for value in (*told, *seen)):
        return False
    straight = [float(np.linalg.norm(told[i] - seen[i])) for i in (0, 1)]  # type: ignore[operator]
    crossed = [float(np.linalg.norm(told[i] - seen[1 - i])) for i in (0, 1)]  # type: ignore[operator]
    return min(straight) > 0.03 and max(crossed) < 0.25 * min(straight)


def _out_of_order(context: CheckContext) -> Iterator[Finding]:
    """In joined files recorders and LeRobot put episodes one after the other: two that are exchanged stand out.

    Unless the frames at its own place are as many as its rows, or look as its statistics say, and those at the other
    place are not: then its video just lies elsewhere in the file.
    """
    for key, camera in context.dataset.video_cameras.items():
        clips = [clip for clip in context.video_scans.of(key) if len(clip.scan.times)]
        ordered = sorted(clips, key=_place)
        wrong = [i for i, (mine, there) in enumerate(zip(clips, ordered, strict=True)) if _place(mine) != _place(there)]
        for i in wrong if len(wrong) <= max(2, len(clips) // 4) else []:
            known = _belongs(context, key, clips[i], ordered[i])
            if known:
                continue
            message = f"The '{camera.name}' video of episode {clips[i].episode} is not in the order of the episodes."
            severity, fix = ("warning", VIEW) if known is None else (None, REPAIR)
            yield context.finding("video-swapped", message, severity=severity, fix=fix, **clips[i].place)


def _place(clip: Clip) -> tuple[str, float]:
    return str(clip.scan.path), clip.span.start


def _belongs(context: CheckContext, key: str, mine: Clip, there: Clip) -> bool | None:
    """Whether an episode's frames are those at its own place (True) or at the other one; None: nothing tells."""
    if (mine.frames == mine.rows) != (there.frames == mine.rows):
        return mine.frames == mine.rows
    told, own, other = stored_color(context, key, mine.episode), mine.color(), there.color()
    if told is None or own is None or other is None:
        return None
    near, far = float(np.linalg.norm(told - own)), float(np.linalg.norm(told - other))
    if min(near, far) < 0.5 * max(near, far):
        return near < far
    return None


def _pair(context: CheckContext, one: Clip, other: Clip, reason: str) -> Iterator[Finding]:
    message = f"The '{one.camera.name}' videos of episodes {one.episode} and {other.episode} seem swapped: {reason}."
    # Places in a shared file, out of order: `repair` puts them one after the other again.
    in_file = one.scan.path == other.scan.path and one.camera.is_video
    fix = REPAIR if in_file and (one.span.start < other.span.start) != (one.episode < other.episode) else None
    for clip in (one, other):
        yield context.finding("video-swapped", message, fix=fix, **clip.place)
