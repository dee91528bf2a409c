"""The action expert: a narrower transformer over the action tokens that reads the prefix's keys and values.

Self-attention layers see [prefix; own tokens, causally]; cross-attention layers see the prefix only, through keys and
values projected once more. Source: lerobot/policies/smolvla/smolvlm_with_expert.py.
Letters: B batch, H action tokens, P prefix tokens, G kv heads, E head width, W expert width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from smolpilot.smolvla.config import PolicyConfig

from .layers import Layer, RMSNorm, attend, rope_table, rotate
from .text_model import KeysValues


@dataclass(frozen=True)
class Memory:
    """What the expert reads of the prefix, the same at every denoising step."""

    keys_values: list[KeysValues]  # by expert layer, [B, P, G, E] each
    sees_prefix: Tensor  # bool [B, H, P]
    sees_all: Tensor  # bool [B, H, P + H]
    continued: tuple[Tensor, Tensor]  # rotary tables: self-attention continues the prefix's positions,
    restarted: tuple[Tensor, Tensor]  # cross-attention counts from zero


class Expert(nn.Module):
    """Action tokens to features of the velocity. [B, H, W] -> [B, H, W]."""

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        text, width = config.vlm.text, config.expert_width
        self.head_dim = text.head_dim
        # With fewer expert than text layers, expert layer i sits at text layer i * stride.
        self.stride = config.text_layers // config.expert_layers
        self.self_attention = [config.is_self_attention(i * self.stride) for i in range(config.expert_layers)]
        self.layers = nn.ModuleList(
            Layer(text, width, config.expert_mlp_width, kv_input_width=None if own else text.kv_heads * text.head_dim)
            for own in self.self_attention
        )
        self.norm = RMSNorm(width, text.eps)

    @property
    def text_layers_read(self) -> int:
        """How many text layers' keys and values are read."""
        return (len(self.layers) - 1) * self.stride + 1

    def memorize(self, prefix: list[KeysValues], prefix_mask: Tensor, horizon: int) -> Memory:
        """Masks, positions and the cross-attention's keys and values for `horizon` action tokens.

        prefix: from `TextModel.encode`; prefix_mask bool [B, P].
        """
        batch = prefix_mask.shape[0]
        steps = torch.arange(horizon, device=prefix_mask.device)
        sees_prefix = prefix_mask[:, None, :].expand(batch, horizon, -1)
        causal = (steps[None, :] <= steps[:, None]).expand(batch, -1, -1)  # [B, H, H]
        pairs: list[KeysValues] = []
        for i, own in enumerate(self.self_attention):
            keys, values = prefix[i * self.stride]
            if not own:
                attention = cast(Layer, self.layers[i]).self_attn
                keys = attention.split_heads(attention.k_proj(keys.flatten(2)))
                values = attention.split_heads(attention.v_proj(values.flatten(2)))
            pairs.append((keys, values))
        offset = prefix_mask.sum(dim=1, keepdim=True)
        return Memory(
            pairs,
            sees_prefix,
            torch.cat([sees_prefix, causal], dim=2),
            rope_table(offset + steps, self.head_dim),
            rope_table(steps.expand(batch, -1), self.head_dim),
        )

    def forward(self, x: Tensor, prefix: list[KeysValues], prefix_mask: Tensor, memory: Memory | None = None) -> Tensor:
        """x [B, H, W] -> [B, H, W]; memory: what `memorize` makes of the prefix, where it is at hand."""
        memory = self.memorize(prefix, prefix_mask, x.shape[1]) if memory is None else memory
        for i, own in enumerate(self.self_attention):
            layer = cast(Layer, self.layers[i])
            keys, values = memory.keys_values[i]
            normed = layer.input_layernorm(x)
            queries = layer.self_attn.queries(normed)
            if own:
                own_keys, own_values = layer.self_attn.keys_values(normed)
                keys = torch.cat([keys, rotate(own_keys, memory.continued)], dim=1)
                values = torch.cat([values, own_values], dim=1)
                attended = attend(rotate(queries, memory.continued), keys, values, memory.sees_all)
            else:
                attended = attend(rotate(queries, memory.restarted), keys, values, memory.sees_prefix)
            x = layer.finish(x, attended)
        out: Tensor = self.norm(x)
        return out
