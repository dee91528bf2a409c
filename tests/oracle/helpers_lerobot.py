"""Tiny checkpoints that LeRobot itself writes, and its own pipeline on an observation."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from smolpilot.common.keys import ACTION, STATE, TASK, image_key

SIZE = (48, 64)
CAMERAS = ("front", "wrist")


def features(cameras: tuple[str, ...] = CAMERAS, width: int = 3) -> tuple[dict[str, Any], dict[str, Any]]:
    """LeRobot's input and output features of the tiny dataset."""
    from lerobot.configs import FeatureType, PolicyFeature

    inputs = {STATE: PolicyFeature(type=FeatureType.STATE, shape=(width,))}
    inputs |= {image_key(one): PolicyFeature(type=FeatureType.VISUAL, shape=(3, *SIZE)) for one in cameras}
    return inputs, {ACTION: PolicyFeature(type=FeatureType.ACTION, shape=(width,))}


def write_checkpoint(folder: Path, config: Any, *, seed: int = 0, statistics: dict[str, Any] | None = None) -> Path:
    """A checkpoint of random weights as LeRobot's training leaves it: config, weights, both processors."""
    from lerobot.policies import get_policy_class, make_pre_post_processors

    torch.manual_seed(seed)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        policy = get_policy_class(config.type)(config)
        for parameter in policy.parameters():
            if parameter.ndim > 1:
                parameter.data *= 2  # so that every input matters
        policy.save_pretrained(folder)
        found = stats() if statistics is None else statistics
        for processor in make_pre_post_processors(config, dataset_stats=found):
            processor.save_pretrained(folder)
    return folder


def stats(width: int = 3) -> dict[str, dict[str, torch.Tensor]]:
    """Statistics of state, action and images, as LeRobot hands them to its processors."""
    low, high = torch.linspace(-1.0, -0.2, width), torch.linspace(0.7, 1.5, width)
    vector = {"mean": (low + high) / 2, "std": (high - low) / 4, "min": low, "max": high}
    image = {"mean": torch.full((3, 1, 1), 0.45), "std": torch.full((3, 1, 1), 0.25), "min": torch.zeros(3, 1, 1),
             "max": torch.ones(3, 1, 1)}  # fmt: skip
    return {STATE: vector, ACTION: vector, **{image_key(camera): image for camera in CAMERAS}}


def act_config(**overrides: Any) -> Any:
    """A tiny ACT."""
    from lerobot.policies.act.configuration_act import ACTConfig

    inputs, outputs = features()
    values: dict[str, Any] = {
        "input_features": inputs, "output_features": outputs, "chunk_size": 8, "n_action_steps": 5, "dim_model": 32,
        "n_heads": 2, "dim_feedforward": 48, "n_encoder_layers": 1, "n_vae_encoder_layers": 1, "latent_dim": 4,
        "pretrained_backbone_weights": None, "device": "cpu", "push_to_hub": False,
    }  # fmt: skip
    return ACTConfig(**{**values, **overrides})


def vqbet_config(**overrides: Any) -> Any:
    """A tiny VQ-BeT, which reads three observations."""
    from lerobot.policies.vqbet.configuration_vqbet import VQBeTConfig

    inputs, outputs = features(cameras=("front",))
    values: dict[str, Any] = {
        "input_features": inputs, "output_features": outputs, "n_obs_steps": 3, "n_action_pred_token": 3,
        "action_chunk_size": 4, "crop_shape": (40, 40), "pretrained_backbone_weights": None, "gpt_n_layer": 1,
        "gpt_n_head": 2, "gpt_hidden_dim": 16, "gpt_input_dim": 16, "gpt_output_dim": 16, "vqvae_enc_hidden_dim": 16,
        "vqvae_embedding_dim": 16, "vqvae_n_embed": 4, "device": "cpu", "push_to_hub": False,
    }  # fmt: skip
    return VQBeTConfig(**{**values, **overrides})


def diffusion_config(**overrides: Any) -> Any:
    """A tiny diffusion policy, which reads two observations."""
    from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig

    inputs, outputs = features()
    values: dict[str, Any] = {
        "input_features": inputs, "output_features": outputs, "horizon": 8, "n_action_steps": 4, "down_dims": (8, 16),
        "n_groups": 2, "diffusion_step_embed_dim": 8, "spatial_softmax_num_keypoints": 4, "num_train_timesteps": 5,
        "pretrained_backbone_weights": None, "device": "cpu", "push_to_hub": False,
    }  # fmt: skip
    return DiffusionConfig(**{**values, **overrides})


class Peer:
    """LeRobot's own way from an observation to actions: prepare_observation_for_inference, processors, policy."""

    def __init__(self, folder: Path) -> None:
        from lerobot.configs import PreTrainedConfig
        from lerobot.policies import get_policy_class, make_pre_post_processors

        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            config = PreTrainedConfig.from_pretrained(folder)
            config.device = "cpu"
            self.policy = get_policy_class(config.type).from_pretrained(folder, config=config)
            self.before, self.after = make_pre_post_processors(config, str(folder))

    def batch(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        from lerobot.policies.utils import prepare_observation_for_inference

        arrays = {key: value for key, value in observation.items() if key.startswith("observation.")}
        ready: dict[str, Any] = prepare_observation_for_inference(arrays, torch.device("cpu"), observation.get(TASK))
        return dict(self.before(ready))

    @torch.no_grad()
    def chunk(self, observation: Mapping[str, Any]) -> npt.NDArray[Any]:
        """The chunk [H, A] of one observation."""
        self.policy.reset()
        return np.asarray(self.after(self.policy.predict_action_chunk(self.batch(observation)))[0])

    @torch.no_grad()
    def actions(self, observations: list[dict[str, Any]], seeds: dict[int, int]) -> npt.NDArray[Any]:
        """One action for each step of an episode [N, A], by select_action; seeds: those set before a step."""
        self.policy.reset()
        found = []
        for step, observation in enumerate(observations):
            if step in seeds:
                torch.manual_seed(seeds[step])
            found.append(self.after(self.policy.select_action(self.batch(observation)))[0].numpy())
        return np.stack(found)
