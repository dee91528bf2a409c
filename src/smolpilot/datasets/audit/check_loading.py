"""Whether every sample loads: smolpilot's own reader opens the folder, and each row's frame was decoded."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from smolpilot.datasets.audit.findings import Finding
from smolpilot.datasets.audit.subject import Subject
from smolpilot.datasets.reader import open_dataset
from smolpilot.errors import SmolpilotError


def samples(subject: Subject) -> Iterator[Finding]:
    """Open as for training, match every row with its frame, and look up whether the scan decoded that frame."""
    root = subject.recording.root
    try:
        dataset = open_dataset(root)
        dataset.check_videos()
    except SmolpilotError as error:
        text = error.found.replace(f"{root}/", "").replace(str(root), "the dataset")
        yield subject.finding("sample-unloadable", f"smolpilot's reader refuses the dataset: {text}")
        return
    for (_, episode), clip in sorted(subject.footage.clips.items()):
        inside = clip.scan.decoded[clip.first : clip.first + clip.rows]
        if not inside.all():
            frame = int(np.flatnonzero(~inside)[0])
            message = f"Sample {frame} of episode {episode} has no picture of camera '{clip.camera.name}'."
            yield subject.finding("sample-unloadable", message, episode=episode, frame=frame, camera=clip.camera.name)
