"""SmolVLA in plain PyTorch, its transforms and its checkpoints.

The names below load on first use, so that the torch-free modules of this package (`config`, `presets`) stay light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from .bundle import localize, save_bundle
    from .config import PolicyConfig, VLMConfig
    from .create import adapt_policy, new_policy
    from .inputs import PolicyInputs
    from .instruction import UntrainedInstructionWarning
    from .joints import FrameLayout
    from .loading import load_policy, seal_bundle
    from .model import SmolVLA
    from .parts import Transform
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
    "Transform",
    "Transforms",
    "UntrainedInstructionWarning",
    "VLMConfig",
    "adapt_policy",
    "load_policy",
    "localize",
    "new_policy",
    "preset",
    "save_bundle",
    "seal_bundle",
]

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "bundle": ["localize", "save_bundle"],
        "config": ["PolicyConfig", "VLMConfig"],
        "create": ["adapt_policy", "new_policy"],
        "inputs": ["PolicyInputs"],
        "instruction": ["UntrainedInstructionWarning"],
        "joints": ["FrameLayout"],
        "loading": ["load_policy", "seal_bundle"],
        "model": ["SmolVLA"],
        "parts": ["Transform"],
        "policy": ["Policy"],
        "presets": ["PRESETS", "preset"],
        "report": ["LoadReport"],
        "tokenizer": ["PolicyTokenizer"],
        "transforms": ["Transforms"],
    },
)
