"""SmolVLA in plain PyTorch, its transforms and its checkpoints.

The names below load on first use, so that the torch-free modules of this package (`config`, `presets`) stay light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .bundle import localize, save_bundle
    from .config import PolicyConfig, VLMConfig
    from .create import adapt_policy, new_policy
    from .inputs import PolicyInputs
    from .instruction import UntrainedInstructionWarning
    from .joints import FrameLayout
    from .loading import load_policy
    from .model import SmolVLA
    from .policy import Policy
    from .presets import PRESETS, preset
    from .report import LoadReport
    from .tokenizer import PolicyTokenizer
    from .transforms import Transforms

__all__ = [
    "PRESETS",
    "FrameLayout",
    "LoadReport",
    "Policy",
    "PolicyConfig",
    "PolicyInputs",
    "PolicyTokenizer",
    "SmolVLA",
    "Transforms",
    "UntrainedInstructionWarning",
    "VLMConfig",
    "adapt_policy",
    "load_policy",
    "localize",
    "new_policy",
    "preset",
    "save_bundle",
]

_HOMES = {
    "PRESETS": "presets",
    "FrameLayout": "joints",
    "LoadReport": "report",
    "Policy": "policy",
    "PolicyConfig": "config",
    "PolicyInputs": "inputs",
    "PolicyTokenizer": "tokenizer",
    "SmolVLA": "model",
    "Transforms": "transforms",
    "UntrainedInstructionWarning": "instruction",
    "VLMConfig": "config",
    "adapt_policy": "create",
    "load_policy": "loading",
    "localize": "bundle",
    "new_policy": "create",
    "preset": "presets",
    "save_bundle": "bundle",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
