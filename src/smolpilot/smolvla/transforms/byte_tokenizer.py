"""The byte-level tokenizer of the `tiny` preset, with the special tokens and processor files of SmolVLM in place."""

from __future__ import annotations

import json
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from smolpilot.smolvla.config import VLMConfig
from smolpilot.smolvla.config.vlm_folder import VLMFolder

from .tokenizer import PolicyTokenizer

# Same names and roles as SmolVLM2's; the order fixes the ids after the 256 bytes.
_SPECIAL = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<fake_token_around_image>", "<image>", "<global-img>",
    "<end_of_utterance>",
]  # fmt: skip
_ROLES = {
    "bos_token": "<|im_start|>",
    "eos_token": "<end_of_utterance>",
    "pad_token": "<|im_end|>",
    "unk_token": "<|endoftext|>",
}
_IMAGE_ROLES = {
    "image_token": "<image>",
    "fake_image_token": "<fake_token_around_image>",
    "global_image_token": "<global-img>",
    "end_of_utterance_token": "<end_of_utterance>",
}
SIZE = 256 + len(_SPECIAL)


def byte_level_folder(config: VLMConfig) -> VLMFolder:
    """The files that transformers' AutoConfig, AutoTokenizer and AutoProcessor read for a model of these dimensions."""
    core = _core()
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "processor_class": "SmolVLMProcessor",
        "clean_up_tokenization_spaces": False,
        "model_max_length": 8192,
        **_ROLES,
        **_IMAGE_ROLES,
        "extra_special_tokens": _IMAGE_ROLES,
    }
    side = config.vision.patches_per_side // config.scale_factor
    edge = {"longest_edge": config.vision.image_size}
    images = {
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "max_image_size": edge,
        "size": edge,
        "processor_class": "SmolVLMProcessor",
    }
    files: dict[str, dict[str, Any]] = {
        "tokenizer_config.json": tokenizer_config,
        "special_tokens_map.json": {**_ROLES, **_IMAGE_ROLES},
        "processor_config.json": {"image_seq_len": side * side, "processor_class": "SmolVLMProcessor"},
        "preprocessor_config.json": {"image_processor_type": "SmolVLMImageProcessor", **images},
        "video_preprocessor_config.json": {
            "video_processor_type": "SmolVLMVideoProcessor",
            "video_sampling": {"fps": 1, "max_frames": 64, "video_size": edge},
            **images,
        },
    }
    content = {name: _bytes(values) for name, values in files.items()}
    content["tokenizer.json"] = core.to_str(pretty=True).encode()
    return VLMFolder(content, "the shipped byte-level tokenizer").with_config(config)


def byte_level_tokenizer(config: VLMConfig) -> PolicyTokenizer:
    """One token per byte of UTF-8; needs a vocabulary of at least `SIZE`."""
    return PolicyTokenizer(byte_level_folder(config))


def _core() -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in _SPECIAL])
    return core


def _bytes(values: dict[str, Any]) -> bytes:
    return json.dumps(values, indent=2).encode()
