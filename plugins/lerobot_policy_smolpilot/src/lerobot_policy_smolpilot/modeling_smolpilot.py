"""The policy class that LeRobot finds beside the configuration: batches of its pre-processor into the engine."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.utils.constants import ACTION, OBS_LANGUAGE_ATTENTION_MASK, OBS_LANGUAGE_TOKENS, OBS_STATE
from torch import Tensor

from smolpilot.common.keys import PADDING_MASK, image_key
from smolpilot.inference import prepare
from smolpilot.inference.backends.guidance import make_guidance
from smolpilot.smolvla.network.inputs import PolicyInputs
from smolpilot.smolvla.transforms.after_lerobot import TransformsAfterLeRobot

from .configuration_smolpilot import SmolpilotConfig

_HOW = "Name a bundle: --policy.type=smolpilot --policy.pretrained_path=BUNDLE"


class SmolpilotPolicy(PreTrainedPolicy):
    """smolpilot's engine behind LeRobot's interface; normalized batches in, normalized actions out."""

    config_class = SmolpilotConfig
    name = "smolpilot"

    def __init__(self, config: SmolpilotConfig, **_: Any) -> None:
        super().__init__(config)
        if config.pretrained_path is None:
            raise ValueError(f"smolpilot has no policy to run. {_HOW}")
        self.config = config
        mode: Any = config.mode  # draccus knows no Literal; `prepare` says which modes there are
        engine = prepare(
            str(config.pretrained_path),
            engine=mode,
            device=config.device or "auto",
            precision=config.precision,
            backend=config.backend,
            num_steps=config.num_steps,
            limit=config.limit,
            revision=config.pretrained_revision,
        )
        # Not a module of this one: the engine has no parameters that LeRobot might move, cast or save.
        object.__setattr__(self, "engine", engine)
        self._list = TransformsAfterLeRobot(engine.transforms)
        self._adopt(config)
        self.reset()

    @classmethod
    def from_pretrained(
        cls, pretrained_name_or_path: str | Path, *, config: SmolpilotConfig | None = None, **kwargs: Any
    ) -> SmolpilotPolicy:
        """The engine for a bundle; the bundle's own config.json stays LeRobot's `smolvla`."""
        config = config or SmolpilotConfig()
        config.pretrained_path = Path(pretrained_name_or_path)
        policy = cls(config)
        policy.eval()
        return policy

    def supports_rtc(self) -> bool:
        return True

    def reset(self) -> None:
        self._queue: deque[Tensor] = deque()
        self.engine.reset()

    @torch.no_grad()
    def predict_action_chunk(
        self,
        batch: dict[str, Tensor],
        noise: Tensor | None = None,
        *,
        inference_delay: int | None = None,
        prev_chunk_left_over: Tensor | None = None,
        execution_horizon: int | None = None,
    ) -> Tensor:
        """Normalized actions [B, H, A] of a pre-processed batch, guided by the left-over where LeRobot gives one."""
        config, steps = self.engine.settings.config, self.engine.num_steps
        rtc, guidance = self.config.rtc_config, None
        if prev_chunk_left_over is not None and rtc is not None and rtc.enabled:
            left = prev_chunk_left_over if prev_chunk_left_over.ndim == 3 else prev_chunk_left_over[None]
            left = self._list.leftover(left.float().cpu())
            guidance = make_guidance(
                left,
                chunk_size=config.chunk_size,
                action_dim=left.shape[-1],
                steps=steps,
                delay=inference_delay or 0,
                horizon=execution_horizon or rtc.execution_horizon,
                schedule=rtc.prefix_attention_schedule.value.lower(),
                max_gain=rtc.max_guidance_weight,
            )
        chunk = self.engine.predict_normalized(self._inputs(batch), noise, guidance=guidance)
        return self._list.actions(chunk).to(batch[OBS_STATE].device)

    @torch.no_grad()
    def select_action(self, batch: dict[str, Tensor], noise: Tensor | None = None) -> Tensor:
        """The next normalized action [B, A]; plans anew after `n_action_steps`."""
        if not self._queue:
            chunk = self.predict_action_chunk(batch, noise)
            self._queue.extend(chunk.transpose(0, 1)[: self.config.n_action_steps])
        return self._queue.popleft()

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Any] | None]:
        raise NotImplementedError("smolpilot trains with `smolpilot train`, not with lerobot-train.")

    def get_optim_params(self) -> dict[str, Any]:
        return {}

    def _adopt(self, config: SmolpilotConfig) -> None:
        """What LeRobot asks a policy's config for, from the bundle."""
        ours = self.engine.settings.config
        images = {image_key(slot): PolicyFeature(FeatureType.VISUAL, ours.image_shapes[slot])
                    for slot in ours.real_cameras}  # fmt: skip
        config.input_features = {OBS_STATE: PolicyFeature(FeatureType.STATE, (ours.state_dim,)), **images}
        config.output_features = {ACTION: PolicyFeature(FeatureType.ACTION, (ours.action_dim,))}
        config.chunk_size = ours.chunk_size
        config.num_steps = self.engine.num_steps
        config.n_action_steps = min(config.n_action_steps or self.engine.n_action_steps, ours.chunk_size)

    def _inputs(self, batch: dict[str, Tensor]) -> PolicyInputs:
        """A pre-processed batch as the network takes it, by what of the policy's own list is left to do."""
        slots = list(self.engine.transforms.filled)
        missing = [slot for slot in slots if image_key(slot) not in batch]
        if missing:
            raise ValueError(
                f"The batch lacks camera {', '.join(missing)}; it holds {sorted(batch)}. "
                "Rename the robot's cameras: --rename_map"
            )
        images = {slot: batch[image_key(slot)] for slot in slots}
        masks = {slot: batch.get(f"{image_key(slot)}{PADDING_MASK}") for slot in slots}
        state = batch[OBS_STATE]
        return self._list.inputs(
            {slot: (image[:, -1] if image.ndim == 5 else image).float() for slot, image in images.items()},
            {slot: mask for slot, mask in masks.items() if mask is not None},
            (state[:, -1] if state.ndim > 2 else state).float(),
            batch[OBS_LANGUAGE_TOKENS],
            batch[OBS_LANGUAGE_ATTENTION_MASK],
        )
