"""Videos: frames per episode and file, decoding, containers against declarations, exchanged videos."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from smolpilot.datasets.check.context import CheckContext
from smolpilot.datasets.check.scan.scanning import RATE_TOLERANCE
from smolpilot.datasets.check.scan.video_scans import Clip
from smolpilot.datasets.tolerant.findings import Finding

_ALIASES = {
    "h264": ("libx264", "avc", "avc1", "h.264"),
    "hevc": ("libx265", "h265", "hvc1", "h.265"),
    "av1": ("libsvtav1", "libaom-av1", "libdav1d", "av01"),
    "mpeg4": ("mp4v",),
}


def files(context: CheckContext) -> Iterator[Finding]:
    """Files that cannot be opened or decoded, by episode."""
    for clip in context.video_scans.all():
        scan = clip.scan
        where = context.dataset.relative(scan.path)
        if not len(scan.times):
            yield context.finding(
                "video-torn", f"{where} cannot be opened: {scan.problem or 'it is empty'}.", **clip.place
            )
            continue
        inside = scan.decoded[clip.first : clip.last] | _other_size(clip)
        if not inside.all():
            frame = int(np.flatnonzero(~inside)[0])
            code = "video-undecodable" if clip.camera.is_video else "picture-undecodable"
            reason = scan.refused.get(clip.first + frame, "")
            message = f"{int((~inside).sum())} of {len(inside)} frames of episode {clip.episode} in {where} do not "
            message += f"decode: {reason}." if reason else "decode."
            yield context.finding(code, message, frame=frame, **clip.place)


def _other_size(clip: Clip) -> npt.NDArray[np.bool_]:
    """The images in a table whose headers tell another size than declared: `video-size` says it of them."""
    shapes = clip.scan.shapes[clip.first : clip.last]
    if clip.camera.is_video or clip.camera.size is None or len(shapes) != clip.frames:
        return np.zeros(clip.frames, dtype=np.bool_)
    return np.asarray((shapes[:, :2] != clip.camera.size).any(axis=1) & shapes.all(axis=1), dtype=np.bool_)


def counts(context: CheckContext) -> Iterator[Finding]:
    """As many frames as rows in each episode; no episode on another one's frames."""
    half = 0.5 / context.fps
    lost = _shortest_lost(context)
    for clip in context.video_scans.all():
        scan = clip.scan
        if not clip.camera.is_video or not len(scan.times):
            continue
        where, name = context.dataset.relative(scan.path), clip.camera.name
        known = clip.episode in context.dataset.rows
        start = clip.span.start
        beyond = start > scan.times[-1] + half
        if context.dataset.format.shared_files and not beyond and abs(scan.times[clip.first] - start) > half / 2:
            message = f"Episode {clip.episode} starts at {start:.3f} s in {where}, between two frames."
            yield context.finding("video-span", message, **clip.place)
        if clip.frames < clip.rows or beyond:
            frames = 0 if beyond else clip.frames
            message = (
                f"Camera '{name}' has {frames} frames for the {clip.rows} rows of episode {clip.episode} ({where})."
            )
            # Cut off by the next episode's start, or by the end of the file?
            code = "video-span" if clip.last < len(scan.times) and not beyond else "video-short"
            yield context.finding(code, message, frame=frames, **clip.place)
        elif clip.frames > clip.rows and known and not clip.frames - clip.rows >= lost.get(clip.camera.key, np.inf):
            both = f"{clip.frames} frames for the {clip.rows} rows of episode {clip.episode}"
            message = f"Camera '{name}' has {both} ({where})."
            yield context.finding("video-long", message, frame=clip.rows, **clip.place)
        stop = clip.span.stop
        if stop is not None and clip.rows and abs(stop - start - clip.rows / context.fps) > half:
            message = (
                f"The video of episode {clip.episode} should end at {stop:.3f} s, but its {clip.rows} rows end at "
                f"{start + clip.rows / context.fps:.3f} s ('{name}')."
            )
            yield context.finding("video-span", message, severity="warning", **clip.place)


def _shortest_lost(context: CheckContext) -> dict[str, int]:
    """By camera the rows of the shortest episode whose place is not known: as many frames too many may be its own."""
    dataset = context.dataset
    lengths = {
        key: [len(dataset.rows[index]) for index in lost if index in dataset.rows]
        for key, lost in dataset.unplaced.items()
    }
    return {key: min(rows) for key, rows in lengths.items() if rows}


def containers(context: CheckContext) -> Iterator[Finding]:
    """Codec, pixel format, size and rate as declared, and the same in all files of a camera."""
    dataset = context.dataset
    for key, camera in dataset.video_cameras.items():
        clips = [clip for clip in context.video_scans.of(key) if len(clip.scan.times)]
        kinds: dict[tuple[str, str, int, int], list[int]] = {}
        for clip in clips:
            scan = clip.scan
            kinds.setdefault((scan.codec, scan.pix_fmt, scan.width, scan.height), []).append(clip.episode)
        usual = max(kinds, key=lambda kind: len(kinds[kind]), default=None)
        for kind, episodes in kinds.items():
            if kind != usual and usual is not None:
                for episode in episodes:
                    message = f"Camera '{camera.name}' is {_words(kind)} in episode {episode}, "
                    message += f"{_words(usual)} in most others."
                    yield context.finding("video-mixed", message, episode=episode, camera=camera.name)
        if usual is not None:
            yield from _declared(context, camera.name, camera.declared, usual)
        for clip in clips:
            size = (clip.scan.height, clip.scan.width)
            if camera.size is not None and size != camera.size:
                message = f"Camera '{camera.name}' is {size[1]}x{size[0]} in episode {clip.episode}, "
                message += f"declared are {camera.size[1]}x{camera.size[0]}."
                yield context.finding("video-size", message, **clip.place)
        stated, rates = camera.declared.get("video.fps"), [c.scan.rate for c in clips if c.scan.rate > 0]
        found = float(np.median(rates)) if rates else None
        if stated is not None and found is not None and abs(found / stated - 1) > RATE_TOLERANCE:
            message = f"Camera '{camera.name}' is declared with {stated:g} fps; its videos have {found:g}."
            yield context.finding("video-rate", message, camera=camera.name)


def steps(context: CheckContext) -> Iterator[Finding]:
    """Frames at constant steps, and a key frame at each episode's start."""
    for clip in context.video_scans.all():
        if not clip.camera.is_video or clip.frames < 2 or not len(clip.scan.times):
            continue
        times = clip.scan.times[clip.first : clip.first + min(clip.frames, clip.rows or clip.frames)]
        off = np.abs(np.diff(times) - 1 / context.fps)
        # A container's clock ticks: half a per cent of a step is rounding.
        bad = np.flatnonzero(off > max(1e-3, 0.005 / context.fps))
        if len(bad):
            frame = int(bad[0]) + 1
            message = (
                f"Camera '{clip.camera.name}', episode {clip.episode}: {1000 * (times[frame] - times[frame - 1]):.1f} "
                f"ms from frame {frame - 1} to {frame}, expected {1000 / context.fps:.1f} ms ({len(bad)} such steps)."
            )
            yield context.finding("video-grid", message, frame=frame, **clip.place)
        if not clip.scan.keys[clip.first]:
            message = f"Episode {clip.episode} does not begin with a key frame in camera '{clip.camera.name}'."
            yield context.finding("video-keyframe", message, frame=0, **clip.place)


def _declared(
    context: CheckContext, name: str, declared: dict[str, object], kind: tuple[str, str, int, int]
) -> Iterator[Finding]:
    codec, pixels = declared.get("video.codec"), declared.get("video.pix_fmt")
    if isinstance(codec, str) and plain_codec(codec) != plain_codec(kind[0]):
        yield context.finding(
            "video-codec", f"Camera '{name}' is declared as {codec}, its videos are {kind[0]}.", camera=name
        )
    if isinstance(pixels, str) and pixels != kind[1]:
        message = f"Camera '{name}' is declared with pixel format {pixels}, its videos have {kind[1]}."
        yield context.finding("video-codec", message, camera=name)


def plain_codec(codec: str) -> str:
    """One name for a codec, whatever encoder or tag it is declared by: `libsvtav1` and `av01` are `av1`."""
    return next((name for name, aliases in _ALIASES.items() if codec.lower() in aliases), codec.lower())


def _words(kind: tuple[str, str, int, int]) -> str:
    return f"{kind[0]} {kind[1]} {kind[2]}x{kind[3]}"
