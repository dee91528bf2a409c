"""Image tokens, instruction and state to what every expert layer reads: one graph, run once per chunk.

Images and instruction see each other but not the state, the state sees all; the last text layer is computed only as
far as its keys and values. Cross-attention layers of the expert project these keys and values once more: that does
not depend on the denoising step, so it happens here. The formulas are those of `smolvla.network`.
"""

from __future__ import annotations

import math

import numpy as np

from smolpilot.smolvla.config import PolicyConfig

from .blocks import MASKED, Weights, attend, finish_layer, heads, rms_norm, rope_table, rotate
from .builder import Builder


def prefix_graph(g: Builder, config: PolicyConfig, weights: Weights, *, embed: bool = True) -> None:
    """`image_tokens` [B, C, N, D], `image_masks` bool [B, C], `tokens` int64 [B, T], `token_mask` bool [B, T], `state`
    [B, max_state_dim] -> for each expert layer `keys.i` and `values.i` [B, G, P, E], and `prefix_mask` bool [B, P].

    B, C, T are free. A masked camera changes nothing; without `add_image_special_tokens` it need not be given at all.
    embed=False: `tokens` are the rows of the embedding table, float32 [B, T, D], instead of their numbers.
    """
    text = config.vlm.text
    x, context_mask = _embeddings(g, config, weights, embed)
    ones = g.op("Slice", g.op("Add", g.op("Mul", context_mask, g.constant(0)), g.constant(1)),
                g.ints(0), g.ints(1), g.ints(1))  # fmt: skip
    mask = g.concat([context_mask, ones], 1)  # [B, P] float32; the state is the last token and always there
    count = g.op("CumSum", mask, g.constant(1, np.int64))
    table = rope_table(g, g.op("Sub", count, g.constant(1)), text.head_dim)
    bias = _visibility(g, context_mask, mask)
    stride = config.text_layers // config.expert_layers
    last = (config.expert_layers - 1) * stride
    for i in range(last + 1):
        name = f"text.layers.{i}"
        norm = f"{name}.input_layernorm"
        normed = rms_norm(g, x, weights[f"{norm}.weight"], norm, text.eps, tap=f"{name}.in")
        q, k, v = (
            g.linear(normed, f"{name}.{part}", weights[f"{name}.self_attn.{part}_proj.weight"], tap=f"{name}.in",
                     smooth=True) if part != "q" or i < last else ""
            for part in "qkv"
        )  # fmt: skip
        keys, values = rotate(g, heads(g, k, text.head_dim), table), heads(g, v, text.head_dim)
        if i % stride == 0:
            _give_out(g, config, weights, i // stride, i, keys, values, v)
        if i < last:
            queries = rotate(g, heads(g, q, text.head_dim), table)
            attended = attend(g, queries, keys, values, bias, text.heads, text.kv_heads, text.head_dim)
            x = finish_layer(g, x, attended, weights, name, text.eps)
    g.output("prefix_mask", g.op("Greater", mask, g.constant(0.5)), ["batch", "prefix"], np.bool_)


def _embeddings(g: Builder, config: PolicyConfig, weights: Weights, embed: bool) -> tuple[str, str]:
    """The prefix's embeddings [B, P, D], the state's last, and the mask of the others, float32 [B, P - 1]."""
    width = config.vlm.text.width
    images = g.input("image_tokens", np.float32, ["batch", "cameras", "image_tokens", width])
    seen = g.op("Cast", g.input("image_masks", np.bool_, ["batch", "cameras"]), to=1)
    seen = g.op("Unsqueeze", seen, g.ints(2))  # [B, C, 1]
    seen_tokens = g.op("Expand", seen, g.op("Shape", images, end=3))  # [B, C, N]
    if config.around_image is not None:
        images, seen_tokens = _with_special_tokens(g, config.around_image, weights, images, seen, seen_tokens)
    images = g.reshape(images, 0, -1, width)
    seen_tokens = g.reshape(seen_tokens, 0, -1)
    root = np.float32(math.sqrt(width))
    if embed:
        table = weights["text.embed_tokens.weight"]
        narrow = g.precision != "fp32"
        tokens = g.input("tokens", np.int64, ["batch", "tokens"])
        named = g.weight("embed_tokens", table.astype(np.float16) if narrow else table)
        language = g.op("Gather", named, tokens)
        language = g.op("Cast", language, to=1) if narrow else language
    else:
        language = g.input("tokens", np.float32, ["batch", "tokens", width])
    language = g.op("Mul", language, g.constant(root))
    token_mask = g.op("Cast", g.input("token_mask", np.bool_, ["batch", "tokens"]), to=1)
    state = g.input("state", np.float32, ["batch", config.max_state_dim])
    token = g.op(
        "Gemm", state, g.weight("state_proj", weights["state_proj.weight"]),
        g.weight("state_proj.bias", weights["state_proj.bias"]), transB=1,
    )  # fmt: skip
    x = g.concat([images, language, g.op("Unsqueeze", token, g.ints(1))], 1)
    return x, g.concat([seen_tokens, token_mask], 1)


def _with_special_tokens(
    g: Builder, ids: tuple[int, int], weights: Weights, images: str, seen: str, seen_tokens: str
) -> tuple[str, str]:
    """Two tokens before and one after each image; they stay visible around a masked camera."""
    table = weights["text.embed_tokens.weight"]
    nothing = g.op("Mul", g.op("Unsqueeze", seen, g.ints(3)), g.constant(0))  # [B, C, 1, 1]
    start = g.op("Add", nothing, g.weight("image_start", table[list(ids)]))  # [B, C, 2, D]
    end = g.op("Add", nothing, g.weight("image_end", table[[ids[0]]]))
    one = g.op("Add", g.op("Mul", seen, g.constant(0)), g.constant(1))  # [B, C, 1]
    return g.concat([start, images, end], 2), g.concat([one, one, seen_tokens, one], 2)


def _visibility(g: Builder, context_mask: str, mask: str) -> str:
    """Added to attention scores, [B, 1, P, P]: padding is seen by nobody, the state by itself alone."""
    zeros = g.op("Mul", g.op("Unsqueeze", mask, g.ints(1, 3)), g.constant(0))  # [B, 1, P, 1]
    hidden = g.op("Mul", g.op("Sub", g.constant(1), context_mask), g.constant(MASKED))
    columns = g.op("Add", zeros, g.op("Unsqueeze", hidden, g.ints(1, 2)))  # [B, 1, P, P - 1]
    before = g.op("Mul", g.op("Add", context_mask, g.constant(1)), g.constant(MASKED))
    before = g.op("Unsqueeze", before, g.ints(1, 3))  # [B, 1, P - 1, 1]: large and negative, for every other token
    itself = g.op("Slice", zeros, g.ints(0), g.ints(1), g.ints(2))  # [B, 1, 1, 1]
    return g.concat([columns, g.concat([before, itself], 2)], 3)


def _give_out(
    g: Builder, config: PolicyConfig, weights: Weights, index: int, at: int, keys: str, values: str, flat: str
) -> None:
    """Name the keys and values of expert layer `index`, which sits at text layer `at`."""
    text = config.vlm.text
    if not config.is_self_attention(at):
        name = f"expert.layers.{index}.self_attn"
        together = g.reshape(g.transpose(keys, 0, 2, 1, 3), 0, 0, text.kv_heads * text.head_dim)
        keys = heads(g, g.linear(together, f"{name}.k", weights[f"{name}.k_proj.weight"]), text.head_dim)
        values = heads(g, g.linear(flat, f"{name}.v", weights[f"{name}.v_proj.weight"]), text.head_dim)
    shape: list[int | str] = ["batch", text.kv_heads, "prefix", text.head_dim]
    g.output(f"keys.{index}", keys, shape)
    g.output(f"values.{index}", values, shape)
