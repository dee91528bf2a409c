"""Building blocks of the Llama-type layers: RMSNorm, rotary positions, grouped attention, SwiGLU.

Source: transformers' Llama; lerobot/policies/smolvla/smolvlm_with_expert.py (rotary base, float32 attention).
Letters: B batch, L queries, K keys, N heads, G kv heads, E head width, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from smolpilot.smolvla.config import TextConfig

ROPE_BASE = 10_000.0  # SmolVLA's own; the vision-language model was trained with 100,000


class RMSNorm(nn.Module):
    """Root-mean-square normalization, computed in float32. [..., D] -> [..., D]."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * wide.to(x.dtype)


class MLP(nn.Module):
    """SwiGLU: down(silu(gate(x)) * up(x)). [..., D] -> [..., D]."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, hidden, bias=False)
        self.up_proj = nn.Linear(width, hidden, bias=False)
        self.down_proj = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class Attention(nn.Module):
    """The four projections of grouped attention; who attends to whom is decided by the caller.

    `kv_input_width` differs from `width` where keys and values are made from the text model's (cross-attention).
    """

    def __init__(self, text: TextConfig, width: int, *, kv_input_width: int | None = None) -> None:
        super().__init__()
        kv_input = width if kv_input_width is None else kv_input_width
        self.head_dim = text.head_dim
        self.q_proj = nn.Linear(width, text.heads * text.head_dim, bias=False)
        self.k_proj = nn.Linear(kv_input, text.kv_heads * text.head_dim, bias=False)
        self.v_proj = nn.Linear(kv_input, text.kv_heads * text.head_dim, bias=False)
        self.o_proj = nn.Linear(text.heads * text.head_dim, width, bias=False)

    def queries(self, x: Tensor) -> Tensor:
        """[B, L, D] -> [B, L, N, E]."""
        return self.split_heads(self.q_proj(x))

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[B, L, D] -> two of [B, L, G, E]."""
        return self.split_heads(self.k_proj(x)), self.split_heads(self.v_proj(x))

    def split_heads(self, x: Tensor) -> Tensor:
        """[B, L, N*E] -> [B, L, N, E]."""
        return x.reshape(*x.shape[:-1], -1, self.head_dim)


class Layer(nn.Module):
    """One pre-norm layer of the text model or the expert. [B, L, D] -> [B, L, D]."""

    def __init__(self, text: TextConfig, width: int, mlp_width: int, *, kv_input_width: int | None = None) -> None:
        """text: head layout and eps, which the expert shares with the text model."""
        super().__init__()
        self.input_layernorm = RMSNorm(width, text.eps)
        self.self_attn = Attention(text, width, kv_input_width=kv_input_width)
        self.post_attention_layernorm = RMSNorm(width, text.eps)
        self.mlp = MLP(width, mlp_width)

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """Output projection, residual, MLP, residual; `attended` [B, L, N*E] is the attention's result."""
        x = x + self.self_attn.o_proj(attended.to(self.self_attn.o_proj.weight.dtype))
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


def rope_table(positions: Tensor, head_dim: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines of rotary positions, float32. [B, L] -> two of [B, L, 1, E/2]."""
    exponents = torch.arange(head_dim // 2, dtype=torch.float32, device=positions.device) * (2.0 / head_dim)
    angles = positions[..., None].float() / (ROPE_BASE**exponents)
    return angles.cos()[:, :, None, :], angles.sin()[:, :, None, :]


def rotate(x: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
    """Apply rotary positions, half-split layout, in float32. [B, L, N, E] -> [B, L, N, E]."""
    cos, sin = table
    first, second = x.float().chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1).to(x.dtype)


def attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """Masked grouped attention with float32 scores.

    queries [B, L, N, E], keys and values [B, K, G, E], mask bool [B, L, K] -> [B, L, N*E] in the values' dtype.
    A query that may see nothing (padding) gets finite garbage, which nobody reads: hence a large negative number
    instead of -inf. Source: smolvlm_with_expert.py, eager_attention_forward.
    """
    device = mask.device.type
    unseen = torch.zeros(mask.shape, device=mask.device).masked_fill_(~mask, _least(device))  # [B, L, K]
    # On a CPU torch's fused kernel takes 40 % less time; on a GPU it has none for shared heads with a mask.
    way = attend_fused if device == "cpu" else attend_grouped
    return way(queries.float(), keys.float(), values, unseen)


def attend_fused(queries: Tensor, keys: Tensor, values: Tensor, unseen: Tensor) -> Tensor:
    """`attend` by one kernel; `unseen` float32 [B, L, K] is added to the scores."""
    q, k, v = (each.transpose(1, 2) for each in (queries, keys, values.to(keys.dtype)))
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=unseen[:, None], enable_gqa=True)  # [B, N, L, E]
    return out.transpose(1, 2).flatten(2).to(values.dtype)


def attend_grouped(queries: Tensor, keys: Tensor, values: Tensor, unseen: Tensor) -> Tensor:
    """`attend` by matrix products; `unseen` float32 [B, L, K] is added to the scores.

    The heads that share a key head are rows of one product: nothing is repeated, forward or backward.
    """
    b, length, heads, e = queries.shape
    kv_heads, shared = keys.shape[2], heads // keys.shape[2]
    q = queries.reshape(b, length, kv_heads, shared, e).permute(0, 2, 3, 1, 4).reshape(b * kv_heads, -1, e)
    k = keys.permute(0, 2, 3, 1).reshape(b * kv_heads, e, -1)
    v = values.permute(0, 2, 1, 3).reshape(b * kv_heads, -1, e)
    added = unseen[:, None, None].expand(b, kv_heads, shared, length, -1).reshape(b * kv_heads, shared * length, -1)
    scores = torch.baddbmm(added, q, k, alpha=e**-0.5)  # [B*G, N/G*L, K]
    out = scores.softmax(dim=-1).to(v.dtype) @ v  # [B*G, N/G*L, E]
    return out.reshape(b, kv_heads, shared, length, e).permute(0, 3, 1, 2, 4).reshape(b, length, -1)


def _least(device: str) -> float:
    """The most negative number that scores can hold: of autocast's type where that is on, else of float32."""
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32
    return torch.finfo(dtype).min
