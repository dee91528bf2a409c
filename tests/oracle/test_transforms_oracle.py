"""The transforms against LeRobot's processors and image preparation: equal to the last bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from smolpilot.smolvla.config.presets import preset
from smolpilot.smolvla.transforms.byte_tokenizer import byte_level_folder
from smolpilot.smolvla.transforms.images import letterbox
from smolpilot.smolvla.transforms.normalize import Normalizer
from smolpilot.smolvla.transforms.tokenizer import PolicyTokenizer

pytestmark = pytest.mark.oracle

SIZES = [
    (64, 64),
    (48, 64),
    (64, 48),
    (480, 640),
    (31, 17),
    (17, 31),
    (7, 90),
    (90, 7),
    (63, 65),
    (200, 201),
    (3, 5),
    (1080, 1920),
    (100, 300),
]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("target", [32, 64, 96])
def test_letterbox_is_lerobots(size: tuple[int, int], target: int) -> None:
    from lerobot.policies.common.vla_utils import resize_with_pad

    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    assert torch.equal(letterbox(images, target, target), resize_with_pad(images, target, target, pad_value=0))


def test_letterbox_rounding_is_lerobots_for_every_size() -> None:
    """Where the ratio is not exact, truncation loses a pixel; the geometry must agree at every size."""
    from lerobot.policies.common.vla_utils import resize_with_pad

    for height in range(5, 80, 3):
        for width in range(5, 80, 7):
            image = torch.ones(1, 1, height, width)
            assert torch.equal(letterbox(image, 48, 48), resize_with_pad(image, 48, 48, pad_value=0)), (height, width)


@pytest.mark.parametrize("mode", ["MEAN_STD", "MIN_MAX", "QUANTILES", "QUANTILE10", "IDENTITY"])
def test_normalization_is_lerobots(mode: str) -> None:
    from lerobot.configs import FeatureType, NormalizationMode, PolicyFeature
    from lerobot.processor import NormalizerProcessorStep, UnnormalizerProcessorStep

    rng = np.random.default_rng(0)
    dim = 8
    mean, std = rng.normal(size=dim), rng.uniform(1e-6, 5, dim)
    std[2] = std[3] = 0
    mean[3] = 0
    low, high = mean - 3 * std, mean + 3 * std
    stats = {"mean": mean, "std": std, "min": low, "max": high, "q01": low, "q99": high, "q10": low, "q90": high}
    options = {
        "features": {"action": PolicyFeature(type=FeatureType.ACTION, shape=(dim,))},
        "norm_map": {FeatureType.ACTION: NormalizationMode(mode)},
        "stats": {"action": stats},
    }
    values = torch.from_numpy(mean + rng.normal(size=(4, 50, dim)) * std).float()
    ours = Normalizer("action", mode, {"action": stats}, dim)
    theirs = NormalizerProcessorStep(**options)._normalize_action(values, inverse=False)
    assert torch.equal(ours.forward(values), theirs)
    back = UnnormalizerProcessorStep(**options)._normalize_action(theirs, inverse=True)
    assert torch.equal(ours.backward(theirs), back)


TEXTS = [
    "touch the red block",
    "Pick up the yellow bottle on the table.\n",
    "stapel 12 Würfel 漢字",
    "  spaces  ",
    "it's <image> here <end_of_utterance>",
    "a\nb",
]


def _tokens(folder: Path, padding: str, max_length: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Tokens and mask of the texts, ours and LeRobot's."""
    from lerobot.lerobot_types import TransitionKey
    from lerobot.processor import NewLineTaskProcessorStep, TokenizerProcessorStep
    from lerobot.utils.constants import OBS_LANGUAGE_ATTENTION_MASK, OBS_LANGUAGE_TOKENS

    step = TokenizerProcessorStep(
        tokenizer_name=str(folder), padding=padding, padding_side="right", max_length=max_length
    )
    with_newline = NewLineTaskProcessorStep().complementary_data({"task": TEXTS})
    out = step({TransitionKey.COMPLEMENTARY_DATA: with_newline, TransitionKey.OBSERVATION: {}})
    observation = out[TransitionKey.OBSERVATION]
    tokens, mask = PolicyTokenizer.from_folder(folder)(TEXTS, max_length=max_length, padding=padding)
    theirs = {"tokens": observation[OBS_LANGUAGE_TOKENS], "mask": observation[OBS_LANGUAGE_ATTENTION_MASK]}
    return {"tokens": tokens, "mask": mask}, theirs


@pytest.mark.parametrize("padding", ["longest", "max_length"])
def test_tokens_of_the_shipped_tokenizer_are_lerobots(padding: str, tmp_path: Path) -> None:
    byte_level_folder(preset("tiny").vlm).write(tmp_path / "vlm")
    ours, theirs = _tokens(tmp_path / "vlm", padding, 64)
    assert torch.equal(ours["tokens"], theirs["tokens"])
    assert torch.equal(ours["mask"], theirs["mask"])


@pytest.mark.real
@pytest.mark.parametrize("padding", ["longest", "max_length"])
def test_tokens_of_the_public_tokenizer_are_lerobots(padding: str, real_data: Path) -> None:
    folder = real_data.parent / "models" / "SmolVLM2-500M-Video-Instruct"
    if not folder.is_dir():
        pytest.skip("no public tokenizer here")
    ours, theirs = _tokens(folder, padding, 48)
    assert torch.equal(ours["tokens"], theirs["tokens"])
    assert torch.equal(ours["mask"], theirs["mask"])


def test_special_tokens_have_the_ids_that_transformers_reads(tmp_path: Path) -> None:
    from transformers import AutoProcessor

    byte_level_folder(preset("tiny").vlm).write(tmp_path / "vlm")
    theirs = AutoProcessor.from_pretrained(tmp_path / "vlm").tokenizer
    ours = PolicyTokenizer.from_folder(tmp_path / "vlm")
    assert ours.fake_image_token_id == theirs.fake_image_token_id
    assert ours.global_image_token_id == theirs.global_image_token_id
    assert ours.pad_id == theirs.pad_token_id
    assert ours.vocab_size == len(theirs)
