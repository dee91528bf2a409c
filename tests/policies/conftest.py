"""Fixtures for tests of policies behind the contract: what a dataset tells them, and recorded observations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from smolpilot.common.keys import STATE, TASK, image_key
from smolpilot.contracts import Embodiment
from smolpilot.datasets import open_dataset
from smolpilot.datasets.statistics.stored_statistics import exact_statistics
from smolpilot.inference.export.exporting import export_policy
from smolpilot.smolvla import Policy as SmolVLAPolicy
from smolpilot.smolvla import new_policy


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


@pytest.fixture(scope="session")
def smolvla(tiny_dataset: Path) -> SmolVLAPolicy:
    """A tiny SmolVLA for the tiny dataset, in which every input matters."""
    policy = new_policy("tiny", meta=open_dataset(tiny_dataset).meta, device="cpu")
    with torch.no_grad():
        for parameter in policy.model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(2)
    return policy


@pytest.fixture(scope="session")
def exported(smolvla: SmolVLAPolicy, observations: list[dict[str, Any]], tmp_path_factory: Any) -> Path:
    """Its export, float32; not to be changed."""
    folder: Path = tmp_path_factory.mktemp("exported") / "out"
    export_policy(smolvla, folder, observations[:1])
    return folder
