"""Instructions to tokens, with the tokenizer.json of the vision-language model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from smolpilot.common.errors import CheckpointError, TransformError
from smolpilot.common.text import plain, shown
from smolpilot.smolvla.config.settings_form import RESTORE
from smolpilot.smolvla.config.vlm_folder import TOKENIZER, VLMFolder

# Any instruction: what a tokenizer does to every text (special tokens around it, patterns) shows when it is loaded.
_PROBE = "pick up the cube"


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
        where = f"{folder.origin}/{TOKENIZER}"
        try:
            self._core = _guarded(lambda: Tokenizer.from_str(folder.files[TOKENIZER].decode("utf-8")))
        except _NativeError as error:
            raise CheckpointError(f"{where} cannot be read: {error}", fix=RESTORE) from error
        self._core.no_padding()
        self._core.no_truncation()
        ids = self._core.get_vocab(with_added_tokens=True).values()
        self.vocab_size: int = len(ids)
        self.largest_id: int = max(ids, default=-1)
        try:
            self.encode(_PROBE, max_length=1 << 30)
        except TransformError as error:
            raise CheckpointError(
                f"{where} makes no tokens of a text: {error.found}", expected="the tokenizer of SmolVLM2", fix=RESTORE
            ) from error
        self.pad_id = self._special("pad_token", required=True)
        self.fake_image_token_id = self._special("fake_image_token")
        self.global_image_token_id = self._special("global_image_token")

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
                f"The instruction is {shown(text)}.",
                expected="a text that says what to do, such as 'pick up the cube'",
                fix="give it under 'task', or set default_instruction in the robot profile",
            )
        try:
            ids: list[int] = _guarded(lambda: self._core.encode(text if text.endswith("\n") else f"{text}\n").ids)
        except _NativeError as error:
            raise TransformError(
                f"The tokenizer fails on {shown(text)}: {error}",
                fix="use a text that the policy was trained with, or take the tokenizer that belongs to the policy",
            ) from error
        if not ids or max(ids) > self.largest_id:
            found = f"token {max(ids)}, which is none of its {self.vocab_size:,}" if ids else "no token"
            raise TransformError(
                f"The tokenizer makes {found} of {shown(text)}.",
                fix="take the tokenizer that belongs to the policy: --tokenizer FOLDER",
            )
        if len(ids) > max_length:
            raise TransformError(
                f"The instruction has {len(ids)} tokens with its closing newline: {shown(text)}.",
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
            extra = values.get("extra_special_tokens")
            for entry in (values.get(role), extra.get(role) if isinstance(extra, dict) else None):
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


class _NativeError(Exception):
    """What the library says, in one line."""


def _guarded[T](call: Callable[[], T]) -> T:
    """A call into the library, which raises bare Exception, and where it panics what is not even an Exception."""
    try:
        return call()
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise _NativeError(plain(error, 200)) from error
