"""Videos: frames per episode and file, decoding, containers against declarations, exchanged videos."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import numpy.typing as npt

from smolpilot.datasets.audit.check_structure import rate as declared_rate
from smolpilot.datasets.audit.findings import Finding
from smolpilot.datasets.audit.footage import Clip
from smolpilot.datasets.audit.scanning import RATE_TOLERANCE
from smolpilot.datasets.audit.subject import Subject

_ALIASES = {
    "libx264": "h264",
    "avc": "h264",
    "avc1": "h264",
    "h.264": "h264",
    "libx265": "hevc",
    "h265": "hevc",
    "hvc1": "hevc",
    "h.265": "hevc",
    "libsvtav1": "av1",
    "libaom-av1": "av1",
    "libdav1d": "av1",
    "av01": "av1",
    "mp4v": "mpeg4",
}


def files(subject: Subject) -> Iterator[Finding]:
    """Files that cannot be opened or decoded, by episode."""
    for clip in _clips(subject):
        scan, name = clip.scan, clip.camera.name
        where = subject.recording.relative(scan.path)
        place = {"episode": clip.episode, "camera": name}
        if not len(scan.times):
            yield subject.finding("video-torn", f"{where} cannot be opened: {scan.problem or 'it is empty'}.", **place)
            continue
        inside = scan.decoded[clip.first : clip.last]
        if not inside.all():
            frame = int(np.flatnonzero(~inside)[0])
            code = "video-undecodable" if clip.camera.is_video else "picture-undecodable"
            message = (
                f"{int((~inside).sum())} of {len(inside)} frames of episode {clip.episode} in {where} do not decode."
            )
            yield subject.finding(code, message, frame=frame, **place)


def counts(subject: Subject) -> Iterator[Finding]:
    """As many frames as rows in each episode; no episode on another one's frames."""
    half = 0.5 / subject.fps
    for clip in _clips(subject):
        scan = clip.scan
        if not clip.camera.is_video or not len(scan.times):
            continue
        where, name = subject.recording.relative(scan.path), clip.camera.name
        place = {"episode": clip.episode, "camera": name}
        known = clip.episode in subject.recording.rows
        start = clip.span.start
        beyond = start > scan.times[-1] + half
        if subject.recording.version == "v3.0" and not beyond and abs(scan.times[clip.first] - start) > half / 2:
            message = f"Episode {clip.episode} starts at {start:.3f} s in {where}, between two frames."
            yield subject.finding("video-span", message, **place)
        if clip.frames < clip.rows or beyond:
            frames = 0 if beyond else clip.frames
            message = (
                f"Camera '{name}' has {frames} frames for the {clip.rows} rows of episode {clip.episode} ({where})."
            )
            # Cut off by the next episode's start, or by the end of the file?
            code = "video-span" if clip.last < len(scan.times) and not beyond else "video-short"
            yield subject.finding(code, message, frame=frames, **place)
        elif clip.frames > clip.rows and known:
            both = f"{clip.frames} frames for the {clip.rows} rows of episode {clip.episode}"
            message = f"Camera '{name}' has {both} ({where})."
            yield subject.finding("video-long", message, frame=clip.rows, **place)
        stop = clip.span.stop
        if stop is not None and clip.rows and abs(stop - start - clip.rows / subject.fps) > half:
            message = (
                f"The video of episode {clip.episode} should end at {stop:.3f} s, but its {clip.rows} rows end at "
                f"{start + clip.rows / subject.fps:.3f} s ('{name}')."
            )
            yield subject.finding("video-span", message, severity="warning", **place)


def containers(subject: Subject) -> Iterator[Finding]:
    """Codec, pixel format, size and rate as declared, and the same in all files of a camera."""
    recording = subject.recording
    for key, camera in recording.video_cameras.items():
        clips = [clip for clip in subject.footage.of(key) if len(clip.scan.times)]
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
                    yield subject.finding("video-mixed", message, episode=episode, camera=camera.name)
        if usual is not None:
            yield from _declared(subject, camera.name, camera.declared, usual)
        for clip in clips:
            size = (clip.scan.height, clip.scan.width)
            if camera.size is not None and size != camera.size:
                message = f"Camera '{camera.name}' is {size[1]}x{size[0]} in episode {clip.episode}, "
                message += f"declared are {camera.size[1]}x{camera.size[0]}."
                yield subject.finding("video-size", message, episode=clip.episode, camera=camera.name)
        stated, rates = declared_rate(camera.declared.get("video.fps")), [c.scan.rate for c in clips if c.scan.rate > 0]
        found = float(np.median(rates)) if rates else None
        if stated is not None and found is not None and abs(found / stated - 1) > RATE_TOLERANCE:
            message = f"Camera '{camera.name}' is declared with {stated:g} fps; its videos have {found:g}."
            yield subject.finding("video-rate", message, camera=camera.name)


def steps(subject: Subject) -> Iterator[Finding]:
    """Frames at constant steps, and a key frame at each episode's start."""
    for clip in _clips(subject):
        if not clip.camera.is_video or clip.frames < 2 or not len(clip.scan.times):
            continue
        times = clip.scan.times[clip.first : clip.first + min(clip.frames, clip.rows or clip.frames)]
        place = {"episode": clip.episode, "camera": clip.camera.name}
        off = np.abs(np.diff(times) - 1 / subject.fps)
        # A container's clock ticks: half a per cent of a step is rounding.
        bad = np.flatnonzero(off > max(1e-3, 0.005 / subject.fps))
        if len(bad):
            frame = int(bad[0]) + 1
            message = (
                f"Camera '{clip.camera.name}', episode {clip.episode}: {1000 * (times[frame] - times[frame - 1]):.1f} "
                f"ms from frame {frame - 1} to {frame}, expected {1000 / subject.fps:.1f} ms ({len(bad)} such steps)."
            )
            yield subject.finding("video-grid", message, frame=frame, **place)
        if not clip.scan.keys[clip.first]:
            message = f"Episode {clip.episode} does not begin with a key frame in camera '{clip.camera.name}'."
            yield subject.finding("video-keyframe", message, frame=0, **place)


def swapped(subject: Subject) -> Iterator[Finding]:
    """Videos of two episodes exchanged: told by their numbers of frames, or by the stored picture statistics."""
    named: set[tuple[int, int]] = set()
    for key, camera in subject.recording.cameras.items():
        clips = [clip for clip in subject.footage.of(key) if clip.frames and clip.episode in subject.recording.rows]
        odd = [clip for clip in clips if clip.frames != clip.rows and clip.camera.is_video]
        for one, other in combinations(odd[:200], 2):
            if one.frames == other.rows and other.frames == one.rows and subject.recording.version != "v3.0":
                named.add((one.episode, other.episode))
                reason = f"{one.frames} frames for {one.rows} rows and {other.frames} for {other.rows}"
                yield from _pair(subject, one, other, reason)
        for one, other in _swapped_colours(subject, key, clips):
            if (one.episode, other.episode) not in named:
                reason = f"the stored picture statistics of each fit the video of the other (camera '{camera.name}')"
                yield from _pair(subject, one, other, reason)
    yield from _swapped_cameras(subject)
    if subject.recording.version == "v3.0":
        yield from _out_of_order(subject)


def _out_of_order(subject: Subject) -> Iterator[Finding]:
    """In joined files recorders and LeRobot put episodes one after the other: two that are exchanged stand out."""
    for key, camera in subject.recording.video_cameras.items():
        clips = [clip for clip in subject.footage.of(key) if len(clip.scan.times)]
        places = [(str(clip.scan.path), clip.span.start) for clip in clips]
        wrong = [i for i, (found, expected) in enumerate(zip(places, sorted(places), strict=True)) if found != expected]
        for i in wrong if len(wrong) <= max(2, len(clips) // 4) else []:
            message = f"The '{camera.name}' video of episode {clips[i].episode} is not in the order of the episodes."
            yield subject.finding("video-swapped", message, episode=clips[i].episode, camera=camera.name)


def _pair(subject: Subject, one: Clip, other: Clip, reason: str) -> Iterator[Finding]:
    message = f"The '{one.camera.name}' videos of episodes {one.episode} and {other.episode} seem exchanged: {reason}."
    for clip in (one, other):
        yield subject.finding("video-swapped", message, episode=clip.episode, camera=clip.camera.name)


def stored_colour(subject: Subject, key: str, episode: int) -> npt.NDArray[np.float64] | None:
    """The mean red, green, blue that the episode's stored statistics state."""
    mean = subject.recording.records[episode].statistics.get(key, {}).get("mean")
    if mean is None or mean.size != 3 or not np.isfinite(mean).all():
        return None
    return mean.reshape(3)


def _swapped_colours(subject: Subject, key: str, clips: list[Clip]) -> Iterator[tuple[Clip, Clip]]:
    known = [(clip, clip.colour(), stored_colour(subject, key, clip.episode)) for clip in clips]
    pairs = [(clip, seen, told) for clip, seen, told in known if seen is not None and told is not None]
    if len(pairs) < 3:
        return
    # Sampling and colour conversion shift all episodes alike: only what is left tells them apart.
    seen = np.array([pair[1] for pair in pairs])
    told = np.array([pair[2] for pair in pairs])
    told = told - np.median(told - seen, axis=0)
    apart = np.linalg.norm(told[:, None] - seen[None], axis=2)
    odd = np.flatnonzero(np.diag(apart) > 0.012)
    for i, j in combinations(odd.tolist(), 2):
        if max(apart[i, j], apart[j, i]) < 0.25 * min(apart[i, i], apart[j, j]):
            yield pairs[i][0], pairs[j][0]


def _swapped_cameras(subject: Subject) -> Iterator[Finding]:
    recording = subject.recording
    for one, other in combinations(recording.video_cameras.values(), 2):
        for episode in recording.episodes:
            clips = [subject.footage.clips.get((camera.key, episode)) for camera in (one, other)]
            told = [stored_colour(subject, camera.key, episode) for camera in (one, other)]
            seen = [clip.colour() if clip is not None and clip.frames else None for clip in clips]
            if any(value is None for value in (*told, *seen)):
                continue
            straight = [float(np.linalg.norm(told[i] - seen[i])) for i in (0, 1)]  # type: ignore[operator]
            crossed = [float(np.linalg.norm(told[i] - seen[1 - i])) for i in (0, 1)]  # type: ignore[operator]
            if min(straight) > 0.03 and max(crossed) < 0.25 * min(straight):
                message = (
                    f"Cameras '{one.name}' and '{other.name}' seem exchanged in episode {episode}: the stored picture "
                )
                message += "statistics of each fit the video of the other."
                for camera in (one, other):
                    yield subject.finding("video-swapped", message, episode=episode, camera=camera.name)


def _declared(
    subject: Subject, name: str, declared: dict[str, object], kind: tuple[str, str, int, int]
) -> Iterator[Finding]:
    codec, pixels = declared.get("video.codec"), declared.get("video.pix_fmt")
    if isinstance(codec, str) and plain_codec(codec) != plain_codec(kind[0]):
        yield subject.finding(
            "video-codec", f"Camera '{name}' is declared as {codec}, its videos are {kind[0]}.", camera=name
        )
    if isinstance(pixels, str) and pixels != kind[1]:
        message = f"Camera '{name}' is declared with pixel format {pixels}, its videos have {kind[1]}."
        yield subject.finding("video-codec", message, camera=name)


def plain_codec(codec: str) -> str:
    """One name for a codec, whatever encoder or tag it is declared by: `libsvtav1` and `av01` are `av1`."""
    return _ALIASES.get(codec.lower(), codec.lower())


def _words(kind: tuple[str, str, int, int]) -> str:
    return f"{kind[0]} {kind[1]} {kind[2]}x{kind[3]}"


def _clips(subject: Subject) -> Iterator[Clip]:
    for _, clip in sorted(subject.footage.clips.items()):
        yield clip
