"""Part 5: the instruction to tokens; a text that was never trained is said out loud."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from smolpilot.contracts import UntrainedInstructionWarning
from smolpilot.errors import TransformError
from smolpilot.keys import TASK

from .config import PolicyConfig
from .parts import Batch
from .tokenizer import PolicyTokenizer

__all__ = ["InstructionPart", "UntrainedInstructionWarning"]


class InstructionPart:
    """`task` of each frame, else the robot's default instruction, to tokens [B, T] and their mask."""

    name = "instruction"

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

    def forward(self, batch: Batch) -> None:
        texts = []
        for frame in batch.frames:
            text = frame.get(TASK, self.default)
            if text is None:
                raise TransformError("The frame has no 'task'.", expected="the instruction as text under 'task'")
            texts.append(text)
            self._warn_when_untrained(text)
        tokens, mask = self.tokenizer(texts, max_length=self.max_length, padding=self.padding)
        batch.tokens, batch.token_mask = tokens, mask.to(torch.bool)

    def backward(self, actions: Tensor) -> Tensor:
        return actions

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
