"""Training: from a dataset to a run folder with checkpoints. `train` loads torch only when it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

from .options.train_options import TrainOptions

if TYPE_CHECKING:
    from .dispatch import train
    from .run.interrupts import TrainingStoppedError

__all__ = ["TrainOptions", "TrainingStoppedError", "train"]

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "dispatch": ["train"],
        "run.interrupts": ["TrainingStoppedError"],
    },
)
