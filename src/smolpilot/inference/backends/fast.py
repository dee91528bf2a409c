"""Mode `fast` in torch: everything that is mathematically equal to the plain network and cheaper.

Cameras in one batch; masked cameras and padded tokens left out; the last text layer for its keys and values only;
packed projections; keys and values of the cross-attention once per chunk; a table for the times; rotary tables; grouped
attention without copies of keys (the query heads of a group stand as more query rows).
Letters: B batch, C cameras, N tokens of an image, K context tokens, P = K + 1 (state), H chunk, D text width, W expert
width, G kv heads, R query heads per kv head, E head width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from smolpilot.smolvla.network.flow_matching import integrate
from smolpilot.smolvla.network.layers import rope_table, rotate
from smolpilot.smolvla.network.model import SmolVLA
from smolpilot.smolvla.network.vision import VisionLayer, check_square, patch_positions, pixel_shuffle

from .backend import Guidance, guide_on
from .packing import ClockTables, PackedLayer, PackedVisionLayer, Packer

Table = tuple[Tensor, Tensor]  # cosines and sines [B, L, 1, E/2]


@dataclass(frozen=True)
class FastContext:
    """Keys and values [B, G, K, E] by text layer; mask bool [B, K], None where every token is real."""

    pairs: list[tuple[Tensor, Tensor]]
    mask: Tensor | None

    @property
    def length(self) -> int:
        return self.pairs[0][0].shape[2]


class FastNetwork:
    """The network regrouped, with weights of its own; the plain one may be dropped afterwards."""

    name = "torch"
    masked = False

    def __init__(self, model: SmolVLA, device: torch.device, dtype: torch.dtype) -> None:
        self.config = config = model.config
        self.device, self.dtype, self.precision = device, dtype, str(dtype).removeprefix("torch.")
        text = config.vlm.text
        self._heads, self._groups, self._width, self._eps = text.heads, text.kv_heads, text.head_dim, text.eps
        self._stride, self._own = model.expert.stride, model.expert.self_attention
        with torch.no_grad():
            pack = Packer(model, device, dtype)
            self._pack_vision(model, pack)
            read = model.expert.text_layers_read
            self._embed = pack.put(model.text.embed_tokens.weight)
            self._around = self._around_image()
            self._text = [pack.text_layer(i, last=i + 1 == read) for i in range(read)]
            self._state = pack.linear(model.state_proj)
            self._expert = [pack.expert_layer(i) for i in range(len(self._own))]
            self._cross = pack.cross_projections()
            self._action_in, self._action_out = pack.action_in(), pack.action_out()
            self._mlp_out = pack.linear(model.action_time_mlp_out)
            self._clocks = ClockTables(model, device, dtype)
        self._words = lru_cache(maxsize=8)(self._embed_words)
        # Never forgotten, since a recorded graph may read them; small, and as many as there are lengths of a prefix.
        self._ropes: dict[tuple[int, int], Table] = {}
        self._causals: dict[tuple[int, int], Tensor] = {}

    def _pack_vision(self, model: SmolVLA, pack: Packer) -> None:
        vision = model.vision
        self._patch = pack.linear(vision.embeddings.patch_embedding)
        self._positions: dict[int, Tensor] = {}
        self._vision = [pack.vision_layer(cast(VisionLayer, layer)) for layer in vision.layers]
        self._post_norm = pack.linear(vision.post_layernorm)
        # Image tokens are multiplied by sqrt(D): so is the matrix that makes them.
        self._connect = pack.put(model.connector.proj.weight.float() * math.sqrt(self.config.vlm.text.width))
        self._learned_positions = pack.put(vision.embeddings.position_embedding.weight)

    @property
    def memory_bytes(self) -> int:
        seen = {tensor.data_ptr(): tensor.numel() * tensor.element_size() for tensor in _tensors(vars(self))}
        return sum(seen.values())

    def close(self) -> None:
        self.__dict__.clear()

    # -- images ----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def vision(self, images: Tensor) -> Tensor:
        """[n, 3, h, w] -> [n, N, D]."""
        vision, eps = self.config.vlm.vision, self.config.vlm.vision.eps
        check_square(images, vision.patch_size)
        x = F.conv2d(images.to(self.device, self.dtype), *self._patch, stride=vision.patch_size)
        side = x.shape[-1]
        if side not in self._positions:
            index = patch_positions(side, vision.patches_per_side, self.device)
            self._positions[side] = self._learned_positions[index]
        x = x.flatten(2).transpose(1, 2) + self._positions[side]
        width = (x.shape[-1],)
        for layer in self._vision:
            qkv = F.linear(F.layer_norm(x, width, *layer.norm1, eps=eps), *layer.qkv)
            q, k, v = qkv.reshape(*qkv.shape[:2], 3, vision.heads, -1).permute(2, 0, 3, 1, 4)
            attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
            x = x + F.linear(attended, *layer.out)
            hidden = F.gelu(F.linear(F.layer_norm(x, width, *layer.norm2, eps=eps), *layer.fc1), approximate="tanh")
            x = x + F.linear(hidden, *layer.fc2)
        x = F.layer_norm(x, width, *self._post_norm, eps=eps)
        return F.linear(pixel_shuffle(x, self.config.vlm.scale_factor), self._connect)

    # -- the prefix --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def context(self, image_tokens: Tensor, image_masks: Tensor, tokens: Tensor, token_mask: Tensor) -> FastContext:
        """As in the protocol; where every row keeps the same tokens, masked ones are not there at all."""
        keep = token_mask.any(dim=0)
        if not bool(keep.all()):
            tokens, token_mask = tokens[:, keep], token_mask[:, keep]
        embedded, masks = self._parts(image_tokens.to(self.device, self.dtype), image_masks, tokens, token_mask)
        x = torch.cat(embedded, dim=1)
        mask = torch.cat(masks, dim=1)
        if bool(mask.all()):
            table, seen = self._rope(0, mask.shape[1]), None
        else:
            mask = mask.to(self.device)
            table, seen = rope_table(mask.cumsum(dim=1) - 1, self._width), mask[:, None, None]
        pairs = []
        for i, layer in enumerate(self._text):
            last = i + 1 == len(self._text)
            into = self._into(layer, x)
            if last:
                keys, values = into[:, :, : self._groups], into[:, :, self._groups :]
                pairs.append((rotate(keys, table).transpose(1, 2), values.transpose(1, 2)))
                break
            q, keys, values = self._turn(into, table)
            pairs.append((keys, values))
            x = self._finish(layer, x, self._attend(q, keys, values, seen))
        return FastContext(pairs, None if seen is None else mask)

    def _parts(
        self, image_tokens: Tensor, image_masks: Tensor, tokens: Tensor, token_mask: Tensor
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Embeddings and (CPU) masks in the prefix's order, without cameras that no row shows."""
        batch = len(tokens)
        start, end = self._around or (None, None)
        embedded, masks = [], []
        for camera in range(image_masks.shape[1]):
            seen = image_masks[:, camera]
            for piece in (start, image_tokens[:, camera] if bool(seen.any()) else None, end):
                if piece is None:
                    continue
                embedded.append(piece.expand(batch, -1, -1))
                ones = torch.ones(batch, piece.shape[1], dtype=torch.bool)
                masks.append(ones if piece is start or piece is end else ones & seen[:, None])
        if batch == 1 and tokens.device.type == "cpu":
            embedded.append(self._words(tuple(tokens[0].tolist())))
        else:
            embedded.append(F.embedding(tokens.to(self.device), self._embed) * math.sqrt(self._embed.shape[1]))
        masks.append(token_mask)
        return embedded, masks

    def _embed_words(self, ids: tuple[int, ...]) -> Tensor:
        """Words of one instruction, [1, T, D]; kept, since a robot hears the same text again and again."""
        return F.embedding(torch.tensor([ids], device=self.device), self._embed) * math.sqrt(self._embed.shape[1])

    def _around_image(self) -> tuple[Tensor, Tensor] | None:
        """The tokens before and after an image, not scaled: [1, 2, D] and [1, 1, D]; None where there are none."""
        if self.config.around_image is None:
            return None
        ids = torch.tensor([self.config.around_image], device=self.device)
        return F.embedding(ids, self._embed), F.embedding(ids[:, :1], self._embed)

    def _join(self, context: FastContext, state: Tensor, horizon: int) -> _Prefix:
        """Run the state token against the context; keys and values of every layer with room for the expert's own."""
        batch, length = len(state), context.length
        x = F.linear(state.to(self.device, self.dtype), *self._state)[:, None]
        if context.mask is None:
            seen, table = None, self._rope(length, 1)
        else:
            real = F.pad(context.mask, (0, 1), value=True)
            seen, table = real[:, None, None], rope_table(context.mask.sum(dim=1, keepdim=True), self._width)
        own = {i * self._stride for i, own in enumerate(self._own) if own}
        pairs = []
        for i, (layer, (before_keys, before_values)) in enumerate(zip(self._text, context.pairs, strict=True)):
            room = length + 1 + (horizon if i in own else 0)
            shape = (batch, self._groups, room, self._width)
            keys, values = before_keys.new_empty(shape), before_values.new_empty(shape)
            keys[:, :, :length], values[:, :, :length] = before_keys, before_values
            pairs.append((keys, values))
            into = self._into(layer, x)
            last = i + 1 == len(self._text)
            q, own_keys, own_values = self._turn(into, table, queries=not last)
            keys[:, :, length : length + 1], values[:, :, length : length + 1] = own_keys, own_values
            if not last:
                attended = self._attend(q, keys[:, :, : length + 1], values[:, :, : length + 1], seen)
                x = self._finish(layer, x, attended)
        return self._project(pairs, seen, context.mask, length, horizon)

    def _project(
        self,
        pairs: list[tuple[Tensor, Tensor]],
        seen: Tensor | None,
        context_mask: Tensor | None,
        length: int,
        horizon: int,
    ) -> _Prefix:
        """What each expert layer reads: the text layer's keys and values, or what cross-attention makes of them."""
        read = [pairs[i * self._stride] for i in range(len(self._own))]
        if self._cross is not None:
            chosen = [i for i, own in enumerate(self._own) if not own]
            for which, projection in enumerate(self._cross):
                stacked = torch.stack([read[i][which] for i in chosen])  # [layers, B, G, P, E]
                layers, batch, _, count, _ = stacked.shape
                flat = stacked.transpose(2, 3).reshape(layers, batch * count, -1)
                made = torch.bmm(flat, projection).view(layers, batch, count, self._groups, self._width)
                for i, one in zip(chosen, made.transpose(2, 3), strict=True):
                    read[i] = (one, read[i][1]) if which == 0 else (read[i][0], one)
        if seen is None:
            return _Prefix(read, None, self._causal(length + 1, horizon), self._rope(length + 1, horizon))
        causal = self._causal(0, horizon).expand(len(seen), -1, -1, -1)
        rows = seen.expand(-1, -1, causal.shape[2], -1)
        offset = cast(Tensor, context_mask).sum(dim=1, keepdim=True) + 1
        steps = torch.arange(horizon, device=self.device)
        return _Prefix(read, seen, torch.cat([rows, causal], dim=3), rope_table(offset + steps, self._width))

    # -- the suffix --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def denoise(
        self, context: FastContext, state: Tensor, noise: Tensor, steps: int, guidance: Guidance | None
    ) -> Tensor:
        prefix = self._join(context, state, noise.shape[1])
        clock = self._clocks(steps)
        return integrate(
            lambda i, x: self._velocity(x, clock[i], prefix),
            noise.to(self.device),
            steps,
            guide_on(guidance, self.device),
        )

    def _velocity(self, noisy: Tensor, clock: Tensor, prefix: _Prefix) -> Tensor:
        """[B, H, A] -> [B, H, A], float32."""
        horizon = noisy.shape[1]
        restarted = self._rope(0, horizon)
        x = F.linear(F.silu(F.linear(noisy.to(self.dtype), self._action_in) + clock), *self._mlp_out)
        for own, layer, (keys, values) in zip(self._own, self._expert, prefix.read, strict=True):
            into = self._into(layer, x)
            if own:
                q, own_keys, own_values = self._turn(into, prefix.continued)
                keys[:, :, -horizon:], values[:, :, -horizon:] = own_keys, own_values
                attended = self._attend(q, keys, values, prefix.sees_all)
            else:
                q = rotate(into, restarted).transpose(1, 2)
                attended = self._attend(q, keys, values, prefix.seen)
            x = self._finish(layer, x, attended)
        weight, bias = self._action_out
        return F.linear(F.rms_norm(x, (x.shape[-1],), eps=self._eps), weight, bias).float()

    # -- parts of a layer --------------------------------------------------------------------------------------------

    def _into(self, layer: PackedLayer, x: Tensor) -> Tensor:
        """Norm and the packed projection, split into heads. [B, L, D] -> [B, L, heads, E]."""
        projected = F.linear(F.rms_norm(x, (x.shape[-1],), eps=self._eps), layer.into)
        return projected.reshape(*projected.shape[:-1], -1, self._width)

    def _turn(self, into: Tensor, table: Table, *, queries: bool = True) -> tuple[Tensor, Tensor, Tensor]:
        """Queries and keys with rotary positions, and values: [B, N, L, E], [B, G, L, E], [B, G, L, E]."""
        heads = self._heads if queries else 0
        turned = rotate(into[:, :, : heads + self._groups], table).transpose(1, 2)
        return turned[:, :heads], turned[:, heads:], into[:, :, heads + self._groups :].transpose(1, 2)

    def _attend(self, q: Tensor, keys: Tensor, values: Tensor, seen: Tensor | None) -> Tensor:
        """Grouped attention; the R query heads of a group are R times as many rows. -> [B, L, N*E].

        seen: bool [B or 1, 1, 1 or R*L, keys]; no row of it is all False, which would give NaN.
        """
        batch, _, length, width = q.shape
        rows = q.reshape(batch, self._groups, -1, width)
        out = F.scaled_dot_product_attention(rows, keys, values, attn_mask=seen)
        return out.reshape(batch, -1, length, width).transpose(1, 2).flatten(2)

    def _finish(self, layer: PackedLayer, x: Tensor, attended: Tensor) -> Tensor:
        """Output projection, residual, MLP, residual."""
        x = x + F.linear(attended, cast(Tensor, layer.out))
        gate, up = F.linear(F.rms_norm(x, (x.shape[-1],), eps=self._eps), cast(Tensor, layer.gate_up)).chunk(2, dim=-1)
        return x + F.linear(F.silu(gate) * up, cast(Tensor, layer.down))

    def _rope(self, first: int, count: int) -> Table:
        """The rotary table of consecutive positions."""
        if (first, count) not in self._ropes:
            positions = torch.arange(first, first + count, device=self.device)[None]
            self._ropes[first, count] = rope_table(positions, self._width)
        return self._ropes[first, count]

    def _causal(self, prefix: int, horizon: int) -> Tensor:
        """Who sees whom: the prefix, and own tokens up to oneself; bool [1, 1, R*H, prefix + H]."""
        if (prefix, horizon) not in self._causals:
            steps = torch.arange(horizon, device=self.device)
            mask = F.pad(steps[None, :] <= steps[:, None], (prefix, 0), value=True)
            self._causals[prefix, horizon] = mask.repeat(self._heads // self._groups, 1)[None, None]
        return self._causals[prefix, horizon]


@dataclass(frozen=True)
class _Prefix:
    """What the expert reads in every denoising step.

    read: keys and values by expert layer, [B, G, P, E] or, for self-attention, with H empty places behind; seen: bool
    [B, 1, 1, P], None where every token is real; sees_all: bool [B or 1, 1, R*H, P + H].
    """

    read: list[tuple[Tensor, Tensor]]
    seen: Tensor | None
    sees_all: Tensor
    continued: Table


def _tensors(value: object) -> Iterator[Tensor]:
    """All tensors in nested containers and dataclasses."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, PackedLayer | PackedVisionLayer | ClockTables):
        yield from _tensors(vars(value))
