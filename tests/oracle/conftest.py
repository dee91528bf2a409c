"""Tiny SmolVLA policies made by LeRobot itself, from a vision-language folder written here."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

VOCABULARY = 300
FAKE_IMAGE, GLOBAL_IMAGE = 297, 298


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(autouse=True, scope="session")
def _patient_bus() -> Iterator[None]:
    """LeRobot waits 50 ms for a servo, which the emulator's thread may need on a busy machine."""
    from lerobot.motors.feetech import feetech

    plain = feetech.patch_setPacketTimeout

    def patient(self: Any, length: int) -> None:
        plain(self, length)
        self.packet_timeout += 500

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feetech, "patch_setPacketTimeout", patient)
        yield


def write_vlm_folder(folder: Path, *, text: dict[str, Any], vision: dict[str, Any], scale_factor: int) -> Path:
    """A SmolVLM folder that transformers' AutoConfig and AutoProcessor read: config, tokenizer, processors."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, SmolVLMImageProcessor, SmolVLMProcessor
    from transformers.models.smolvlm.video_processing_smolvlm import SmolVLMVideoProcessor

    special = ["<|endoftext|>", "<image>", "<end_of_utterance>", "<fake_token_around_image>", "<global-img>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    filler = [f"<filler-{i}>" for i in range(VOCABULARY - 1 - len(alphabet) - len(special))]
    core.add_special_tokens([AddedToken(token, special=True) for token in [*filler, *special]])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<|endoftext|>",
        eos_token="<end_of_utterance>",
        extra_special_tokens={
            "image_token": "<image>",
            "fake_image_token": "<fake_token_around_image>",
            "global_image_token": "<global-img>",
            "end_of_utterance_token": "<end_of_utterance>",
        },
    )
    processor = SmolVLMProcessor(SmolVLMImageProcessor(), tokenizer, SmolVLMVideoProcessor())
    folder.mkdir(parents=True, exist_ok=True)
    processor.save_pretrained(folder)
    config = {
        "model_type": "smolvlm",
        "architectures": ["SmolVLMForConditionalGeneration"],
        "scale_factor": scale_factor,
        "tie_word_embeddings": False,
        "text_config": {"model_type": "llama", "vocab_size": VOCABULARY, "rms_norm_eps": 1e-5, **text},
        "vision_config": {"model_type": "smolvlm_vision", **vision},
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


TEXT = {
    "hidden_size": 48,
    "num_hidden_layers": 6,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 64,
}
VISION = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "image_size": 32,
    "patch_size": 4,
}


@pytest.fixture(scope="session")
def vlm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny SmolVLM: 8x8 patches of 4 pixels, pixel shuffle by 2, six text layers of width 48."""
    return write_vlm_folder(tmp_path_factory.mktemp("oracle") / "vlm", text=TEXT, vision=VISION, scale_factor=2)


def lerobot_config(vlm: Path, *, cameras: int = 2, state: int = 6, action: int = 6, **overrides: Any) -> Any:
    """LeRobot's SmolVLAConfig of a tiny policy."""
    from lerobot.configs import FeatureType, PolicyFeature
    from lerobot.policies.smolvla.configuration_smolvla import SmolVLAConfig

    inputs = {"observation.state": PolicyFeature(type=FeatureType.STATE, shape=(state,))}
    for i in range(cameras):
        inputs[f"observation.images.camera{i + 1}"] = PolicyFeature(type=FeatureType.VISUAL, shape=(3, 24, 40))
    values: dict[str, Any] = {
        "input_features": inputs,
        "output_features": {"action": PolicyFeature(type=FeatureType.ACTION, shape=(action,))},
        "vlm_model_name": str(vlm),
        "load_vlm_weights": False,
        "resize_imgs_with_padding": (32, 32),
        "num_vlm_layers": 4,
        "chunk_size": 7,
        "n_action_steps": 5,
        "device": "cpu",
        "push_to_hub": False,
    }
    return SmolVLAConfig(**{**values, **overrides})


def lerobot_policy(vlm: Path, *, seed: int = 0, small: bool = False, **options: Any) -> Any:
    """LeRobot's SmolVLAPolicy with random weights: as built (`small`), or wide enough that every path matters."""
    from lerobot.policies.smolvla.modeling_smolvla import SmolVLAPolicy

    torch.manual_seed(seed)
    with contextlib.redirect_stdout(io.StringIO()):
        policy = SmolVLAPolicy(lerobot_config(vlm, **options))
    if small:
        return policy
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in policy.named_parameters():
        # Norm weights around one, everything else wide: fresh 0.02-normal weights would hide errors.
        if "norm" in name and name.endswith("weight"):
            parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
        else:
            scale = 0.7 / max(parameter[0].numel(), 1) ** 0.5 if parameter.ndim > 1 else 0.1
            parameter.data = (scale * torch.randn(parameter.shape, generator=generator)).to(parameter.dtype)
    return policy
