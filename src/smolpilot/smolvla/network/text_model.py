"""The text model: the first layers of the vision-language model's Llama, run once over the prefix.

The expert reads only each layer's keys and values, so that is what `encode` returns; what the last layer would add
on top of them is not computed. Source: lerobot/policies/smolvla/smolvlm_with_expert.py.
Letters: B batch, P prefix tokens, G kv heads, E head width, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from smolpilot.smolvla.config import PolicyConfig

from .layers import Layer, RMSNorm, attend, rope_table, rotate

KeysValues = tuple[Tensor, Tensor]  # keys after rotary positions and values, each [B, P, G, E]


class TextModel(nn.Module):
    """Token embeddings and Llama layers."""

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        text = config.vlm.text
        self.head_dim = text.head_dim
        self.embed_tokens = nn.Embedding(text.vocab_size, text.width)
        self.layers = nn.ModuleList(Layer(text, text.width, text.mlp_width) for _ in range(config.text_layers))
        self.norm = RMSNorm(text.width, text.eps)  # in every checkpoint; its output is read by nobody

    def encode(self, x: Tensor, positions: Tensor, mask: Tensor, layers: int) -> list[KeysValues]:
        """Keys and values of the first `layers` layers.

        x [B, P, D] prefix embeddings, positions int [B, P], mask bool [B, P, P] -> `layers` pairs of [B, P, G, E].
        """
        return self._run(x, positions, mask, [None] * layers)

    def extend(self, x: Tensor, positions: Tensor, context: list[KeysValues], context_mask: Tensor) -> list[KeysValues]:
        """Keys and values of one more token that sees the context and itself, while the context does not see it.

        x [B, 1, D], positions int [B, 1], context pairs [B, K, G, E], context_mask bool [B, K] -> pairs of
        [B, K + 1, G, E]. Equal to `encode` over both at once, without running the context again.
        """
        mask = F.pad(context_mask, (0, 1), value=True)[:, None]  # [B, 1, K + 1]
        return self._run(x, positions, mask, context)

    def _run(
        self, x: Tensor, positions: Tensor, mask: Tensor, context: Sequence[KeysValues | None]
    ) -> list[KeysValues]:
        """Keys and values of as many layers as `context` has entries: what stands before those of x, in each layer."""
        table = rope_table(positions, self.head_dim)
        pairs: list[KeysValues] = []
        for i, before in enumerate(context):
            layer = cast(Layer, self.layers[i])
            normed = layer.input_layernorm(x)
            keys, values = layer.self_attn.keys_values(normed)
            keys = rotate(keys, table)
            if before is not None:
                keys, values = torch.cat([before[0], keys], dim=1), torch.cat([before[1], values], dim=1)
            pairs.append((keys, values))
            if i + 1 < len(context):
                queries = rotate(layer.self_attn.queries(normed), table)
                x = layer.finish(x, attend(queries, keys, values, mask))
        return pairs
