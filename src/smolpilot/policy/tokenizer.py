"""Instructions to tokens, with the tokenizer.json of the vision-language model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import Tokenizer
from torch import Tensor

from smolpilot.errors import CheckpointError, TransformError

from .vlm_folder import TOKENIZER, VLMFolder

Padding = Literal["longest", "max_length"]


class PolicyTokenizer:
    """Instructions [B] -> tokens [B, T] int64 and mask [B, T] bool, padded on the right.

    Equal to LeRobot's newline step followed by its TokenizerProcessorStep, except that an instruction which is too
    long is an error here and cut there. `folder` keeps the files, so that a bundle can carry them.
    """

    def __init__(self, folder: VLMFolder) -> None:
        if not folder.has_tokenizer:
            raise CheckpointError(
                f"There is no tokenizer.json in {folder.origin}.",
                expected="the tokenizer files of SmolVLM2 (tokenizer.json, tokenizer_config.json)",
                fix="name a folder that has them: --tokenizer FOLDER (tokenizer_dir= in Python)",
            )
        self.folder = folder
        try:
            self._core = Tokenizer.from_str(folder.files[TOKENIZER].decode("utf-8"))
        except Exception as error:  # the library raises bare Exception
            raise CheckpointError(f"{folder.origin}/{TOKENIZER} cannot be read: {error}") from error
        self._core.no_padding()
        self._core.no_truncation()
        self.pad_id = self._special("pad_token", required=True)
        self.fake_image_token_id = self._special("fake_image_token")
        self.global_image_token_id = self._special("global_image_token")
        self.vocab_size: int = self._core.get_vocab_size()

    @classmethod
    def from_folder(cls, path: str | Path) -> PolicyTokenizer:
        """The tokenizer of a folder with tokenizer.json and tokenizer_config.json or special_tokens_map.json."""
        return cls(VLMFolder.read(path))

    def __call__(self, texts: Sequence[str], *, max_length: int, padding: str = "longest") -> tuple[Tensor, Tensor]:
        """Tokenize a batch; TransformError for an empty instruction or one of more than `max_length` tokens."""
        rows = [self.encode(text, max_length=max_length) for text in texts]
        width = max_length if padding == "max_length" else max(map(len, rows))
        tokens = torch.full((len(rows), width), self.pad_id or 0, dtype=torch.int64)
        mask = torch.zeros((len(rows), width), dtype=torch.bool)
        for i, row in enumerate(rows):
            tokens[i, : len(row)] = torch.tensor(row, dtype=torch.int64)
            mask[i, : len(row)] = True
        return tokens, mask

    def encode(self, text: str, *, max_length: int) -> list[int]:
        """The tokens of one instruction with its closing newline."""
        if not isinstance(text, str) or not text.strip():
            raise TransformError(
                f"The instruction is {text!r}.",
                expected="a text that says what to do, such as 'pick up the cube'",
                fix="give it under 'task', or set default_instruction in the robot profile",
            )
        ids: list[int] = self._core.encode(text if text.endswith("\n") else f"{text}\n").ids
        if len(ids) > max_length:
            raise TransformError(
                f"The instruction has {len(ids)} tokens with its closing newline: {text!r}.",
                expected=f"at most {max_length} (tokenizer_max_length); the end would be cut off",
                fix="use a shorter text, the same one in training and on the robot",
            )
        return ids

    def length(self, text: str) -> int:
        """Tokens of an instruction with its closing newline."""
        return len(self.encode(text, max_length=1 << 30))

    def _special(self, role: str, *, required: bool = False) -> int | None:
        """The id of a special token by its role in tokenizer_config.json or special_tokens_map.json."""
        for name in ("tokenizer_config.json", "special_tokens_map.json"):
            values = self.folder.json(name)
            for entry in (values.get(role), _nested(values, "extra_special_tokens", role)):
                content = entry.get("content") if isinstance(entry, dict) else entry
                number = self._core.token_to_id(content) if isinstance(content, str) else None
                if number is not None:
                    return int(number)
        if required:
            raise CheckpointError(
                f"The tokenizer in {self.folder.origin} names no {role}.",
                expected=f"'{role}' in tokenizer_config.json or special_tokens_map.json",
            )
        return None


def _nested(values: dict[str, Any], key: str, role: str) -> Any:
    inner = values.get(key)
    return inner.get(role) if isinstance(inner, dict) else None
