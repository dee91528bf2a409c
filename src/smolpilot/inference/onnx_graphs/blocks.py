"""What text model and expert share, as graphs: RMSNorm, rotary positions, grouped attention, SwiGLU.

The formulas of `smolvla.network.layers`, its letters: B batch, L queries, K keys, N heads, G kv heads, E head width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from smolpilot.smolvla.network.layers import ROPE_BASE

from .builder import Builder

Weights = Mapping[str, npt.NDArray[np.float32]]
Table = tuple[str, str]  # cosines and sines, [B or 1, 1, L, E/2]

MASKED = -1e9  # finite, so that a row that may see nothing (padding) gives finite values, which nobody reads


def rms_norm(g: Builder, x: str, weight: npt.NDArray[Any], name: str, eps: float, *, tap: str = "") -> str:
    """Root-mean-square normalization, divided as `tap` asks. [..., D] -> [..., D]."""
    mean = g.op("ReduceMean", g.op("Mul", x, x), g.ints(-1), keepdims=1)
    root = g.op("Sqrt", g.op("Add", mean, g.constant(eps)))
    return str(g.op("Mul", g.op("Div", x, root), g.weight(f"{name}.weight", divided(g, weight, tap))))


def rope_table(g: Builder, positions: str, head_dim: int) -> Table:
    """Of positions float32 [B, L]."""
    exponents = np.arange(head_dim // 2, dtype=np.float32) * np.float32(2.0 / head_dim)
    divisors = np.float32(ROPE_BASE) ** exponents
    angles = g.op("Div", g.op("Unsqueeze", positions, g.ints(1, 3)), g.constant(divisors))  # [B, 1, L, E/2]
    return g.op("Cos", angles), g.op("Sin", angles)


def rotate(g: Builder, x: str, table: Table) -> str:
    """Apply rotary positions, half-split layout. [B, N, L, E] -> [B, N, L, E]."""
    cos, sin = table
    first, second = g.op("Split", x, outputs=2, axis=-1, num_outputs=2)
    return g.concat(
        [
            g.op("Sub", g.op("Mul", first, cos), g.op("Mul", second, sin)),
            g.op("Add", g.op("Mul", second, cos), g.op("Mul", first, sin)),
        ],
        axis=3,
    )


def heads(g: Builder, x: str, head_dim: int) -> str:
    """[B, L, N*E] -> [B, N, L, E]."""
    return g.transpose(g.reshape(x, 0, 0, -1, head_dim), 0, 2, 1, 3)


def attend(g: Builder, queries: str, keys: str, values: str, bias: str, heads_: int, kv_heads: int, e: int) -> str:
    """Grouped attention: the heads of a group stand below each other, so that no key is copied.

    queries [B, N, L, E], keys and values [B, G, K, E], bias [B or 1, 1, L or 1, K] (0 or MASKED) -> [B, L, N*E].
    """
    group = heads_ // kv_heads
    q = g.op("Mul", queries, g.constant(e**-0.5))
    length = g.op("Shape", queries, start=2, end=3)
    q = g.reshape(q, 0, kv_heads, -1, e)  # [B, G, N/G * L, E]
    scores = g.op("MatMul", q, g.transpose(keys, 0, 1, 3, 2))  # [B, G, N/G * L, K]
    apart = g.op("Concat", g.ints(0, kv_heads, group), length, g.ints(-1), axis=0)
    # [B, G, N/G, L, K] + [B, 1, 1, L, K]
    scores = g.op("Add", g.op("Reshape", scores, apart), g.op("Unsqueeze", bias, g.ints(1)))
    weights = g.op("Softmax", scores, axis=-1)
    together = g.op("Concat", g.ints(0, kv_heads, -1), g.op("Shape", keys, start=2, end=3), axis=0)
    out = g.op("MatMul", g.op("Reshape", weights, together), values)  # [B, G, N/G * L, E]
    apart = g.op("Concat", g.ints(0, heads_), length, g.ints(e), axis=0)
    out = g.op("Reshape", out, apart)  # [B, N, L, E]
    return g.reshape(g.transpose(out, 0, 2, 1, 3), 0, 0, heads_ * e)


def finish_layer(g: Builder, x: str, attended: str, weights: Weights, name: str, eps: float) -> str:
    """Output projection, residual, SwiGLU, residual, of layer `name`. [B, L, D] -> [B, L, D]."""
    x = g.op("Add", x, g.linear(attended, f"{name}.o", weights[f"{name}.self_attn.o_proj.weight"]))
    norm, mlp = f"{name}.post_attention_layernorm", f"{name}.mlp"
    normed = rms_norm(g, x, weights[f"{norm}.weight"], norm, eps, tap=f"{mlp}.in")
    gate = g.linear(normed, f"{mlp}.gate", weights[f"{mlp}.gate_proj.weight"], tap=f"{mlp}.in", smooth=True)
    # Dividing a row of the up projection divides that channel of what the down projection reads.
    rows = divided(g, weights[f"{mlp}.up_proj.weight"].T, f"{mlp}.down").T
    up = g.linear(normed, f"{mlp}.up", rows, tap=f"{mlp}.in", smooth=True)
    hidden = g.op("Mul", g.op("Mul", gate, g.op("Sigmoid", gate)), up)
    return str(g.op("Add", x, g.linear(hidden, f"{mlp}.down", weights[f"{mlp}.down_proj.weight"], smooth=True)))


def divided(g: Builder, values: npt.NDArray[Any], tap: str) -> npt.NDArray[Any]:
    """A constant [..., D] divided by what the tap's channels must be divided by."""
    divisor = g.divisor(tap)
    return values if divisor is None else (values / divisor).astype(np.float32)
