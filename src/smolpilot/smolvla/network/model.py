"""SmolVLA: a vision-language prefix, read by an action expert that is trained with flow matching.

    images ──► vision tower ──► connector ─┐
    instruction ──► token embeddings ──────┼─► text model ──► keys/values ─► expert ──► velocity
    state ──► state_proj ──────────────────┘                                   ▲
    noisy actions, time ──► action_in_proj, time MLP ──────────────────────────┘

The prefix never looks at the suffix, so both training and sampling run it once and hand its keys and values to the
expert. Source: SmolVLA paper, section 3; lerobot/policies/smolvla/modeling_smolvla.py.
Letters: B batch, C cameras, T instruction tokens, P prefix tokens, H chunk, A max_action_dim, D text width, W expert.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from smolpilot.common.errors import TransformError
from smolpilot.smolvla.config import PolicyConfig

from .expert import Expert
from .flow import draw_time, integrate, point_on_path, time_embedding
from .inputs import PolicyInputs
from .text import KeysValues, TextModel
from .vision import Connector, VisionTower


@dataclass(frozen=True)
class Prefix:
    """What the expert reads: keys and values [B, P, G, E] per text layer, and which tokens are real, bool [B, P]."""

    keys_values: list[KeysValues]
    mask: Tensor


@dataclass(frozen=True)
class Context:
    """The prefix without the state: keys and values of image and instruction tokens [B, K, G, E] per text layer, and
    which tokens are real, bool [B, K]. Images and instruction never look at the state, so this is the same wherever
    the joints are; with a frozen vision-language model no gradient passes through it."""

    keys_values: list[KeysValues]
    mask: Tensor

    def pack(self) -> Tensor:
        """All keys and values in one tensor [B, L, 2, K, G, E]."""
        return torch.stack([torch.stack(pair, dim=1) for pair in self.keys_values], dim=1)

    @classmethod
    def unpack(cls, packed: Tensor, mask: Tensor) -> Context:
        """The context of a tensor made by `pack`."""
        return cls([(layer[:, 0], layer[:, 1]) for layer in packed.unbind(dim=1)], mask)


class SmolVLA(nn.Module):
    """The network. Inputs are normalized and padded (see Transforms); outputs are normalized actions."""

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        self.config = config
        width, expert_width = config.vlm.text.width, config.expert_width
        self.vision = VisionTower(config.vlm.vision)
        self.connector = Connector(config.vlm)
        self.text = TextModel(config)
        self.expert = Expert(config)
        self.state_proj = nn.Linear(config.max_state_dim, width)
        self.action_in_proj = nn.Linear(config.max_action_dim, expert_width)
        self.action_out_proj = nn.Linear(expert_width, config.max_action_dim)
        self.action_time_mlp_in = nn.Linear(2 * expert_width, expert_width)
        self.action_time_mlp_out = nn.Linear(expert_width, expert_width)
        self.set_trainable()

    # -- training --------------------------------------------------------------------------------------------------

    def loss(self, inputs: PolicyInputs, noise: Tensor | None = None, time: Tensor | None = None) -> Tensor:
        """Mean squared velocity error over real action dimensions and steps inside the episode. Scalar float32.

        inputs must hold `actions` [B, H, A]; noise [B, H, A] and time [B] are drawn when not given.
        """
        errors = self.losses(inputs, noise, time)  # [B, H, action_dim]
        if inputs.action_is_pad is None:
            return errors.mean()
        valid = ~inputs.action_is_pad
        count = (valid.sum() * errors.shape[-1]).clamp_min(1)
        return (errors * valid[..., None]).sum() / count

    def losses(self, inputs: PolicyInputs, noise: Tensor | None = None, time: Tensor | None = None) -> Tensor:
        """Squared velocity error of every real action dimension, float32 [B, H, action_dim]."""
        actions = inputs.actions
        if actions is None:
            raise TransformError(
                "The inputs hold no actions, so there is no loss.", fix="build them from frames with actions"
            )
        noise = torch.randn_like(actions) if noise is None else noise
        time = draw_time(actions.shape[0], device=actions.device) if time is None else time
        noisy, velocity = point_on_path(actions, noise, time)
        predicted = self.velocity(noisy, time, self.read_prefix(inputs))
        return F.mse_loss(predicted, velocity, reduction="none")[..., : self.config.action_dim]

    # -- sampling --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def sample(self, inputs: PolicyInputs, noise: Tensor | None = None, num_steps: int | None = None) -> Tensor:
        """Normalized action chunks by Euler integration, float32 [B, H, A]; noise [B, H, A] is drawn if not given."""
        if noise is None:
            shape = (inputs.state.shape[0], self.config.chunk_size, self.config.max_action_dim)
            noise = torch.randn(shape, dtype=torch.float32, device=inputs.state.device)
        prefix = self.read_prefix(inputs)
        steps = self.config.num_steps if num_steps is None else num_steps
        return integrate(lambda x, time: self.velocity(x, time, prefix), noise, steps)

    # -- the prefix ------------------------------------------------------------------------------------------------

    def read_prefix(self, inputs: PolicyInputs) -> Prefix:
        """The prefix by the cheapest exact way: split where nothing in it but the state can carry a gradient."""
        if inputs.context is not None and inputs.context_mask is not None:
            return self.join_state(Context.unpack(inputs.context, inputs.context_mask), inputs.state)
        if torch.is_grad_enabled() and self.context_is_trained:
            return self.encode_prefix(inputs)
        return self.join_state(self.encode_context(inputs), inputs.state)

    @property
    def context_is_trained(self) -> bool:
        """Whether vision tower, connector or text model have weights to train."""
        modules = (self.vision, self.connector, self.text)
        return any(p.requires_grad for module in modules for p in module.parameters())

    @torch.no_grad()
    def encode_context(self, inputs: PolicyInputs) -> Context:
        """Run the vision tower and the text model over images and instruction, without gradients."""
        parts = [*self._embed_images(inputs), self._embed_language(inputs)]
        embeddings = torch.cat([embedding for embedding, _ in parts], dim=1)  # [B, K, D]
        mask = torch.cat([part for _, part in parts], dim=1)  # [B, K]
        attention = mask[:, None, :] & mask[:, :, None]  # [B, K, K]
        positions = mask.cumsum(dim=1) - 1
        return Context(self.text.encode(embeddings, positions, attention, self.expert.text_layers_read), mask)

    def join_state(self, context: Context, state: Tensor) -> Prefix:
        """The whole prefix of a context and the state [B, max_state_dim]: one token is run, with gradients."""
        token = self._embed_state(state).to(context.keys_values[0][0].dtype)  # [B, 1, D]
        positions = context.mask.sum(dim=1, keepdim=True)  # it comes after all real tokens
        pairs = self.text.extend(token, positions, context.keys_values, context.mask)
        return Prefix(pairs, F.pad(context.mask, (0, 1), value=True))

    def encode_prefix(self, inputs: PolicyInputs) -> Prefix:
        """Run the vision tower and the text model over images, instruction and state at once."""
        embeddings, mask, is_state = self.embed_prefix(inputs)  # [B, P, D], bool [B, P], bool [P]
        # Images and instruction see each other but not the state; the state sees all; padding is seen by nobody.
        visible = (~is_state[None, :]) | is_state[:, None]  # [P, P]
        attention = visible & mask[:, None, :] & mask[:, :, None]  # [B, P, P]
        positions = mask.cumsum(dim=1) - 1
        pairs = self.text.encode(embeddings, positions, attention, self.expert.text_layers_read)
        return Prefix(pairs, mask)

    def embed_prefix(self, inputs: PolicyInputs) -> tuple[Tensor, Tensor, Tensor]:
        """Token embeddings [B, P, D], their mask bool [B, P], and which one is the state, bool [P]."""
        batch, device = inputs.state.shape[0], inputs.state.device
        parts = self._embed_images(inputs)
        language, language_mask = self._embed_language(inputs)
        parts.append((language, language_mask))
        state = self._embed_state(inputs.state).to(language.dtype)
        parts.append((state, torch.ones(batch, 1, dtype=torch.bool, device=device)))
        embeddings = torch.cat([embedding for embedding, _ in parts], dim=1)
        mask = torch.cat([part for _, part in parts], dim=1)
        is_state = torch.zeros(mask.shape[1], dtype=torch.bool, device=device)
        is_state[-1] = True
        missing = self.config.prefix_length - mask.shape[1]
        if missing > 0:
            embeddings = F.pad(embeddings, (0, 0, 0, missing))
            mask, is_state = F.pad(mask, (0, missing)), F.pad(is_state, (0, missing))
        return embeddings, mask, is_state

    def _embed_language(self, inputs: PolicyInputs) -> tuple[Tensor, Tensor]:
        """Instruction embeddings [B, T, D] and their mask."""
        language: Tensor = self.text.embed_tokens(inputs.tokens)
        return language * math.sqrt(language.shape[-1]), inputs.token_mask

    def _embed_state(self, state: Tensor) -> Tensor:
        """The state token. [B, max_state_dim] -> [B, 1, D]"""
        token: Tensor = self.state_proj(state.to(self.state_proj.weight.dtype))
        return token[:, None]

    def embed_images(self, images: Tensor) -> Tensor:
        """Image tokens of a batch of images in [-1, 1]. [B, 3, h, w] -> [B, tokens, D]."""
        patches = self.vision(images.to(self.vision.post_layernorm.weight.dtype))
        tokens: Tensor = self.connector(patches)
        return tokens * math.sqrt(tokens.shape[-1])

    def _embed_images(self, inputs: PolicyInputs) -> list[tuple[Tensor, Tensor]]:
        """Tokens and mask of each camera; a camera masked in the whole batch costs nothing and changes nothing."""
        used = [camera for camera in range(inputs.images.shape[1]) if bool(inputs.image_masks[:, camera].any())]
        tokens: dict[int, Tensor] = {}
        if used:
            if inputs.image_tokens is not None:
                by_camera = inputs.image_tokens[:, used]
            else:
                stacked = self.embed_images(inputs.images[:, used].flatten(0, 1))  # [B*used, tokens, D]
                by_camera = stacked.reshape(-1, len(used), *stacked.shape[1:])  # [B, used, tokens, D]
            tokens = {camera: by_camera[:, i] for i, camera in enumerate(used)}
        parts: list[tuple[Tensor, Tensor]] = []
        start, end = self._image_special_tokens(inputs)
        for camera in range(inputs.images.shape[1]):
            # The special tokens stay visible even around a masked camera.
            parts += start
            if camera in tokens:
                seen = inputs.image_masks[:, camera, None].expand(-1, tokens[camera].shape[1])
                parts.append((tokens[camera], seen))
            parts += end
        return parts

    def _image_special_tokens(self, inputs: PolicyInputs) -> tuple[list[tuple[Tensor, Tensor]], ...]:
        """Embeddings before and after each image (two tokens and one), or nothing."""
        config = self.config
        if not config.add_image_special_tokens:
            return [], []
        if config.fake_image_token_id is None or config.global_image_token_id is None:
            raise TransformError(
                "add_image_special_tokens is set, but the tokenizer names no image tokens.",
                expected="<fake_token_around_image> and <global-img> in the tokenizer's special tokens",
            )
        batch, device = inputs.state.shape[0], inputs.state.device
        parts = []
        for ids in ([config.fake_image_token_id, config.global_image_token_id], [config.fake_image_token_id]):
            embedded = self.text.embed_tokens(torch.tensor(ids, device=device)).expand(batch, -1, -1)
            parts.append([(embedded, torch.ones(batch, len(ids), dtype=torch.bool, device=device))])
        return tuple(parts)

    # -- the suffix ------------------------------------------------------------------------------------------------

    def velocity(self, noisy: Tensor, time: Tensor, prefix: Prefix) -> Tensor:
        """The velocity at `noisy` [B, H, A] and `time` [B]; float32 [B, H, A]."""
        out = self.expert(self.embed_suffix(noisy, time), prefix.keys_values, prefix.mask)  # [B, H, W]
        velocity: Tensor = self.action_out_proj(out.to(self.action_out_proj.weight.dtype))
        return velocity.float()

    def embed_suffix(self, noisy: Tensor, time: Tensor) -> Tensor:
        """Action tokens: each noisy action mixed with the embedding of its time. [B, H, A] -> [B, H, W]."""
        config = self.config
        action = self.action_in_proj(noisy.to(self.action_in_proj.weight.dtype))  # [B, H, W]
        clock = time_embedding(time, action.shape[-1], config.min_period, config.max_period)
        clock = clock.to(action.dtype)[:, None].expand_as(action)
        hidden = F.silu(self.action_time_mlp_in(torch.cat([action, clock], dim=-1)))
        out: Tensor = self.action_time_mlp_out(hidden)
        return out

    # -- what is trained -------------------------------------------------------------------------------------------

    def set_trainable(self) -> None:
        """Freeze what the config says: vision tower, whole vision-language model, state projection.

        Of an unfrozen text model the last layers stay frozen, as in LeRobot (SmolVLMWithExpertModel.set_requires_grad).
        """
        config = self.config
        self.requires_grad_(True)
        if config.freeze_vision_encoder:
            self.vision.requires_grad_(False)
        if config.train_expert_only:
            for module in (self.vision, self.connector, self.text):
                module.requires_grad_(False)
        else:
            self.text.norm.requires_grad_(False)
            frozen = 1 if config.text_layers == config.expert_layers else 2
            for layer in self.text.layers[-frozen:]:
                layer.requires_grad_(False)
        self.state_proj.requires_grad_(config.train_state_proj)

    def initialize(self, generator: torch.Generator) -> None:
        """Draw fresh weights, the same for the same generator.

        Vision, connector, text and expert: normal with 0.02 * sqrt(960 / fan-in), the 0.02 of the public model at its
        text width; a narrow model gets activations of the same size. An embedding counts its width as fan-in.
        The projections around the expert keep the uniform distribution of nn.Linear, as in LeRobot.
        """
        for name, module in self.named_modules():
            if not isinstance(module, nn.Linear | nn.Conv2d | nn.Embedding):
                continue
            bias = None if isinstance(module, nn.Embedding) else module.bias
            if name.startswith(("vision.", "connector.", "text.", "expert.")):
                nn.init.normal_(
                    module.weight, std=0.02 * math.sqrt(960 / module.weight[0].numel()), generator=generator
                )
                if bias is not None:
                    nn.init.zeros_(bias)
            else:
                bound = 1 / math.sqrt(module.weight[0].numel())
                nn.init.uniform_(module.weight, -bound, bound, generator=generator)
                if bias is not None:
                    nn.init.uniform_(bias, -bound, bound, generator=generator)
