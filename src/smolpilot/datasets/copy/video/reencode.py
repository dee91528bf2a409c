"""Videos that cannot be copied: a clear error, or encoded again where that is allowed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from smolpilot.common.errors import DatasetError, SmolpilotError
from smolpilot.datasets.copy.copy_plan import PlacedEpisode, runs
from smolpilot.datasets.copy.options import CopyOptions
from smolpilot.datasets.copy.proof.content_digests import BoundaryImages, ScanTask, scan
from smolpilot.datasets.copy.work import Part, WorkFolder
from smolpilot.datasets.media.encode import Codec, VideoEncoder, find_encoder
from smolpilot.datasets.media.pixels import to_rgb
from smolpilot.datasets.media.video_file import VideoFile
from smolpilot.datasets.read.media_sizes import other_size

from .packets import Clip, Span, clip_frames

if TYPE_CHECKING:
    from smolpilot.datasets.copy.proof.copy_report import CopyReport

# Mean difference of encoded to original images, of 255, above which they are not the same image.
_CLOSE = 8.0


def encode(target: Path, *, path: Path, clip: Clip, fps: float) -> dict[str, float]:
    """Decode one episode of one camera and encode it again, with a key frame at its start.

    Gives the largest mean difference of any, and of the first and last image, of 255.
    """
    codec = _codec(clip.coding.codec)
    movie = target.with_name(f"{target.name}.mp4")
    encoder = VideoEncoder(movie, width=clip.coding.width, height=clip.coding.height, fps=fps, codec=codec)
    reformatter, count = VideoReformatter(), 0
    with VideoFile(path) as video:
        # From the file's beginning: there is no key frame to jump to.
        for count, frame in enumerate(clip_frames(video, clip), 1):
            encoder.add(to_rgb(frame, reformatter), key_frame=count == 1)
    encoder.close()
    movie.replace(target)
    if count != clip.frames:
        raise DatasetError(f"Only {count} of {clip.frames} frames of {path} can be decoded.")
    return _difference(path, clip, target)


def copyable(
    placed: Sequence[PlacedEpisode],
    fps: float,
    options: CopyOptions,
    execute: Callable[[Sequence[Part], str], None],
    work: WorkFolder,
    report: CopyReport,
) -> dict[tuple[int, str], BoundaryImages]:
    """Make sure that every clip can be copied; gives the images of those that were encoded again."""
    bad = _uncopyable(placed, options)
    if not bad:
        return {}
    # Of a camera whose codec is not written here, all videos are: one camera has one codec.
    foreign = {
        camera for one, camera in bad if _codec(one.clips[camera].coding.codec) != one.clips[camera].coding.codec
    }
    if not options.reencode:
        one, camera = bad[0]
        raise DatasetError(
            f"The video of camera '{camera}' cannot be cut at episode {one.plan.episode} without encoding it again: "
            f"{one.clips[camera].problem} ({one.plan.origin.videos[camera].path}). {len(bad)} such videos in all.",
            expected="a key frame at the start of each episode",
            fix="Run again with --reencode: these episodes are decoded and encoded anew, with a small loss.",
        )
    bad = [(one, c) for one in placed for c, clip in one.clips.items() if clip.problem or c in foreign]
    for one, camera in bad:
        coding, info = one.clips[camera].coding, one.plan.source.cameras[camera]
        if info.width and (coding.width, coding.height) != (info.width, info.height):
            what = f"The video of camera '{camera}' in episode {one.plan.episode}"
            path = one.plan.origin.videos[camera].path
            raise other_size(one.plan.source, what, info, f"{coding.width}x{coding.height}", path)
    parts = [
        Part(
            f"encode {camera} {one.index}",
            # By number: a camera may be called anything.
            f"state/encoded/{list(one.clips).index(camera)}-{one.index}.mp4",
            partial(encode, path=one.plan.origin.videos[camera].path, clip=one.clips[camera], fps=fps),
        )
        for one, camera in bad
    ]
    execute(parts, "encode")
    pictures = {}
    for (one, camera), part in zip(bad, parts, strict=True):
        path = work.folder / str(part.output)
        shown = work.records[part.name]["facts"]["shown"]
        report.image_difference = max(report.image_difference, shown)
        span = Span(one.plan.episode, 0.0, None, one.clips[camera].frames)
        one.clips[camera], pictures[one.index, camera] = scan(ScanTask(path, [span], [0.0], fps))[0]
        one.encoded[camera] = path
        report.reencoded.append(f"episode {one.plan.episode}, {camera}")
    return pictures


def _uncopyable(placed: Sequence[PlacedEpisode], options: CopyOptions) -> list[tuple[PlacedEpisode, str]]:
    """Videos that cannot be copied, neither alone nor together with their neighbors."""
    found = []
    for camera in placed[0].clips if placed else ():
        for run in runs(placed, camera, options):
            if len(run) == 1 and run[0].clips[camera].problem:
                found.append((run[0], camera))
    return found


def _codec(name: str) -> Codec:
    """The codec to encode with: a video's own, where it can be written here."""
    with suppress(SmolpilotError):
        find_encoder(cast(Codec, name))
        return cast(Codec, name)
    return "h264"


def _difference(path: Path, clip: Clip, encoded: Path) -> dict[str, float]:
    """Compare all images of both videos, and refuse what is not the same scene."""
    worst, shown = 0.0, []
    with VideoFile(path) as old, VideoFile(encoded) as new:
        for number, frames in enumerate(zip(clip_frames(old, clip), new.frames(), strict=False)):
            worst = max(worst, _mean_difference(*frames, "gray"))
            if number in (0, clip.frames - 1):
                shown.append(_mean_difference(*frames, "rgb24"))
    if worst > _CLOSE:
        raise DatasetError(
            f"Encoding {path} again changed an image by {worst:.1f} of 255 on average.",
            expected=f"at most {_CLOSE:g}",
            fix="Leave the episode out.",
        )
    return {"difference": worst, "shown": max(shown)}


def _mean_difference(before: VideoFrame, after: VideoFrame, kind: str) -> float:
    one, other = (frame.to_ndarray(format=kind).astype(np.int16) for frame in (before, after))
    return float(np.abs(one - other).mean())
