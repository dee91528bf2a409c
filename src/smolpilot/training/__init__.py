"""Training: from a dataset to a run folder with checkpoints. `train` loads torch only when it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .options import TrainOptions

if TYPE_CHECKING:
    from .interrupts import TrainingStoppedError
    from .run import train

__all__ = ["TrainOptions", "TrainingStoppedError", "train"]

_HOMES = {"train": "run", "TrainingStoppedError": "interrupts"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'smolpilot.training' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(f"smolpilot.training.{_HOMES[name]}"), name)
