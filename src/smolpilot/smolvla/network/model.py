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

from .expert import Expert, Memory
from .flow_matching import (
    Guide,
    draw_time,
    flow_matching_losses,
    integrate,
    mean_over_episode,
    step_times,
    time_embedding,
)
from .inputs import PolicyInputs
from .text_model import KeysValues, TextModel
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
        return mean_over_episode(self.losses(inputs, noise, time), inputs.action_is_pad)

    def losses(self, inputs: PolicyInputs, noise: Tensor | None = None, time: Tensor | None = None) -> Tensor:
        """Squared velocity error of every real action dimension, float32 [B, H, action_dim]."""
        actions = inputs.actions
        if actions is None:
            raise TransformError(
                "The inputs hold no actions, so there is no loss.", fix="build them from frames with actions"
            )
        noise = torch.randn_like(actions) if noise is None else noise
        time = draw_time(actions.shape[0], device=actions.device) if time is None else time
        prefix = self.read_prefix(inputs)
        losses = flow_matching_losses(lambda x, t: self.velocity(x, t, prefix), actions, noise, time)
        return losses[..., : self.config.action_dim]

    # -- sampling --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def sample(self, inputs: PolicyInputs, noise: Tensor | None = None, num_steps: int | None = None) -> Tensor:
        """Normalized action chunks by Euler integration, float32 [B, H, A]; noise [B, H, A] is drawn if not given."""
        if noise is None:
            shape = (inputs.state.shape[0], self.config.chunk_size, self.config.max_action_dim)
            noise = torch.randn(shape, dtype=torch.float32, device=inputs.state.device)
        steps = self.config.num_steps if num_steps is None else num_steps
        return self.denoise(self.read_prefix(inputs), noise, self.clock(steps))

    def denoise(self, prefix: Prefix, noise: Tensor, clock: Tensor, guide: Guide | None = None) -> Tensor:
        """Chunks [B, H, A] from noise [B, H, A]; clock [steps, W] from `clock`, guide as `integrate` takes it.

        Equal, bit for bit, to `velocity` at each step: a kernel that gets the same inputs again gives the same bits.
        """
        memory = self.expert.memorize(prefix.keys_values, prefix.mask, noise.shape[1])
        return integrate(
            lambda step, x: self._velocity(x, clock[step : step + 1], prefix, memory), noise, len(clock), guide
        )

    def clock(self, steps: int) -> Tensor:
        """The embedding of each denoising step's time, [steps, W]."""
        times = torch.tensor(step_times(steps), dtype=torch.float32, device=self.state_proj.weight.device)
        return self._embed_time(times)

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
        embeddings, mask = self._embed_context(inputs)
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
        context, context_mask = self._embed_context(inputs)
        embeddings = torch.cat([context, self._embed_state(inputs.state).to(context.dtype)], dim=1)
        mask = F.pad(context_mask, (0, 1), value=True)
        is_state = torch.zeros(mask.shape[1], dtype=torch.bool, device=inputs.state.device)
        is_state[-1] = True
        missing = self.config.prefix_length - mask.shape[1]
        if missing > 0:
            embeddings = F.pad(embeddings, (0, 0, 0, missing))
            mask, is_state = F.pad(mask, (0, missing)), F.pad(is_state, (0, missing))
        return embeddings, mask, is_state

    def _embed_context(self, inputs: PolicyInputs) -> tuple[Tensor, Tensor]:
        """Embeddings [B, K, D] of images and instruction, and their mask bool [B, K]."""
        language: Tensor = self.text.embed_tokens(inputs.tokens)
        parts = [*self._embed_images(inputs), (language * math.sqrt(language.shape[-1]), inputs.token_mask)]
        embeddings, masks = zip(*parts, strict=True)
        return torch.cat(embeddings, dim=1), torch.cat(masks, dim=1)

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
        """Tokens and mask of each camera; a camera masked in the whole batch costs nothing and changes nothing.

        The masks may stay on the CPU: then nothing here waits for the device.
        """
        masks, device = inputs.image_masks, inputs.state.device
        used, everywhere = masks.any(dim=0).tolist(), masks.all(dim=0).tolist()
        cameras = [camera for camera, some in enumerate(used) if some]
        tokens: dict[int, Tensor] = {}
        if inputs.image_tokens is not None:
            tokens = {camera: inputs.image_tokens[:, camera] for camera in cameras}
        elif cameras:
            stacked = self.embed_images(inputs.images[:, cameras].flatten(0, 1))  # [B*used, tokens, D]
            by_camera = stacked.reshape(-1, len(cameras), *stacked.shape[1:])  # [B, used, tokens, D]
            tokens = dict(zip(cameras, by_camera.unbind(dim=1), strict=True))
        parts: list[tuple[Tensor, Tensor]] = []
        start, end = self._around_image(len(masks))
        for camera, seen in enumerate(masks.T):
            # The special tokens stay visible even around a masked camera.
            for embedded in (start, tokens.get(camera), end):
                if embedded is None:
                    continue
                mask = torch.ones(embedded.shape[:2], dtype=torch.bool, device=device)
                if embedded is tokens.get(camera) and not everywhere[camera]:
                    mask = seen[:, None].expand(mask.shape).to(device)
                parts.append((embedded, mask))
        return parts

    def _around_image(self, batch: int) -> tuple[Tensor | None, Tensor | None]:
        """Embeddings before and after each image, [B, 2, D] and [B, 1, D], or nothing."""
        ids, table = self.config.around_image, self.text.embed_tokens.weight
        if ids is None:
            return None, None
        # Rows by number, not by a tensor of numbers: a copy from the CPU could not be recorded in a CUDA graph.
        fake, whole = (table[one][None, None].expand(batch, 1, -1) for one in ids)
        return torch.cat([fake, whole], dim=1), fake

    # -- the suffix ------------------------------------------------------------------------------------------------

    def velocity(self, noisy: Tensor, time: Tensor, prefix: Prefix) -> Tensor:
        """The velocity at `noisy` [B, H, A] and `time` [B]; float32 [B, H, A]."""
        return self._velocity(noisy, self._embed_time(time), prefix)

    def _velocity(self, noisy: Tensor, clock: Tensor, prefix: Prefix, memory: Memory | None = None) -> Tensor:
        out = self.expert(self.embed_suffix(noisy, clock), prefix.keys_values, prefix.mask, memory)  # [B, H, W]
        velocity: Tensor = self.action_out_proj(out.to(self.action_out_proj.weight.dtype))
        return velocity.float()

    def _embed_time(self, time: Tensor) -> Tensor:
        """[B] -> [B, W]."""
        return time_embedding(time, self.config.expert_width, self.config.min_period, self.config.max_period)

    def embed_suffix(self, noisy: Tensor, clock: Tensor) -> Tensor:
        """Action tokens: each noisy action [B, H, A] mixed with its time's embedding [B or 1, W] -> [B, H, W]."""
        action = self.action_in_proj(noisy.to(self.action_in_proj.weight.dtype))  # [B, H, W]
        moment = clock.to(action.dtype)[:, None].expand_as(action)
        hidden = F.silu(self.action_time_mlp_in(torch.cat([action, moment], dim=-1)))
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
