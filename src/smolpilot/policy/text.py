"""The text model: the first layers of the vision-language model's Llama, run once over the prefix.

The expert reads only each layer's keys and values, so that is what `encode` returns; what the last layer would add
on top of them is not computed. Source: lerobot/policies/smolvla/smolvlm_with_expert.py.
Letters: B batch, P prefix tokens, G kv heads, E head width, D width.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from .config import PolicyConfig
from .layers import Layer, RMSNorm, attend, rope_table, rotate

KeysValues = tuple[Tensor, Tensor]  # keys after rotary positions and values, each [B, P, G, E]


class TextModel(nn.Module):
    """Token embeddings and Llama layers."""

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        text = config.vlm.text
        self.head_dim = text.head_dim
        self.embed_tokens = nn.Embedding(text.vocab_size, text.width)
        self.layers = nn.ModuleList(
            Layer(text.width, text.heads, text.kv_heads, text.head_dim, text.mlp_width, text.eps)
            for _ in range(config.text_layers)
        )
        self.norm = RMSNorm(text.width, text.eps)  # in every checkpoint; its output is read by nobody

    def encode(self, x: Tensor, positions: Tensor, mask: Tensor, layers: int) -> list[KeysValues]:
        """Keys and values of the first `layers` layers.

        x [B, P, D] prefix embeddings, positions int [B, P], mask bool [B, P, P] -> `layers` pairs of [B, P, G, E].
        """
        table = rope_table(positions, self.head_dim)
        pairs: list[KeysValues] = []
        for i in range(layers):
            layer = cast(Layer, self.layers[i])
            normed = layer.input_layernorm(x)
            keys, values = layer.self_attn.keys_values(normed)
            keys = rotate(keys, table)
            pairs.append((keys, values))
            if i + 1 < layers:
                queries = rotate(layer.self_attn.queries(normed), table)
                x = layer.finish(x, attend(queries, keys, values, mask))
        return pairs
