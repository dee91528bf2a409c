"""Batch, micro-batch and dtype by the size of a GPU, where they are not given.

What a preset is made of (450 M parameters, 100 M of them trained, prefix cache): weights 1.8 GB in float32, of which
the vision tower and the embeddings leave the GPU while the cache serves; gradients 0.4 GB; AdamW 0.8 GB. The rest is
for activations: about a quarter of a GB per sample in float32, about 0.15 GB in bfloat16.
"""

from __future__ import annotations

from typing import Any, Literal

from smolpilot.common.option_types import AUTO

Memory = Literal["8", "12", "24", "80", "cpu"]
PRESETS: dict[str, dict[str, Any]] = {
    "8": {"batch_size": 32, "micro_batch": 8, "dtype": "bfloat16"},
    "12": {"batch_size": 32, "micro_batch": 16, "dtype": "bfloat16"},
    "24": {"batch_size": 64, "micro_batch": 32, "dtype": "bfloat16"},
    "80": {"batch_size": 64, "micro_batch": 64, "dtype": "bfloat16"},
    "cpu": {"batch_size": 8, "micro_batch": 8, "dtype": "float32"},
}
PUBLISHED_BATCH = 64  # SmolVLA's fine-tuning recipe: the effective batch of --batch-size auto
_TINY_BATCH = 32


def fill_memory(memory: str | None, given: dict[str, Any], *, tiny: bool) -> dict[str, Any]:
    """Batch, micro-batch and dtype where they were not given: by the preset, for `auto`, or by the network.

    A given batch is kept: the preset then only limits what goes through the network at once.
    """
    preset = PRESETS.get(memory or "", {})
    batch, micro, dtype = given["batch_size"], given["micro_batch"], given["dtype"]
    if batch == AUTO:
        batch, micro = (_TINY_BATCH if tiny else PUBLISHED_BATCH), micro or AUTO
    elif batch is None:
        batch = preset.get("batch_size", 32 if tiny else 8)
    if micro is None and preset:
        micro = min(preset["micro_batch"], batch)
    return {"batch_size": batch, "micro_batch": micro, "dtype": dtype or preset.get("dtype", "float32")}
