"""One denoising step as a graph: noisy actions, time and what the prefix graph gave, to a velocity.

The Euler loop stays outside (`x -= velocity / steps`): the number of steps is free, guidance of real-time chunking is
a few operations on the velocity, and the graph is a tenth of an unrolled one. The formulas are those of
`smolvla.network.expert`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from smolpilot.smolvla.config import PolicyConfig
from smolpilot.smolvla.network.flow_matching import step_times, time_embedding

from .blocks import MASKED, Weights, attend, finish_layer, heads, rms_norm, rope_table, rotate
from .builder import Builder


def denoise_graph(g: Builder, config: PolicyConfig, weights: Weights) -> None:
    """`noisy` [B, H, A], `clock` [B, W] (see `time_embedding`), `prefix_mask` bool [B, P] and for each expert layer
    `keys.i`, `values.i` [B, G, P, E] -> `velocity` [B, H, A]. B and P are free.
    """
    text, width, horizon = config.vlm.text, config.expert_width, config.chunk_size
    noisy = g.input("noisy", np.float32, ["batch", horizon, config.max_action_dim])
    x = _embed(g, noisy, g.input("clock", np.float32, ["batch", width]), config, weights)
    mask = g.op("Cast", g.input("prefix_mask", np.bool_, ["batch", "prefix"]), to=1)
    hidden = g.op("Mul", g.op("Sub", g.constant(1), mask), g.constant(MASKED))
    hidden = g.op("Unsqueeze", hidden, g.ints(1, 2))  # [B, 1, 1, P]
    steps = np.arange(horizon)
    causal = np.where(steps[None, :] <= steps[:, None], 0, MASKED).astype(np.float32)[None, None]  # [1, 1, H, H]
    rows = g.op("Add", hidden, g.constant(np.zeros((1, 1, horizon, 1))))  # [B, 1, H, P]
    columns = g.op("Add", g.op("Slice", g.op("Mul", hidden, g.constant(0)), g.ints(0), g.ints(1), g.ints(3)),
                   g.weight("causal", causal))  # fmt: skip
    everything = g.concat([rows, columns], 3)  # [B, 1, H, P + H]
    # Self-attention continues the prefix's positions, cross-attention counts from zero.
    order = g.constant(steps[None].astype(np.float32))
    continued = rope_table(g, g.op("Add", g.op("ReduceSum", mask, g.ints(1), keepdims=1), order), text.head_dim)
    restarted = rope_table(g, order, text.head_dim)
    shape: list[int | str] = ["batch", text.kv_heads, "prefix", text.head_dim]
    stride = config.text_layers // config.expert_layers
    for i in range(config.expert_layers):
        name = f"expert.layers.{i}"
        keys, values = g.input(f"keys.{i}", np.float32, shape), g.input(f"values.{i}", np.float32, shape)
        norm = f"{name}.input_layernorm"
        normed = rms_norm(g, x, weights[f"{norm}.weight"], norm, text.eps, tap=f"{name}.in")

        def project(part: str, normed: str = normed, name: str = name) -> str:
            weight = weights[f"{name}.self_attn.{part}_proj.weight"]
            return heads(g, g.linear(normed, f"{name}.{part}", weight, tap=f"{name}.in", smooth=True), text.head_dim)

        own = config.is_self_attention(i * stride)
        queries = rotate(g, project("q"), continued if own else restarted)
        if own:
            keys = g.concat([keys, rotate(g, project("k"), continued)], 2)
            values = g.concat([values, project("v")], 2)
        bias = everything if own else hidden
        attended = attend(g, queries, keys, values, bias, text.heads, text.kv_heads, text.head_dim)
        x = finish_layer(g, x, attended, weights, name, text.eps)
    x = rms_norm(g, x, weights["expert.norm.weight"], "expert.norm", text.eps)
    out = g.op("MatMul", x, g.weight("action_out_proj", weights["action_out_proj.weight"].T))
    out = g.op("Add", out, g.weight("action_out_proj.bias", weights["action_out_proj.bias"]))
    g.output("velocity", out, ["batch", horizon, config.max_action_dim])


def _embed(g: Builder, noisy: str, clock: str, config: PolicyConfig, weights: Weights) -> str:
    """Action tokens [B, H, W]. The first layer of the time MLP is split: half of it reads the action, half the time,
    which is the same for all tokens."""
    width = config.expert_width
    first = weights["action_time_mlp_in.weight"]
    # Two linear layers in a row without anything between them are one.
    action = g.op("MatMul", noisy, g.weight("action_in_proj", weights["action_in_proj.weight"].T))
    action = g.op("Add", action, g.weight("action_in_proj.bias", weights["action_in_proj.bias"]))
    action = g.op("MatMul", action, g.weight("action_time_mlp_in.action", first[:, :width].T))
    moment = g.op(
        "Gemm", clock, g.weight("action_time_mlp_in.time", first[:, width:]),
        g.weight("action_time_mlp_in.bias", weights["action_time_mlp_in.bias"]), transB=1,
    )  # fmt: skip
    hidden = g.op("Add", action, g.op("Unsqueeze", moment, g.ints(1)))
    hidden = g.op("Mul", hidden, g.op("Sigmoid", hidden))
    out = g.op("MatMul", hidden, g.weight("action_time_mlp_out", weights["action_time_mlp_out.weight"].T))
    return str(g.op("Add", out, g.weight("action_time_mlp_out.bias", weights["action_time_mlp_out.bias"])))


def clock_table(config: PolicyConfig, steps: int) -> npt.NDArray[np.float32]:
    """The time embedding of each denoising step, float32 [steps, W]."""
    moments = torch.tensor(step_times(steps), dtype=torch.float32)
    table = time_embedding(moments, config.expert_width, config.min_period, config.max_period)
    return table.float().numpy()
