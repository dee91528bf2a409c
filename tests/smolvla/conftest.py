"""Fixtures for tests of policies: one saved bundle, and copies of it that tests may change."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from smolpilot.datasets import open_dataset
from smolpilot.smolvla import new_policy, save_bundle


@pytest.fixture(scope="session")
def saved(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory, unsealed: Callable[[Path], Path]) -> Path:
    """A tiny policy as a bundle without digests; not to be changed."""
    policy = new_policy("tiny", meta=open_dataset(tiny_dataset).meta, seed=3, device="cpu")
    return unsealed(save_bundle(policy, tmp_path_factory.mktemp("saved") / "bundle"))


@pytest.fixture
def bundle(saved: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return Path(shutil.copytree(saved, tmp_path / "bundle"))
