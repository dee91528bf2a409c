"""The weights of the network, regrouped for mode `fast`: fewer, larger products with the same result.

Query, key and value projections become one matrix, gate and up another; the weight of a norm is multiplied into the
matrix behind it; the two linear maps of a noisy action, which nothing separates, become one. All of this is done in
float32 once, then cast. Letters: D input width of a matrix, N heads, G kv heads, E head width, W expert width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from smolpilot.smolvla.network.flow_matching import step_times, time_embedding
from smolpilot.smolvla.network.layers import Layer
from smolpilot.smolvla.network.model import SmolVLA
from smolpilot.smolvla.network.vision import VisionLayer


@dataclass(frozen=True)
class PackedLayer:
    """A Llama-type layer. `into` [*, D] is q, k and v below each other, or q alone, or (last text layer) k and v."""

    into: Tensor
    out: Tensor | None = None
    gate_up: Tensor | None = None
    down: Tensor | None = None


@dataclass(frozen=True)
class PackedVisionLayer:
    """A vision layer: each linear map as (weight, bias), each norm as (weight, bias)."""

    norm1: tuple[Tensor, Tensor]
    qkv: tuple[Tensor, Tensor]
    out: tuple[Tensor, Tensor]
    norm2: tuple[Tensor, Tensor]
    fc1: tuple[Tensor, Tensor]
    fc2: tuple[Tensor, Tensor]


class ClockTables:
    """What the hidden layer of the time MLP gets besides the noisy action, by number of denoising steps."""

    def __init__(self, model: SmolVLA, device: torch.device, dtype: torch.dtype) -> None:
        first, second, self._config = model.action_in_proj, model.action_time_mlp_in, model.config
        width, weight = first.out_features, second.weight.detach().float()
        self._weight = weight[:, width:].clone()
        self._bias = weight[:, :width] @ first.bias.detach().float() + second.bias.detach().float()
        self._device, self._dtype = device, dtype
        self._tables: dict[int, Tensor] = {}  # never forgotten: a recorded graph may read them

    def __call__(self, steps: int) -> Tensor:
        """[steps, W]: time and both biases, through the first linear map."""
        if steps not in self._tables:
            config, moments = self._config, torch.tensor(step_times(steps), device=self._weight.device)
            embedding = time_embedding(moments, len(self._weight), config.min_period, config.max_period).float()
            table = embedding @ self._weight.T + self._bias
            self._tables[steps] = table.to(device=self._device, dtype=self._dtype)
        return self._tables[steps]


class Packer:
    """Regroups the weights of a network for a device and a dtype."""

    def __init__(self, model: SmolVLA, device: torch.device, dtype: torch.dtype) -> None:
        self.model, self.device, self.dtype = model, device, dtype

    def put(self, weight: Tensor) -> Tensor:
        """A weight where and how it is used; no copy where it is so already."""
        return weight.detach().to(device=self.device, dtype=self.dtype).contiguous()

    def linear(self, layer: nn.Linear | nn.LayerNorm | nn.Conv2d) -> tuple[Tensor, Tensor]:
        return self.put(layer.weight), self.put(cast(Tensor, layer.bias))

    def text_layer(self, index: int, *, last: bool) -> PackedLayer:
        """A text layer; of the last one that is read only keys and values."""
        layer = cast(Layer, self.model.text.layers[index])
        return self._llama(layer, (*(() if last else ("q",)), "k", "v"), whole=not last)

    def expert_layer(self, index: int) -> PackedLayer:
        """An expert layer; a cross-attention layer takes only queries from its own tokens."""
        own = self.model.expert.self_attention[index]
        return self._llama(cast(Layer, self.model.expert.layers[index]), ("q", "k", "v") if own else ("q",), whole=True)

    def vision_layer(self, layer: VisionLayer) -> PackedVisionLayer:
        attention = layer.self_attn
        three = (attention.q_proj, attention.k_proj, attention.v_proj)
        qkv = torch.cat([p.weight for p in three]), torch.cat([p.bias for p in three])
        return PackedVisionLayer(
            self.linear(layer.layer_norm1),
            (self.put(qkv[0]), self.put(qkv[1])),
            self.linear(attention.out_proj),
            self.linear(layer.layer_norm2),
            self.linear(layer.mlp.fc1),
            self.linear(layer.mlp.fc2),
        )

    def cross_projections(self) -> tuple[Tensor, Tensor] | None:
        """What the cross-attention layers make of the text model's keys and of its values: two [layers, G*E, G*E]."""
        expert = self.model.expert
        chosen = [
            cast(Layer, layer) for layer, own in zip(expert.layers, expert.self_attention, strict=True) if not own
        ]
        if not chosen:
            return None
        keys = torch.stack([layer.self_attn.k_proj.weight.T for layer in chosen])
        values = torch.stack([layer.self_attn.v_proj.weight.T for layer in chosen])
        return self.put(keys), self.put(values)

    def action_in(self) -> Tensor:
        """Noisy action to the hidden layer of the time MLP, both linear maps in one: [W, max_action_dim]."""
        first, second = self.model.action_in_proj, self.model.action_time_mlp_in
        return self.put(second.weight[:, : first.out_features].float() @ first.weight.float())

    def action_out(self) -> tuple[Tensor, Tensor]:
        """The expert's last norm and the projection behind it."""
        out = self.model.action_out_proj
        return self._behind(self.model.expert.norm.weight, out.weight), self.put(out.bias)

    def _llama(self, layer: Layer, names: tuple[str, ...], *, whole: bool) -> PackedLayer:
        attention = layer.self_attn
        weights = {"q": attention.q_proj, "k": attention.k_proj, "v": attention.v_proj}
        into = self._behind(layer.input_layernorm.weight, torch.cat([weights[name].weight for name in names]))
        if not whole:
            return PackedLayer(into)
        return PackedLayer(
            into,
            self.put(attention.o_proj.weight),
            self._behind(
                layer.post_attention_layernorm.weight,
                torch.cat([layer.mlp.gate_proj.weight, layer.mlp.up_proj.weight]),
            ),
            self.put(layer.mlp.down_proj.weight),
        )

    def _behind(self, norm: Tensor, weight: Tensor) -> Tensor:
        """A matrix with the weight of the norm before it."""
        return self.put(weight.float() * norm.float())
