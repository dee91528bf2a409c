"""The dataset of a robot run: made-up run folders, with all that may be missing in them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from smolpilot.common.errors import DatasetError, RunLogError
from smolpilot.common.keys import image_key
from smolpilot.contracts.run_folder import EPISODES, FRAMES, LOG, ROBOT, EpisodeEnd, frame_file
from smolpilot.contracts.run_log import Tick
from smolpilot.datasets import open_dataset
from smolpilot.datasets.dataset import Dataset
from smolpilot.evaluation.robot_runs.recorded_episodes import Recorded, write_run_dataset
from smolpilot.robots import RobotProfile

from .helpers_robot_runs import ARM, START, end, facts, header, ticks, write_run

PROFILE = RobotProfile.load("so101")
RATE = 30.0
HEIGHT, WIDTH = 48, 64


def path_of(count: int) -> npt.NDArray[np.float32]:
    """Commands [T, 6] of which each row and joint is another."""
    return np.arange(count, dtype=np.float32)[:, None] + 100 * np.arange(6, dtype=np.float32)


def camera(folder: Path, times: Sequence[float], name: str = "front") -> None:
    """Images that were captured then, seconds since START; number n is n + 1 times 10 bright."""
    for number, at in enumerate(times):
        path = frame_file(folder / FRAMES, name, START + at)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (WIDTH, HEIGHT), (10 * (number + 1),) * 3).save(path, quality=95)


def seen(made: Sequence[Tick], age: float = 0.0, name: str = "front") -> list[Tick]:
    """The same ticks, in which an image of that age was the newest one that had come."""
    return [
        dataclasses.replace(one, captured_at={**one.captured_at, image_key(name): one.sent.sent_at - age})
        for one in made
    ]


def run(
    folder: Path, made: Sequence[Tick], ends: Sequence[EpisodeEnd], *, rate: float = RATE, cameras: tuple[str, ...] = (),
    **said: Any,
) -> Recorded:
    """Write the folder of a run, and its dataset."""
    values = {"profile": "so101", "policy_rate": RATE} | said
    write_run(folder, made, ends, facts(rate=rate, joints=ARM, cameras=cameras, **values),
              header(ARM, rate=rate, cameras=cameras))  # fmt: skip
    (folder / ROBOT).write_text(PROFILE.to_yaml(), encoding="utf-8")
    return write_run_dataset(folder)


def frames_of(dataset: Dataset, column: str) -> npt.NDArray[np.float32]:
    return np.stack([dataset[i][column].numpy() for i in range(len(dataset))])
