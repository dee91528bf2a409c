"""Quiet recordings for tests of limits: demonstrations of which `dataset check` has nothing to say, to be spoiled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from smolpilot.datasets import DatasetWriter
from smolpilot.datasets.check import check_dataset
from smolpilot.datasets.tolerant.findings import Finding

from .helpers_recordings import FPS, JOINTS, Take

LENGTH = 60
TASK = "touch the red block"

type Change = Callable[[list[Take]], None]


def quiet(count: int = 10, length: int = LENGTH, *, pictures: bool = False) -> list[Take]:
    """`count` demonstrations of one instruction, longer than a chunk: every joint swings, no two swing alike."""
    made = []
    for episode in range(count):
        phase = np.linspace(0, 2 * np.pi, length + 2)[:, None] * (1 + 0.02 * episode)
        motion = np.sin(phase + 0.6 * episode + np.array([0.0, 1.1, 2.3])).astype(np.float32)
        shown: dict[str, npt.NDArray[Any]] = {}
        if pictures:
            frames = np.full((length, 32, 32, 3), 120, dtype=np.uint8)
            for i in range(length):
                x, y = (int(11 + 10 * value) for value in motion[i, :2])
                frames[i, y : y + 8, x : x + 8] = (220, 60, 60)
            shown["front"] = frames
        # What the joints do is a little less than what they were told, two frames later.
        made.append(Take(0.97 * motion[:-2], motion[2:], shown, TASK))
    return made


def written(root: Path, made: list[Take], fps: float = FPS) -> Path:
    """A v3.0 folder of demonstrations, with those cameras that they have."""
    cameras = {name: (film.shape[1], film.shape[2]) for name, film in made[0].pictures.items()}
    with DatasetWriter(root, fps=fps, state_names=JOINTS, action_names=JOINTS, cameras=cameras) as writer:
        for take in made:
            for i in range(len(take)):
                frame: dict[str, Any] = {
                    "observation.state": take.state[i],
                    "action": take.action[i],
                    "task": take.task,
                }
                writer.add_frame(
                    frame | {f"observation.images.{name}": film[i] for name, film in take.pictures.items()}
                )
            writer.end_episode()
    return root


def findings(root: Path, code: str, **options: Any) -> list[Finding]:
    return [one for one in check_dataset(root, **options).findings if one.code == code]
