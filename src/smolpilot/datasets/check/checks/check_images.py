"""What the cameras show: black, frozen, suddenly brighter; and the stored image statistics."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from smolpilot.common.keys import STATE
from smolpilot.datasets.check.context import CheckContext
from smolpilot.datasets.check.scan.video_scans import Clip
from smolpilot.datasets.tolerant.findings import Finding
from smolpilot.datasets.tolerant.found_dataset import Camera

from .check_numbers import longest_run
from .check_statistics import larger_set
from .check_swapped import stored_color

_BLACK_PEAK = 30.0
_FROZEN_S = 2.0
_MOVED = 0.1
_JUMP = 40.0
_SPREAD = 50.0
_COLOR = 0.04


def black(context: CheckContext) -> Iterator[Finding]:
    """Stretches without a lit spot."""
    for clip in _clips(context):
        dark = clip.peak() <= _BLACK_PEAK
        if not dark.any():
            continue
        first, length = longest_run(dark)
        if dark.mean() > 0.9:
            message = f"Camera '{clip.camera.name}' is black in episode {clip.episode}."
            yield context.finding("camera-black", message, frame=first, **clip.place)
        elif length >= max(3, 0.2 * context.fps):
            last = first + length - 1
            message = f"Camera '{clip.camera.name}' is black from frame {first} to {last} of episode {clip.episode}."
            yield context.finding("camera-black", message, severity="warning", frame=first, **clip.place)


def frozen(context: CheckContext) -> Iterator[Finding]:
    """The same image for long while the joints move."""
    states = dict(context.dataset.values(STATE))
    whole = context.dataset.stacked(STATE)
    if not len(whole):
        return
    reach = np.nanmax(whole, axis=0) - np.nanmin(whole, axis=0)
    for clip in _clips(context):
        values = states.get(clip.episode)
        if values is None or clip.frames < 2 or np.nanmax(clip.peak()) <= _BLACK_PEAK:
            continue
        since = clip.scan.look.still_since[clip.first : clip.last] - clip.first
        still = np.arange(len(since)) - np.maximum(since, 0)
        last = int(still.argmax())
        first, length = last - int(still[last]), int(still[last]) + 1
        long_enough = length >= _FROZEN_S * context.fps or (length >= context.fps and length > 0.5 * clip.frames)
        part = values[first : last + 1]
        if not long_enough or len(part) < 2:
            continue
        with np.errstate(invalid="ignore", divide="ignore"):
            moved = np.nanmax((part.max(axis=0) - part.min(axis=0)) / np.where(reach > 0, reach, np.nan), initial=0.0)
        if moved > _MOVED:
            message = (
                f"Camera '{clip.camera.name}' shows the same image from frame {first} to {last} of episode "
                f"{clip.episode} ({length / context.fps:.1f} s) while a joint moves {100 * moved:.0f} % of its range."
            )
            yield context.finding("camera-frozen", message, frame=first, **clip.place)


def exposure(context: CheckContext) -> Iterator[Finding]:
    """Brightness that jumps within an episode, and episodes far from the others."""
    for key, camera in _color_cameras(context):
        means: dict[int, float] = {}
        for clip in context.video_scans.of(key):
            light = clip.light()
            light = light[np.isfinite(light)]
            if len(light) < 2 or clip.peak().max(initial=0) <= _BLACK_PEAK:
                continue
            means[clip.episode] = float(light.mean())
            steps = np.abs(np.diff(light))
            frame = int(steps.argmax()) + 1
            # Black frames are named by their own code.
            if steps.max() > _JUMP and min(clip.peak()[frame - 1 : frame + 1]) > _BLACK_PEAK:
                message = (
                    f"Camera '{camera.name}' goes from brightness {light[frame - 1]:.0f} to {light[frame]:.0f} (of "
                    f"255) at frame {frame} of episode {clip.episode}."
                )
                yield context.finding("exposure-jump", message, frame=frame, **clip.place)
        usual = float(np.median(list(means.values()))) if means else 0.0
        for episode, mean in means.items():
            if abs(mean - usual) > _SPREAD:
                message = f"Camera '{camera.name}' has brightness {mean:.0f} in episode {episode}, {usual:.0f} usually."
                yield context.finding("exposure-spread", message, episode=episode, camera=camera.name)


def shapes(context: CheckContext) -> Iterator[Finding]:
    """Images in the tables of another size or number of channels than declared: no batch can be made of them."""
    for clip in context.video_scans.color():
        size = clip.camera.size
        if clip.camera.is_video or size is None or not clip.frames:
            continue
        found = clip.scan.shapes[clip.first : clip.last]
        wrong = np.flatnonzero((found != (*size, 3)).any(axis=1) & (found > 0).any(axis=1))
        if len(wrong):
            frame = int(wrong[0])
            height, width, channels = found[frame].tolist()
            message = (
                f"The image of camera '{clip.camera.name}' at frame {frame} of episode {clip.episode} is "
                f"{width}x{height} with {channels} channels; declared are {size[1]}x{size[0]} with 3."
            )
            yield context.finding("video-size", message, frame=frame, **clip.place)


def statistics(context: CheckContext) -> Iterator[Finding]:
    """The stored mean of each color against the video's."""
    dataset = context.dataset
    for key, camera in _color_cameras(context):
        clips = [clip for clip in context.video_scans.of(key) if clip.frames]
        for clip in clips:
            seen, told = clip.color(), stored_color(context, key, clip.episode)
            if seen is not None and told is not None and np.abs(seen - told).max() > _COLOR:
                message = _differ(f"episode {clip.episode}", camera.name, told, seen)
                yield context.finding("statistics-pictures", message, **clip.place)
        if larger_set(context) is not None:
            continue
        told = dataset.statistics.get(key, {}).get("mean")
        parts = [(clip.color(), clip.frames) for clip in clips]
        known = [(color, frames) for color, frames in parts if color is not None]
        if told is None or told.size != 3 or not known or len(known) < len(dataset.episodes):
            continue
        seen = np.average([color for color, _ in known], axis=0, weights=[frames for _, frames in known])
        if np.abs(seen - told.reshape(3)).max() > _COLOR:
            yield context.finding(
                "statistics-pictures", _differ("the dataset", camera.name, told, seen), camera=camera.name
            )


def _color_cameras(context: CheckContext) -> list[tuple[str, Camera]]:
    return [(key, camera) for key, camera in context.dataset.cameras.items() if camera.color]


def _differ(where: str, camera: str, told: npt.NDArray[np.float64], seen: npt.NDArray[np.float64]) -> str:
    words = [", ".join(f"{value:.2f}" for value in values.reshape(-1)) for values in (told, seen)]
    return f"The stored mean color of camera '{camera}' in {where} is {words[0]}; the images have {words[1]}."


def _clips(context: CheckContext) -> Iterator[Clip]:
    for clip in context.video_scans.color():
        if clip.frames and np.isfinite(clip.peak()).any():
            yield clip
