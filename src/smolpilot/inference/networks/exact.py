"""Mode `exact`: the plain network's kernels in their order, with what repeats at every denoising step computed once.

A kernel that is called again with the same inputs gives the same bits, so masks, rotary tables, time embeddings and the
cross-attention keys and values move out of the loop without changing the result: tests ask for `torch.equal`. Nothing
waits for the device or copies from the CPU inside, so that `graphs.py` can capture the calls.
Letters: B batch, H chunk, P prefix tokens, G kv heads, E head width, W expert width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from smolpilot.inference.backend import Guidance
from smolpilot.inference.guidance import integrate, times
from smolpilot.smolvla.network.flow import time_embedding
from smolpilot.smolvla.network.layers import Layer, attend, rope_table, rotate
from smolpilot.smolvla.network.model import Context, Prefix, SmolVLA
from smolpilot.smolvla.network.text import KeysValues

from .plain import PlainNetwork, special_tokens, to_device


@dataclass(frozen=True)
class _Prepared:
    """What all denoising steps share: keys and values by expert layer, masks and rotary tables."""

    keys_values: list[KeysValues]
    sees_prefix: Tensor  # bool [B, H, P]
    sees_all: Tensor  # bool [B, H, P + H]
    continued: tuple[Tensor, Tensor]
    restarted: tuple[Tensor, Tensor]


class ExactNetwork(PlainNetwork):
    """The plain network, bit for bit, without its repetitions."""

    name = "torch"
    masked = True

    def __init__(self, model: SmolVLA) -> None:
        super().__init__(model)
        self._clocks: dict[int, Tensor] = {}  # never forgotten: a recorded graph may read them
        self._special: tuple[Tensor, Tensor] | None = None
        config = model.config
        if config.add_image_special_tokens:
            fake, whole = special_tokens(config)
            with torch.no_grad():
                embed = model.text.embed_tokens
                self._special = (
                    embed(torch.tensor([fake, whole], device=self.device))[None],
                    embed(torch.tensor([fake], device=self.device))[None],
                )

    @torch.no_grad()
    def context(self, image_tokens: Tensor, image_masks: Tensor, tokens: Tensor, token_mask: Tensor) -> Context:
        """As in the protocol; tokens and their mask may be on the device already."""
        batch = tokens.shape[0]
        parts: list[tuple[Tensor, Tensor]] = []
        for camera, seen in enumerate(image_masks.T):
            start, end = self._special or (None, None)
            if start is not None:
                parts.append((start.expand(batch, -1, -1), self._ones(batch, start.shape[1])))
            if bool(seen.any()):
                length = image_tokens.shape[2]
                mask = self._ones(batch, length) if bool(seen.all()) else seen[:, None].expand(-1, length)
                parts.append((image_tokens[:, camera].to(self.device), mask.to(self.device)))
            if end is not None:
                parts.append((end.expand(batch, -1, -1), self._ones(batch, end.shape[1])))
        language = self.model.text.embed_tokens(tokens.to(self.device))
        parts.append((language * math.sqrt(language.shape[-1]), token_mask.to(self.device)))
        embeddings = torch.cat([embedding for embedding, _ in parts], dim=1)
        mask = torch.cat([part for _, part in parts], dim=1)
        attention = mask[:, None, :] & mask[:, :, None]
        pairs = self.model.text.encode(embeddings, mask.cumsum(dim=1) - 1, attention, self._layers_read)
        return Context(pairs, mask)

    @torch.no_grad()
    def denoise(self, context: Context, state: Tensor, noise: Tensor, steps: int, guidance: Guidance | None) -> Tensor:
        prefix = self.model.join_state(context, state.to(self.device))
        prepared = self._prepare(prefix, noise.shape[1])
        clock = self._clock(steps)
        return integrate(
            lambda i, x: self._velocity(x, clock[i], prepared),
            noise.to(self.device),
            steps,
            to_device(guidance, self.device),
        )

    @property
    def _layers_read(self) -> int:
        return self.model.expert.text_layers_read

    def _ones(self, batch: int, length: int) -> Tensor:
        return torch.ones(batch, length, dtype=torch.bool, device=self.device)

    def _clock(self, steps: int) -> Tensor:
        """The embedding of every step's time, [steps, W] in the dtype of the action tokens."""
        if steps not in self._clocks:
            config, moments = self.model.config, torch.tensor(times(steps), dtype=torch.float32, device=self.device)
            table = time_embedding(moments, config.expert_width, config.min_period, config.max_period)
            self._clocks[steps] = table.to(self.dtype)
        return self._clocks[steps]

    def _prepare(self, prefix: Prefix, horizon: int) -> _Prepared:
        expert = self.model.expert
        batch = prefix.mask.shape[0]
        steps = torch.arange(horizon, device=self.device)
        sees_prefix = prefix.mask[:, None, :].expand(batch, horizon, -1)
        causal = (steps[None, :] <= steps[:, None]).expand(batch, -1, -1)
        pairs: list[KeysValues] = []
        for i, own in enumerate(expert.self_attention):
            keys, values = prefix.keys_values[i * expert.stride]
            if not own:
                projections = cast(Layer, expert.layers[i]).self_attn
                keys = projections.split_heads(projections.k_proj(keys.flatten(2)))
                values = projections.split_heads(projections.v_proj(values.flatten(2)))
            pairs.append((keys, values))
        offset = prefix.mask.sum(dim=1, keepdim=True)
        return _Prepared(
            pairs,
            sees_prefix,
            torch.cat([sees_prefix, causal], dim=2),
            rope_table(offset + steps, expert.head_dim),
            rope_table(steps.expand(batch, -1), expert.head_dim),
        )

    def _velocity(self, noisy: Tensor, clock: Tensor, prepared: _Prepared) -> Tensor:
        """As `SmolVLA.velocity`, with everything that does not depend on `noisy` at hand."""
        model, expert = self.model, self.model.expert
        action = model.action_in_proj(noisy.to(self.dtype))
        x = model.action_time_mlp_in(torch.cat([action, clock.expand_as(action)], dim=-1))
        x = model.action_time_mlp_out(F.silu(x))
        for i, own in enumerate(expert.self_attention):
            layer = cast(Layer, expert.layers[i])
            keys, values = prepared.keys_values[i]
            normed = layer.input_layernorm(x)
            queries = layer.self_attn.queries(normed)
            if own:
                own_keys, own_values = layer.self_attn.keys_values(normed)
                keys = torch.cat([keys, rotate(own_keys, prepared.continued)], dim=1)
                values = torch.cat([values, own_values], dim=1)
                attended = attend(rotate(queries, prepared.continued), keys, values, prepared.sees_all)
            else:
                attended = attend(rotate(queries, prepared.restarted), keys, values, prepared.sees_prefix)
            x = layer.finish(x, attended)
        velocity: Tensor = model.action_out_proj(expert.norm(x))
        return velocity.float()
