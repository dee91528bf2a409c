"""The tokenizer: newline, padding, limits, files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from smolpilot.common.errors import CheckpointError, TransformError
from smolpilot.smolvla import PolicyTokenizer
from smolpilot.smolvla.config.presets import preset
from smolpilot.smolvla.transforms.byte_tokenizer import SIZE, byte_level_folder, byte_level_tokenizer

TINY = preset("tiny").vlm


def test_one_token_per_byte_and_a_newline() -> None:
    tokenizer = byte_level_tokenizer(TINY)
    assert len(tokenizer.encode("touch", max_length=48)) == 6
    assert tokenizer.encode("touch", max_length=48) == tokenizer.encode("touch\n", max_length=48)
    assert len(tokenizer.encode("ü", max_length=48)) == 3


def test_padding_on_the_right_to_the_longest_or_to_the_limit() -> None:
    tokenizer = byte_level_tokenizer(TINY)
    tokens, mask = tokenizer(["ab", "abcd"], max_length=48)
    assert tokens.shape == (2, 5)
    assert mask.tolist() == [[True] * 3 + [False] * 2, [True] * 5]
    assert tokens[0, 3:].tolist() == [tokenizer.pad_id] * 2
    tokens, mask = tokenizer(["ab"], max_length=48, padding="max_length")
    assert tokens.shape == (1, 48)
    assert int(mask.sum()) == 3


def test_limits() -> None:
    tokenizer = byte_level_tokenizer(TINY)
    assert tokenizer.length("x" * 47) == 48
    tokenizer(["x" * 47], max_length=48)
    with pytest.raises(TransformError, match="49 tokens"):
        tokenizer(["x" * 48], max_length=48)


def test_fits_the_vocabulary_of_tiny_with_the_special_tokens_in_place() -> None:
    tokenizer = byte_level_tokenizer(TINY)
    assert tokenizer.vocab_size == SIZE <= TINY.text.vocab_size
    special = {tokenizer.pad_id, tokenizer.fake_image_token_id, tokenizer.global_image_token_id}
    assert len(special) == 3
    assert min(token for token in special if token is not None) >= 256


def test_folder_survives_writing(tmp_path: Path) -> None:
    byte_level_folder(TINY).write(tmp_path / "vlm")
    text = ["größer als 3"]
    ours, again = byte_level_tokenizer(TINY), PolicyTokenizer.from_folder(tmp_path / "vlm")
    assert torch.equal(ours(text, max_length=48)[0], again(text, max_length=48)[0])
    assert again.folder.config() == TINY


def test_damaged_and_incomplete_folders(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        PolicyTokenizer.from_folder(tmp_path / "nowhere")
    folder = tmp_path / "vlm"
    byte_level_folder(TINY).write(folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    del config["pad_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "special_tokens_map.json").unlink()
    with pytest.raises(CheckpointError, match="pad_token"):
        PolicyTokenizer.from_folder(folder)
    (folder / "tokenizer.json").write_text('{"version": "1.0"')
    with pytest.raises(CheckpointError, match=r"tokenizer\.json cannot be read"):
        PolicyTokenizer.from_folder(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match="--tokenizer"):
        PolicyTokenizer.from_folder(folder)
