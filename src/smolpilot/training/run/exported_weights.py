"""What a run hands out: the policy that validation scores and that a checkpoint's bundle holds.

It is the trained network itself; with an average of the weights, a network around the averaged ones; with LoRA, a plain
network with the adapters merged. No memory is spent on weights that both share. What the bundle therefore lacks of the
state of training is kept beside it, so that a resumed run has the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from smolpilot.common.errors import CheckpointError
from smolpilot.smolvla import Policy
from smolpilot.smolvla.checkpoint.weights import empty_model
from smolpilot.training.optimization.ema import Ema
from smolpilot.training.optimization.lora import base_weights, has_lora, merged

_TRAINED, _AVERAGE, _BASE = "trained/", "average/", "base/"


class ExportedWeights:
    """The policy to score and to save, of a policy in training."""

    def __init__(self, policy: Policy, ema: Ema | None) -> None:
        self._training, self._ema, self._lora = policy, ema, has_lora(policy.model)

    def policy(self) -> Policy:
        """The policy as it would run now; shares what it can with the training one."""
        training = self._training
        if self._ema is None and not self._lora:
            return training
        state: dict[str, Tensor] = {name: value.detach() for name, value in training.model.state_dict().items()}
        if self._ema is not None:
            state |= self._ema.average
        if self._lora:
            state = merged(training.model, state)
        model = empty_model(training.config)
        model.load_state_dict(state, strict=True, assign=True)
        handed = Policy(
            model.eval(),
            training.transforms,
            lineage=training.lineage,
            report=training.report,
            unused_weights=training.unused_weights,
            demonstrated=training.demonstrated,
        )
        handed.n_action_steps = training.n_action_steps
        return handed

    def tensors(self) -> dict[str, Tensor]:
        """What the bundle does not hold: the weights in training, those under adapters, averages of adapters."""
        found: dict[str, Tensor] = {}
        if self._ema is not None or self._lora:
            found |= _stored(_TRAINED, self._weights())
        if self._lora:
            found |= _stored(_BASE, base_weights(self._training.model))
        if self._lora and self._ema is not None:
            found |= _stored(_AVERAGE, self._ema.average)
        return found

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Put back what `tensors` gave into a policy that was loaded from the bundle; returns the other tensors.

        Raises CheckpointError when the state was saved by a run that trained other parameters.
        """
        if self._ema is None and not self._lora:
            return tensors
        if self._ema is not None and not self._lora:  # the bundle holds the averages
            for name, weight in self._weights().items():
                self._ema.average[name].copy_(weight)
        rest = _restored(_TRAINED, tensors, self._weights(), "raw (non-EMA or LoRA) weights")
        if self._lora:
            rest = _restored(_BASE, rest, base_weights(self._training.model), "weights under LoRA adapters")
            average = self._ema.average if self._ema is not None else {}
            rest = _restored(_AVERAGE, rest, average, "EMA weights of LoRA adapters")
        return rest

    def _weights(self) -> dict[str, Tensor]:
        return {name: p for name, p in self._training.model.named_parameters() if p.requires_grad}


def _stored(prefix: str, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: value.detach().cpu().contiguous() for name, value in values.items()}


def _restored(prefix: str, tensors: Mapping[str, Tensor], into: Mapping[str, Tensor], what: str) -> dict[str, Tensor]:
    """Copy the tensors under a prefix into those of the same names; returns the others."""
    saved = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    if saved.keys() != into.keys():
        raise CheckpointError(
            f"The training state has {len(saved)} {what}, but this run has {len(into)}.",
            fix="the checkpoint is from another run: start a new run from it with --policy",
        )
    for name, value in into.items():
        value.copy_(saved[name])
    return {name: value for name, value in tensors.items() if not name.startswith(prefix)}
