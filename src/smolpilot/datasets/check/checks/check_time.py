"""Time stamps: steps, the grid of the frame rate, and the time of every decoded frame."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from smolpilot.datasets.check.context import CheckContext
from smolpilot.datasets.check.scan.scanning import RATE_TOLERANCE
from smolpilot.datasets.check.scan.video_scans import Clip, VideoScans
from smolpilot.datasets.tolerant.findings import Finding
from smolpilot.datasets.tolerant.found_dataset import FoundDataset

# LeRobot's tolerance between a row's time stamp and its video frame's.
TOLERANCE_S = 1e-4


def allowed(times: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Seconds that a row and its frame may be apart: LeRobot's tolerance, and float32's rounding late in a file."""
    spacing = np.spacing(np.abs(times).astype(np.float32)).astype(np.float64)
    found: npt.NDArray[np.float64] = TOLERANCE_S + spacing
    return found


def true_rate(dataset: FoundDataset, video_scans: VideoScans) -> float:
    """The rate that the data have: info's, unless videos and time stamps agree on another one."""
    stated = dataset.fps
    rates = [scan.rate for scan in video_scans.scans.values() if scan.rate > 0 and len(scan.times) > 1]
    video_rate = float(np.median(rates)) if rates else None
    rows = _row_rate(dataset)
    if stated is None:
        return video_rate or rows or 30.0
    same_rate = video_rate is None or abs(video_rate / stated - 1) < RATE_TOLERANCE
    if same_rate and video_rate is not None:
        return stated
    if video_rate is None:
        return rows if rows is not None and _steady(dataset, rows) else stated
    # Videos at another rate: the rows decide whose word counts.
    return video_rate if rows is not None and abs(rows / video_rate - 1) < 5e-3 else stated


def rate(context: CheckContext) -> Iterator[Finding]:
    """info's fps against the data."""
    stated = context.dataset.fps
    if stated is not None and abs(context.fps / stated - 1) > RATE_TOLERANCE:
        yield context.finding(
            "fps-mismatch", f"meta/info.json says {stated:g} fps; the data have {context.fps:g} frames per second."
        )


def grid(context: CheckContext) -> Iterator[Finding]:
    """Time stamps that increase and are frame / fps.

    Off the grid, but with the videos: then the frames themselves came unevenly, and every sample loads all the same.
    """
    for episode, times in _times(context.dataset):
        steps = np.diff(times)
        if not np.isfinite(times).all():
            frame = int(np.flatnonzero(~np.isfinite(times))[0])
            message = f"The time stamp of frame {frame} of episode {episode} is {times[frame]}."
            yield context.finding("timestamp-backwards", message, episode=episode, frame=frame)
            continue
        if len(steps) and (steps <= 0).any():
            frame = int(np.flatnonzero(steps <= 0)[0]) + 1
            steps_back = f"from {times[frame - 1]:.3f} s to {times[frame]:.3f} s"
            message = f"Time goes {steps_back} at frame {frame} of episode {episode}."
            yield context.finding("timestamp-backwards", message, episode=episode, frame=frame)
        off = np.abs(times - np.arange(len(times)) / context.fps)
        bad = np.flatnonzero(off > allowed(times))
        if len(bad):
            frame = int(bad[0])
            widest = f", the longest step {steps.max() * context.fps:.1f} frames" if len(steps) else ""
            message = (
                f"The time stamps of episode {episode} are up to {_span(off.max())} off frame / {context.fps:g} fps "
                f"from frame {frame} on ({len(bad)} of {len(times)} rows{widest})."
            )
            severity = "warning" if _with_videos(context, episode, times) else None
            yield context.finding("timestamp-off-grid", message, episode=episode, frame=frame, severity=severity)


def against_videos(context: CheckContext) -> Iterator[Finding]:
    """The time stamp of each row against the one of the video frame that is its own by count."""
    times = dict(_times(context.dataset))
    for clip in context.video_scans.all():
        episode = clip.episode
        if not clip.camera.is_video or episode not in times or not len(clip.scan.times):
            continue
        off = offsets(clip, times[episode])
        bad = np.flatnonzero(~(off <= allowed(clip.span.start + times[episode][: len(off)])))
        if not len(bad):
            continue
        frame, worst = int(bad[0]), float(np.nanmax(off))
        message = (
            f"Camera '{clip.camera.name}', episode {episode}: rows and video frames are up to {_span(worst)} apart, "
            f"from frame {frame} on ({len(bad)} of {len(off)} rows); LeRobot allows {1000 * TOLERANCE_S:g} ms."
        )
        yield context.finding("timestamp-off-video", message, frame=frame, **clip.place)


def _with_videos(context: CheckContext, episode: int, times: npt.NDArray[np.float64]) -> bool:
    found = (context.video_scans.clips.get((key, episode)) for key in context.dataset.video_cameras)
    clips = [clip for clip in found if clip is not None]
    return bool(clips) and all(
        clip.frames >= len(times) and bool((offsets(clip, times) <= allowed(clip.span.start + times)).all())
        for clip in clips
    )


def offsets(clip: Clip, times: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Seconds between row i and frame i of a clip, for as many as there are of both."""
    count = min(len(times), clip.frames)
    shown = clip.scan.times[clip.first : clip.first + count]
    return np.abs(clip.span.start + times[:count] - shown)


def _times(dataset: FoundDataset) -> Iterator[tuple[int, npt.NDArray[np.float64]]]:
    for episode, values in dataset.values("timestamp"):
        if values.shape[1] == 1:
            yield episode, values[:, 0]


def _row_rate(dataset: FoundDataset) -> float | None:
    rates = [
        (len(times) - 1) / (times[-1] - times[0])
        for _, times in _times(dataset)
        if len(times) > 1 and np.isfinite(times).all() and times[-1] > times[0]
    ]
    return float(np.median(rates)) if rates else None


def _steady(dataset: FoundDataset, rate: float) -> bool:
    """Whether most episodes' steps are all the same: a clock's would not be."""
    steady = [
        (np.abs(times - times[0] - np.arange(len(times)) / rate) < TOLERANCE_S * 5).all()
        for _, times in _times(dataset)
        if len(times) > 1
    ]
    return bool(steady) and float(np.mean(steady)) > 0.5


def _span(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 0.1 else f"{1000 * seconds:.2g} ms"
