"""SmolVLA in plain PyTorch, its transforms and its checkpoints.

The names below load on first use, so that the torch-free modules of this package (`config`, `presets`) stay light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .config import PolicyConfig, VLMConfig
    from .inputs import PolicyInputs
    from .joints import FrameLayout
    from .model import SmolVLA
    from .presets import PRESETS, preset
    from .tokenizer import PolicyTokenizer
    from .transforms import Transforms

__all__ = [
    "PRESETS",
    "FrameLayout",
    "PolicyConfig",
    "PolicyInputs",
    "PolicyTokenizer",
    "SmolVLA",
    "Transforms",
    "VLMConfig",
    "preset",
]

_HOMES = {
    "PRESETS": "presets",
    "FrameLayout": "joints",
    "PolicyConfig": "config",
    "PolicyInputs": "inputs",
    "PolicyTokenizer": "tokenizer",
    "SmolVLA": "model",
    "Transforms": "transforms",
    "VLMConfig": "config",
    "preset": "presets",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
