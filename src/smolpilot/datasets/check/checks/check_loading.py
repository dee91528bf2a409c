"""Whether samples load: smolpilot's own reader opens the folder and gives the first and last frame of episodes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import numpy as np

from smolpilot.common.errors import SmolpilotError
from smolpilot.datasets.check.context import CheckContext
from smolpilot.datasets.read.reader import Dataset, open_dataset
from smolpilot.datasets.tolerant.findings import Finding

# Of so many episodes, spread over the dataset, samples are loaded: every frame has been decoded before.
_EPISODES = 64


def samples(context: CheckContext) -> Iterator[Finding]:
    """Open as for training, load real samples with their images and instructions, look up what the scan decoded."""
    root = context.dataset.root
    try:
        with closing(open_dataset(root)) as opened:
            opened.check_videos(images=False)  # the scan has seen them all
            yield from _loaded(context, opened)
    except SmolpilotError as error:
        text = error.found.replace(f"{root}/", "").replace(str(root), "the dataset")
        yield context.finding("sample-unloadable", f"smolpilot's reader refuses the dataset: {text}")
        return
    for clip in context.video_scans.color():
        inside = clip.scan.decoded[clip.first : clip.first + clip.rows]
        if not clip.camera.is_video and clip.camera.size is not None:
            shapes = clip.scan.shapes[clip.first : clip.first + clip.rows]
            inside = inside & (shapes[:, :2] == clip.camera.size).all(axis=1)
        if not inside.all():
            frame = int(np.flatnonzero(~inside)[0])
            message = f"Sample {frame} of episode {clip.episode} has no image of camera '{clip.camera.name}' to batch."
            yield context.finding("sample-unloadable", message, frame=frame, **clip.place)


def _loaded(context: CheckContext, opened: Dataset) -> Iterator[Finding]:
    """The first and the last frame of episodes, as training takes them: images, numbers, the recorded instruction."""
    numbers = opened.episode_index
    episodes, starts = np.unique(numbers, return_index=True)
    stops = np.append(starts[1:], len(numbers))
    chosen = np.unique(np.linspace(0, len(episodes) - 1, min(len(episodes), _EPISODES)).astype(int))
    for place in chosen.tolist():
        episode = int(episodes[place])
        for i in sorted({int(starts[place]), int(stops[place]) - 1}):
            frame = i - int(starts[place])
            try:
                opened.images(i)
                opened.chunk(i)
                text = opened.instruction(i)
            except SmolpilotError as error:
                message = f"Sample {frame} of episode {episode} does not load: {error.found}"
                yield context.finding("sample-unloadable", message, episode=episode, frame=frame)
                continue
            recorded = context.dataset.task_at(episode, frame)
            if recorded is not None and text != recorded:
                message = f'Sample {frame} of episode {episode} has the instruction "{text}", recorded is "{recorded}".'
                yield context.finding("sample-unloadable", message, episode=episode, frame=frame)
