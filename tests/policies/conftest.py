"""Fixtures for tests of policies behind the contract: what a dataset tells them, and recorded observations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smolpilot.contracts import Embodiment
from smolpilot.datasets import open_dataset
from smolpilot.datasets.stored_statistics import exact_statistics
from smolpilot.keys import STATE, TASK, image_key


@pytest.fixture(scope="session")
def embodiment(tiny_dataset: Path) -> Embodiment:
    """The tiny dataset, as policies that bring no robot see it."""
    dataset = open_dataset(tiny_dataset)
    meta = dataset.meta
    return Embodiment(
        owner="the dataset",
        cameras=tuple(meta.camera_names),
        state_names=tuple(meta.state_names),
        action_names=tuple(meta.action_names),
        rate=meta.fps,
        statistics=exact_statistics(dataset),
    )


@pytest.fixture(scope="session")
def observations(tiny_dataset: Path) -> list[dict[str, Any]]:
    """Three recorded frames of two instructions."""
    dataset = open_dataset(tiny_dataset)
    return [
        {
            STATE: np.asarray(dataset.states[row], dtype=np.float32),
            **{image_key(camera): image for camera, image in dataset.images(row).items()},
            TASK: dataset.instruction(row),
        }
        for row in (3, 9, 25)
    ]
