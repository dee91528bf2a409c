"""Tiny networks in every configuration, and inputs in which every path matters."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from smolpilot.inference.backends.backend import Backend, Guidance
from smolpilot.smolvla.config import PolicyConfig
from smolpilot.smolvla.config.presets import preset
from smolpilot.smolvla.network.inputs import PolicyInputs
from smolpilot.smolvla.network.model import SmolVLA

HORIZON, WIDTH = 12, 32

CONFIGS: dict[str, dict[str, Any]] = {
    "default": {},
    "self_attention_every_3": {"self_attn_every_n_layers": 3},
    "all_self_attention": {"attention_mode": "self_attn"},
    "all_cross_attention": {"self_attn_every_n_layers": 0},
    "fewer_expert_layers": {"self_attn_every_n_layers": 0, "num_expert_layers": 2},
    "one_expert_layer": {"self_attn_every_n_layers": -1, "num_expert_layers": 1},
    "fewer_text_layers": {"num_vlm_layers": 3},
    "prefix_length": {"prefix_length": 90},
    "special_tokens": {"add_image_special_tokens": True, "fake_image_token_id": 301, "global_image_token_id": 302},
    "other_times": {"min_period": 1e-2, "max_period": 2.0, "num_steps": 4},
    "other_image_size": {"resize_imgs_with_padding": (32, 32)},
}


def make_config(cameras: int = 2, **overrides: Any) -> PolicyConfig:
    return preset("tiny", image_shapes={f"camera{i}": (3, 64, 64) for i in range(cameras)}, **overrides)


def make_model(config: PolicyConfig, seed: int = 0) -> SmolVLA:
    """Weights wide enough that a dropped path shows, norms away from one."""
    model = SmolVLA(config)
    generator = torch.Generator().manual_seed(seed)
    model.initialize(generator)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(2)
            else:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def make_inputs(
    batch: int = 1, cameras: int = 2, *, masks: list[list[bool]] | None = None, lengths: list[int] | None = None,
    side: int = 64, seed: int = 0,
) -> PolicyInputs:  # fmt: skip
    g = torch.Generator().manual_seed(seed)
    lengths = lengths or [7] * batch
    width = max(lengths)
    return PolicyInputs(
        images=torch.rand(batch, cameras, 3, side, side, generator=g) * 2 - 1,
        image_masks=torch.ones(batch, cameras, dtype=torch.bool) if masks is None else torch.tensor(masks),
        tokens=torch.randint(0, 256, (batch, width), generator=g),
        token_mask=torch.arange(width)[None] < torch.tensor(lengths)[:, None],
        state=torch.randn(batch, WIDTH, generator=g),
    )


def padded(inputs: PolicyInputs, width: int) -> PolicyInputs:
    """The instruction followed by masked tokens up to this width."""
    missing = width - inputs.tokens.shape[1]
    tokens = torch.nn.functional.pad(inputs.tokens, (0, missing))
    mask = torch.nn.functional.pad(inputs.token_mask, (0, missing))
    return PolicyInputs(inputs.images, inputs.image_masks, tokens, mask, inputs.state)


def make_noise(batch: int = 1, seed: int = 3) -> Tensor:
    return torch.randn(batch, HORIZON, WIDTH, generator=torch.Generator().manual_seed(seed))


def run(
    backend: Backend, inputs: PolicyInputs, noise: Tensor, steps: int = 10, guidance: Guidance | None = None
) -> Tensor:
    """A chunk through the three callables; masked cameras hold NaN, which must reach nothing."""
    batch, cameras = inputs.image_masks.shape
    seen = inputs.image_masks.any(dim=0)
    encoded = backend.vision(inputs.images[:, seen].flatten(0, 1))
    tokens = torch.full((batch, cameras, *encoded.shape[1:]), float("nan"), dtype=encoded.dtype)
    tokens[:, seen] = encoded.reshape(batch, -1, *encoded.shape[1:])
    context = backend.context(tokens, inputs.image_masks, inputs.tokens, inputs.token_mask)
    return backend.denoise(context, inputs.state, noise, steps, guidance)


def has_dot_products() -> bool:
    """Whether the processor has 8-bit dot products, by its own word: the engine offers int8 only there."""
    facts = Path("/proc/cpuinfo")
    words = set(facts.read_text().split()) if facts.exists() else set()
    return bool(words & {"avx512_vnni", "avx_vnni", "amx_int8"})


def load_example(folder: Path) -> Any:
    """The export's own `example.py` as a module."""
    spec = importlib.util.spec_from_file_location("smolpilot_exported_example", folder / "example.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
