"""What a run hands out: the policy that validation scores and that a checkpoint's bundle holds.

It is the trained network itself; with an average of the weights, a network around the averaged ones; with LoRA, a plain
network with the adapters merged. No memory is spent on weights that both share. What the bundle therefore lacks of the
state of training is kept beside it, so that a resumed run has the same bits.
"""

from __future__ import annotations

import torch
from torch import Tensor

from smolpilot.common.errors import CheckpointError
from smolpilot.smolvla import Policy
from smolpilot.smolvla.checkpoint.weights import empty_model
from smolpilot.training.optimization.ema import Ema
from smolpilot.training.optimization.lora import base_tensors, has_lora, load_base, merged

_TRAINED, _AVERAGE = "trained/", "average/"


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
        )
        handed.n_action_steps = training.n_action_steps
        return handed

    def tensors(self) -> dict[str, Tensor]:
        """What the bundle does not hold: the weights in training, those under adapters, averages of adapters."""
        found: dict[str, Tensor] = {}
        if self._ema is not None or self._lora:
            found |= {_TRAINED + name: _stored(value) for name, value in self._weights().items()}
        if self._lora:
            found |= base_tensors(self._training.model)
        if self._lora and self._ema is not None:
            found |= {_AVERAGE + name: _stored(value) for name, value in self._ema.average.items()}
        return found

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Put back what `tensors` gave into a policy that was loaded from the bundle; returns the other tensors.

        Raises CheckpointError when the state was saved by a run that trained other parameters.
        """
        if self._ema is None and not self._lora:
            return tensors
        weights = self._weights()
        saved = _with(_TRAINED, tensors)
        if saved.keys() != weights.keys():
            raise CheckpointError(
                f"The training state holds {len(saved)} weights in training beside the bundle, the run trains "
                f"{len(weights)}.",
                fix="the checkpoint belongs to another run; start a new run from it with --policy",
            )
        if self._ema is not None:
            averages = _with(_AVERAGE, tensors) if self._lora else weights
            for name, value in averages.items():
                self._ema.average[name].copy_(value)
        for name, weight in weights.items():
            weight.copy_(saved[name])
        rest = load_base(self._training.model, tensors) if self._lora else tensors
        return {name: value for name, value in rest.items() if not name.startswith((_TRAINED, _AVERAGE))}

    def _weights(self) -> dict[str, Tensor]:
        return {name: p for name, p in self._training.model.named_parameters() if p.requires_grad}


def _stored(value: Tensor) -> Tensor:
    return value.detach().cpu().contiguous()


def _with(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
