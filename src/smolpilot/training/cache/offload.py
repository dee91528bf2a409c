"""The parts of a network that a frame cache stands in for: they leave the GPU while it serves."""

from __future__ import annotations

import torch
from torch import nn

from smolpilot.smolvla import SmolVLA

from .frame_cache import Kind


def idle_parts(model: SmolVLA, kind: Kind) -> dict[str, nn.Module]:
    """What no step needs whose frames come from a cache of this kind: the vision tower; with keys and values also the
    token embeddings (the text layers still run the state token)."""
    parts: dict[str, nn.Module] = {"vision": model.vision, "connector": model.connector}
    if kind == "prefix":
        parts["text.embed_tokens"] = model.text.embed_tokens
    return parts


def offload(model: SmolVLA, kind: Kind, *, away: str = "cpu") -> float:
    """Move the idle parts `away` from a GPU; returns the freed memory in GB (0 when they are there already)."""
    freed = 0.0
    for part in idle_parts(model, kind).values():
        for tensor in [*part.parameters(), *part.buffers()]:
            freed += tensor.numel() * tensor.itemsize / 1e9 if tensor.device.type != away else 0.0
        part.to(away)
    if freed and torch.cuda.is_available():
        torch.cuda.empty_cache()
    return freed
