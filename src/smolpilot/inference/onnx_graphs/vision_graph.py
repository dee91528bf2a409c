"""The vision tower and the connector as a graph: images in, image tokens out, as in `smolvla.network.vision`."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch

from smolpilot.smolvla.config import PolicyConfig
from smolpilot.smolvla.network.vision import patch_positions

from .blocks import Weights, divided
from .builder import Builder


def vision_graph(g: Builder, config: PolicyConfig, weights: Weights, side: int) -> None:
    """`images` [n, 3, side, side] in [-1, 1] -> `image_tokens` [n, N, D], times sqrt(D); n is free."""
    vision, scale = config.vlm.vision, config.vlm.scale_factor
    patches, width = side // vision.patch_size, vision.width
    images = g.input("images", np.float32, ["images", 3, side, side])
    kernel = weights["vision.embeddings.patch_embedding.weight"]
    x = g.op(
        "Conv",
        images,
        g.weight("patches", kernel),
        g.weight("patches.bias", weights["vision.embeddings.patch_embedding.bias"]),
        strides=[vision.patch_size] * 2,
        kernel_shape=list(kernel.shape[2:]),
    )  # [n, W, patches, patches]
    x = g.transpose(g.reshape(x, 0, width, -1), 0, 2, 1)
    index = patch_positions(patches, vision.patches_per_side, torch.device("cpu")).numpy()
    positions = weights["vision.embeddings.position_embedding.weight"][index]
    x = g.op("Add", x, g.weight("positions", positions[None]))
    for i in range(vision.layers):
        x = _layer(g, x, weights, f"vision.layers.{i}", vision.heads, vision.eps)
    x = _layer_norm(g, x, weights, "vision.post_layernorm", vision.eps)
    rows = patches // scale
    # Pixel shuffle: scale x scale neighboring patches become one token.
    x = g.transpose(g.reshape(x, -1, rows, scale, rows, scale * width), 0, 1, 3, 2, 4)
    x = g.reshape(x, -1, rows * rows, scale * scale * width)
    text_width = config.vlm.text.width
    tokens = g.linear(x, "connector", weights["connector.proj.weight"] * np.float32(math.sqrt(text_width)))
    g.output("image_tokens", tokens, ["images", rows * rows, text_width])


def _layer(g: Builder, x: str, weights: Weights, name: str, heads: int, eps: float) -> str:
    """Pre-norm transformer layer. [n, patches, W] -> the same."""
    normed = _layer_norm(g, x, weights, f"{name}.layer_norm1", eps, tap=f"{name}.self_attn.in")
    x = g.op("Add", x, _attention(g, normed, weights, name, heads))
    fc1, fc2 = f"{name}.mlp.fc1", f"{name}.mlp.fc2"
    normed = _layer_norm(g, x, weights, f"{name}.layer_norm2", eps, tap=fc1)
    hidden = g.op("Gelu", g.linear(normed, fc1, *_pair(weights, fc1), smooth=True), approximate="tanh")
    divisor = g.divisor(fc2)
    if divisor is not None:
        hidden = g.op("Mul", hidden, g.weight(f"{fc2}.smoothing", 1 / divisor))
    return str(g.op("Add", x, g.linear(hidden, fc2, *_pair(weights, fc2), smooth=True)))


def _attention(g: Builder, x: str, weights: Weights, name: str, heads: int) -> str:
    attention, width = f"{name}.self_attn", weights[f"{name}.layer_norm1.weight"].shape[0]
    split: list[str] = []
    for part in "qkv":
        weight, bias = _pair(weights, f"{attention}.{part}_proj")
        projected = g.linear(x, f"{attention}.{part}", weight, bias, tap=f"{attention}.in", smooth=True)
        apart = g.transpose(g.reshape(projected, 0, 0, heads, width // heads), 0, 2, 1, 3)  # [n, heads, patches, E]
        split.append(apart if part == "v" else g.quantized(apart, f"{attention}.{part}.out"))
    q, k, v = split
    scores = g.op("MatMul", q, g.transpose(k, 0, 1, 3, 2))
    scores = g.op("Mul", scores, g.constant((width // heads) ** -0.5))
    share = g.op("Softmax", scores, axis=-1)
    attended = g.reshape(g.transpose(g.op("MatMul", share, v), 0, 2, 1, 3), 0, 0, width)
    return g.linear(attended, f"{attention}.out", *_pair(weights, f"{attention}.out_proj"))


def _layer_norm(g: Builder, x: str, weights: Weights, name: str, eps: float, *, tap: str = "") -> str:
    scale, bias = (
        g.weight(f"{name}.{part}", divided(g, weights[f"{name}.{part}"], tap)) for part in ("weight", "bias")
    )
    return str(g.op("LayerNormalization", x, scale, bias, axis=-1, epsilon=eps))


def _pair(weights: Weights, name: str) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    return weights[f"{name}.weight"], weights[f"{name}.bias"]
