"""The last transform: the instruction to tokens; a text that was never trained is said out loud."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from smolpilot.common.errors import TransformError
from smolpilot.common.keys import TASK
from smolpilot.contracts import UntrainedInstructionWarning
from smolpilot.smolvla.config import PolicyConfig

from .tokenizer import PolicyTokenizer
from .transform import Transform

__all__ = ["InstructionTransform", "UntrainedInstructionWarning"]


class InstructionTransform(Transform):
    """`task` of each frame, else the robot's default instruction, to tokens [B, T] and their mask."""

    name = "instruction"
    in_processors = True

    def __init__(
        self, config: PolicyConfig, tokenizer: PolicyTokenizer, trained: Sequence[str], default: str | None
    ) -> None:
        self.tokenizer, self.default = tokenizer, default
        self.trained = [text.strip() for text in trained]
        self.max_length, self.padding = config.tokenizer_max_length, config.pad_language_to
        rows = config.vlm.text.vocab_size
        if max(tokenizer.vocab_size, tokenizer.largest_id + 1) > rows:
            raise TransformError(
                f"The tokenizer has {tokenizer.vocab_size} tokens with numbers up to {tokenizer.largest_id}, the "
                f"policy {rows}.",
                expected=f"token numbers below {rows}",
                fix="use the tokenizer that the policy was trained with",
            )
        self._warned: set[str] = set()

    def describe(self) -> str:
        return f"at most {self.max_length} tokens, padded to {self.padding}; {len(self.trained)} trained texts"

    def read(self, frames: Sequence[Mapping[str, Any]]) -> list[str]:
        """The instruction of each frame; one that was never trained warns once."""
        texts = []
        for frame in frames:
            text = frame.get(TASK, self.default)
            if text is None:
                raise TransformError("The frame has no 'task'.", expected="the instruction as text under 'task'")
            texts.append(text)
            self._warn_when_untrained(text)
        return texts

    def tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Tokens int64 [B, T] and mask bool [B, T], padded to the longest of these or to the policy's own length."""
        tokens, mask = self.tokenizer(texts, max_length=self.max_length, padding=self.padding)
        return tokens, mask.to(torch.bool)

    def spec(self) -> dict[str, Any]:
        return {"max_tokens": self.max_length}

    def _warn_when_untrained(self, text: object) -> None:
        if not self.trained or not isinstance(text, str) or text.strip() in self.trained or text in self._warned:
            return
        self._warned.add(text)
        nearest = difflib.get_close_matches(text.strip(), self.trained, n=1, cutoff=0.0)[0]
        warnings.warn(
            f"The policy was never trained with the instruction {text.strip()!r}; the nearest trained one is "
            f"{nearest!r}. Rewording can cost the whole task: use the trained text where it means the same.",
            UntrainedInstructionWarning,
            stacklevel=2,
        )


class TokenTable:
    """Tokens and mask [N, T] of texts that are used again and again, on one device; a batch takes rows of it."""

    def __init__(self, tokens: Tensor, mask: Tensor, device: torch.device, *, shorten: bool) -> None:
        """shorten: a batch is as wide as the longest of its own texts."""
        self._tokens, self._mask, self._shorten = tokens.to(device), mask.to(device), shorten
        self._lengths = mask.sum(dim=1).to(device)

    @property
    def width(self) -> int:
        """Tokens of the longest text."""
        return self._tokens.shape[1]

    def rows(self, text: Tensor, *, everything: bool = False) -> tuple[Tensor, Tensor]:
        """What the list gives for a batch of the texts number `text` [B]; `everything`: as wide as the table."""
        width = int(self._lengths[text].max()) if self._shorten and not everything else self.width
        return self._tokens[text, :width], self._mask[text, :width]
