"""The action expert: a narrower transformer over the action tokens that reads the prefix's keys and values.

Self-attention layers see [prefix; own tokens, causally]; cross-attention layers see the prefix only, through keys and
values projected once more. Source: lerobot/policies/smolvla/smolvlm_with_expert.py.
Letters: B batch, H action tokens, P prefix tokens, G kv heads, E head width, W expert width.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from smolpilot.smolvla.config import PolicyConfig

from .layers import Layer, RMSNorm, attend, rope_table, rotate
from .text import KeysValues


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
            Layer(
                width,
                text.heads,
                text.kv_heads,
                text.head_dim,
                config.expert_mlp_width,
                text.eps,
                kv_input_width=None if own else text.kv_heads * text.head_dim,
            )
            for own in self.self_attention
        )
        self.norm = RMSNorm(width, text.eps)

    @property
    def text_layers_read(self) -> int:
        """How many text layers' keys and values are read."""
        return (len(self.layers) - 1) * self.stride + 1

    def forward(self, x: Tensor, prefix: list[KeysValues], prefix_mask: Tensor) -> Tensor:
        """x [B, H, W], prefix from `TextModel.encode`, prefix_mask bool [B, P] -> [B, H, W]."""
        batch, horizon = x.shape[:2]
        steps = torch.arange(horizon, device=x.device)
        sees_prefix = prefix_mask[:, None, :].expand(batch, horizon, -1)  # [B, H, P]
        causal = (steps[None, :] <= steps[:, None]).expand(batch, -1, -1)  # [B, H, H]
        sees_all = torch.cat([sees_prefix, causal], dim=2)  # [B, H, P+H]
        # Self-attention continues the prefix's positions, cross-attention counts from zero.
        offset = prefix_mask.sum(dim=1, keepdim=True)
        continued = rope_table(offset + steps, self.head_dim)
        restarted = rope_table(steps.expand(batch, -1), self.head_dim)
        for i in range(len(self.layers)):
            layer = cast(Layer, self.layers[i])
            keys, values = prefix[i * self.stride]
            normed = layer.input_layernorm(x)
            queries = layer.self_attn.queries(normed)
            if self.self_attention[i]:
                own_keys, own_values = layer.self_attn.keys_values(normed)
                keys = torch.cat([keys, rotate(own_keys, continued)], dim=1)
                values = torch.cat([values, own_values], dim=1)
                attended = attend(rotate(queries, continued), keys, values, sees_all)
            else:
                keys = layer.self_attn.split_heads(layer.self_attn.k_proj(keys.flatten(2)))
                values = layer.self_attn.split_heads(layer.self_attn.v_proj(values.flatten(2)))
                attended = attend(rotate(queries, restarted), keys, values, sees_prefix)
            x = layer.finish(x, attended)
        out: Tensor = self.norm(x)
        return out
