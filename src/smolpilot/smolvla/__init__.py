"""SmolVLA in plain PyTorch, its transforms and its checkpoints.

The names below load on first use, so that the torch-free modules of this package (`config`) stay light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from smolpilot.robots.layout import FrameLayout

    from .bundle import localize, save_bundle
    from .checkpoint.load_report import LoadReport
    from .config import PRESETS, PolicyConfig, VLMConfig, preset
    from .create import adapt_policy, new_policy
    from .loading import load_policy, seal_bundle
    from .network.inputs import PolicyInputs
    from .network.model import SmolVLA
    from .policy import Policy
    from .transforms.instruction import UntrainedInstructionWarning
    from .transforms.tokenizer import PolicyTokenizer
    from .transforms.transform import Transform
    from .transforms.transform_list import Transforms, TransformsConfig

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
    "TransformsConfig",
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
        "config": ["PRESETS", "PolicyConfig", "VLMConfig", "preset"],
        "create": ["adapt_policy", "new_policy"],
        "network.inputs": ["PolicyInputs"],
        "transforms.instruction": ["UntrainedInstructionWarning"],
        "loading": ["load_policy", "seal_bundle"],
        "network.model": ["SmolVLA"],
        "transforms.joints": ["FrameLayout"],
        "transforms.transform": ["Transform"],
        "policy": ["Policy"],
        "checkpoint.load_report": ["LoadReport"],
        "transforms.tokenizer": ["PolicyTokenizer"],
        "transforms.transform_list": ["Transforms", "TransformsConfig"],
    },
)
