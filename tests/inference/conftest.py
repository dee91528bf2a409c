"""A tiny policy for the shared tiny recording, as an object and as a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from smolpilot.datasets import open_dataset
from smolpilot.smolvla import Policy, new_policy, save_bundle


@pytest.fixture(scope="session")
def policy(tiny_dataset: Path) -> Policy:
    policy = new_policy("tiny", meta=open_dataset(tiny_dataset).meta, device="cpu")
    with torch.no_grad():
        for parameter in policy.model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(2)  # so that every input matters
    return policy


@pytest.fixture(scope="session")
def bundle(policy: Policy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundles") / "tiny"
    save_bundle(policy, path)
    return path


@pytest.fixture(scope="session")
def frames(tiny_dataset: Path) -> list[dict[str, Any]]:
    """Three recorded frames of two instructions."""
    dataset = open_dataset(tiny_dataset)
    return [dict(dataset[row]) for row in (3, 9, 25)]
