"""SmolVLA in plain PyTorch, its transforms and its checkpoints.

The names below load on first use, so that the torch-free modules of this package (`config`, `presets`) stay light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from .checkpoint.bundle import localize, save_bundle
    from .checkpoint.load_report import LoadReport
    from .checkpoint.loading import load_policy, seal_bundle
    from .config import PolicyConfig, VLMConfig
    from .create import adapt_policy, new_policy
    from .network.inputs import PolicyInputs
    from .network.model import SmolVLA
    from .policy import Policy
    from .presets import PRESETS, preset
    from .transforms.base import Transform
    from .transforms.instruction import UntrainedInstructionWarning
    from .transforms.joints import FrameLayout
    from .transforms.tokenizer import PolicyTokenizer
    from .transforms.transform_list import Transforms

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
        "checkpoint.bundle": ["localize", "save_bundle"],
        "config": ["PolicyConfig", "VLMConfig"],
        "create": ["adapt_policy", "new_policy"],
        "network.inputs": ["PolicyInputs"],
        "transforms.instruction": ["UntrainedInstructionWarning"],
        "transforms.joints": ["FrameLayout"],
        "checkpoint.loading": ["load_policy", "seal_bundle"],
        "network.model": ["SmolVLA"],
        "transforms.base": ["Transform"],
        "policy": ["Policy"],
        "presets": ["PRESETS", "preset"],
        "checkpoint.load_report": ["LoadReport"],
        "transforms.tokenizer": ["PolicyTokenizer"],
        "transforms.transform_list": ["Transforms"],
    },
)
