"""The training loop: batch, loss, gradient, step; validation, checkpoints and metrics when they are due."""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import dataclass
from typing import NoReturn

import torch
from torch import Tensor

from smolpilot.common.errors import TrainingError
from smolpilot.common.machine import memory_gb
from smolpilot.smolvla import Policy, PolicyInputs
from smolpilot.training.data.augment import Augmentation
from smolpilot.training.data.mixture import BatchSource
from smolpilot.training.data.sample_rng import SampleRng
from smolpilot.training.optimization.compiled import compile_expert
from smolpilot.training.optimization.ema import Ema
from smolpilot.training.optimization.optimizer import (
    build_optimizer,
    load_optimizer_tensors,
    optimizer_tensors,
    set_rate,
)
from smolpilot.training.optimization.precision import Precision
from smolpilot.training.optimization.schedule import Schedule
from smolpilot.training.options.train_options import TrainOptions

from .checkpoints import Checkpoints, TrainingState, load_rng, rng_tensors
from .distributed import DistributedContext
from .exported_weights import ExportedWeights
from .interrupts import Interrupts, TrainingStoppedError
from .metrics_log import MetricsLog
from .run_progress import RunProgress
from .validation import Validator


@dataclass
class TrainerOutputs:
    """What the loop writes to."""

    checkpoints: Checkpoints
    log: MetricsLog
    progress: RunProgress


class Trainer:
    """Trains `policy` in place over `options.steps` steps; `options` are resolved."""

    def __init__(
        self, options: TrainOptions, policy: Policy, batches: BatchSource, validator: Validator | None, dataset: str,
        ranks: DistributedContext | None = None,
    ) -> None:  # fmt: skip
        self.options, self.policy, self.batches, self.validator = options, policy, batches, validator
        self.model, self.device = policy.model, torch.device(policy.device)
        self.state = TrainingState(dataset=dataset)
        steps, batch_size = options.steps or 0, options.batch_size or 0
        self.steps = steps
        self.ranks = ranks or DistributedContext()
        self.order = batches.order(batch_size, options.seed, options.order).share(self.ranks.part(batch_size))
        self.schedule = Schedule(options.lr or 0.0, options.decay_lr or 0.0, options.warmup_steps or 0, steps)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = build_optimizer(self.model, lr=self.schedule.peak, weight_decay=options.weight_decay)
        self.precision = Precision(options.dtype or "float32", self.device)
        if options.compile:
            compile_expert(self.model, self.device)
        self.rng = SampleRng(options.seed)
        # Cached frames are augmented in the cache.
        self.augmentation = Augmentation({} if batches.is_cached else options.augment, self.rng)
        self.ema = Ema(self.model, options.ema) if options.ema is not None else None
        self.exported = ExportedWeights(policy, self.ema)
        self._losses: list[Tensor] = []
        self._norms: list[Tensor] = []

    def load(self, state: TrainingState, tensors: dict[str, Tensor]) -> None:
        """Resume from a saved state; the policy holds the saved weights already."""
        expected = self.order.values()
        if state.sampler != expected:
            raise TrainingError(
                f"The sample order of this run has changed: the checkpoint has {state.sampler}, dataset and config now "
                f"give {expected}.",
                fix="restore the dataset, or start a new run from the checkpoint with --policy",
            )
        self.state = state
        rest = self.exported.load(self.precision.load(load_rng(tensors)))
        load_optimizer_tensors(self.model, self.optimizer, rest)

    def run(self, outputs: TrainerOutputs, interrupts: Interrupts) -> None:
        """Train to the end; TrainingStoppedError after a signal, once the run is saved."""
        stream = self.batches.stream(self.order, self.state.step, self.steps)
        clock, start = _Clock(self.options.batch_size or 1), self.state.step
        try:
            while True:
                if reason := self.ranks.first_stop_reason(interrupts.requested):
                    self._stop(outputs, reason)
                self._evaluate_and_save(outputs, interrupts)
                clock.pause_over()
                if self.state.step == self.steps or self._is_over(self.state):
                    return
                inputs = next(stream)
                clock.data_ready()
                with contextlib.ExitStack() as stack:
                    if self.state.step == start:
                        stack.enter_context(outputs.progress.waiting(self._first_step()))
                    self._step(self.augmentation(inputs, self.order.sample_ids(self.state.step)))
                clock.step_done()
                if self._due(self.options.log_every):
                    self._log(outputs, clock)
        finally:
            stream.close()

    def _first_step(self) -> str:
        """What the first step does beside its arithmetic."""
        return "compiling the action expert, which takes minutes (--compile)" if self.options.compile else "first step"

    def _step(self, inputs: PolicyInputs) -> None:
        if inputs.actions is None:
            raise TrainingError("A batch holds no actions.")
        ids = self.order.sample_ids(self.state.step)
        noise, when = self.rng.noise(ids, tuple(inputs.actions.shape[1:])), self.rng.times(ids)
        set_rate(self.optimizer, self.schedule.rate(self.state.step))
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._gradients(inputs, noise.to(self.device), when.to(self.device))
        norm = self.precision.clip(self.optimizer, self.parameters, self.options.clip)
        if self.device.type == "cpu":
            self._refuse_nan([loss], [norm])
        self.precision.step(self.optimizer)
        self.state.step += 1
        if self.ema is not None:
            self.ema.update(self.state.step)
        self._losses.append(loss.detach())
        self._norms.append(norm.detach())

    def _gradients(self, inputs: PolicyInputs, noise: Tensor, when: Tensor) -> Tensor:
        """Loss of the batch, with the gradients added up over its micro-batches."""
        size = self.options.micro_batch or len(inputs)
        if size >= len(inputs) and self.ranks.size == 1:
            with self.precision.autocast():
                loss = self.model.loss(inputs, noise, when)
            self.precision.backward(loss)
            return loss.detach()
        # Each part's errors count by the valid entries of the whole batch, in all processes: a mean of means would
        # weigh padded chunks wrong.
        valid = torch.ones(noise.shape[:2], device=self.device)
        if inputs.action_is_pad is not None:
            valid = (~inputs.action_is_pad).to(valid.dtype)
        count = (self.ranks.sum(valid.sum()) * self.model.config.action_dim).clamp_min(1)
        total = torch.zeros((), device=self.device)
        for first in range(0, len(inputs), size):
            part = slice(first, first + size)
            with self.precision.autocast():
                errors = self.model.losses(inputs[part], noise[part], when[part])
                loss = (errors * valid[part, :, None]).sum() / count
            self.precision.backward(loss)
            total = total + loss.detach()
        self.ranks.sum_gradients(self.parameters)
        return self.ranks.sum(total)

    def _refuse_nan(self, losses: list[Tensor], norms: list[Tensor]) -> None:
        """A NaN spreads to every weight: stop before it is saved. A GPU is asked only when a line is due."""
        asked = [("loss", losses), ("gradient norm", norms)]
        for name, values in asked[:1] if self.precision.may_skip else asked:
            bad = [value.item() for value in values if not math.isfinite(value.item())]
            if bad:
                raise TrainingError(
                    f"The {name} is {bad[0]} at step {self.state.step} (learning rate "
                    f"{self.schedule.rate(self.state.step):.1e}).",
                    expected="a finite number; this step is not saved, earlier checkpoints are complete",
                    fix="lower --lr (or --clip), and check the dataset's statistics: smolpilot dataset info DATA",
                )

    def _evaluate_and_save(self, outputs: TrainerOutputs, interrupts: Interrupts) -> None:
        step, improved = self.state.step, False
        if step == 0:
            return
        if self.validator is not None and self.state.validated_at != step and self._due(self.options.eval_every):
            improved = self._validate(self.validator, outputs, interrupts)
        if improved or self._due(self.options.save_every) or self._is_over(self.state):
            self.save(outputs)

    def _validate(self, validator: Validator, outputs: TrainerOutputs, interrupts: Interrupts) -> bool:
        """Score the held-out frames; True when this is the best score so far."""
        self._collect()
        with outputs.progress.waiting(f"step {self.state.step}: scoring held-out frames"):
            result = self.ranks.broadcast(lambda: validator.run(self.exported.policy(), lambda: interrupts.requested))
        if result is None:
            self._stop(outputs, self.ranks.first_stop_reason(interrupts.requested))
        self.state.validated_at = self.state.step
        outputs.log.write(self.state.step, "validation", result.values())
        best = self.state.best_score
        improved = math.isfinite(result.score) and (best is None or result.score < best)
        if improved:
            self.state.best_score, self.state.best_step = result.score, self.state.step
        self.state.without_gain = 0 if improved else self.state.without_gain + 1
        mark = "  (best so far)" if improved else "" if math.isfinite(result.score) else "  (never the best)"
        outputs.progress.note(f"step {self.state.step}: held-out error {result.text()}{mark}")
        if self._is_over(self.state) and self.state.step < self.steps:
            values = {"best_step": self.state.best_step, "patience": self.options.patience}
            outputs.log.write(self.state.step, "stopped_early", values)
            outputs.progress.note(
                f"step {self.state.step}: stopped early, no gain in {self.state.without_gain} validations"
                + (f" since step {self.state.best_step}" if self.state.best_step is not None else "")
            )
        return improved

    def _is_over(self, state: TrainingState) -> bool:
        """Whether --patience ends the run here."""
        return self.options.patience is not None and state.without_gain >= self.options.patience

    def save(self, outputs: TrainerOutputs) -> None:
        """Write the checkpoint of this step."""
        self._collect()
        self.state.sampler = self.order.values()
        self.policy.lineage["step"] = self.state.step
        if not self.ranks.is_zero:
            return
        tensors = optimizer_tensors(self.model, self.optimizer) | rng_tensors() | self.precision.tensors()
        with outputs.progress.waiting(f"step {self.state.step}: saving the checkpoint"):
            outputs.checkpoints.save(self.exported.policy(), self.state, tensors | self.exported.tensors())

    def _stop(self, outputs: TrainerOutputs, reason: str) -> NoReturn:
        saved = "There was nothing to save yet."
        if self.state.step:
            self.save(outputs)
            saved = "A checkpoint was saved."
        raise TrainingStoppedError(
            f"Stopped after step {self.state.step} of {self.steps} ({reason}). {saved}",
            fix=f"resume with: smolpilot train --resume --out {self.options.out}",
        )

    def _log(self, outputs: TrainerOutputs, clock: _Clock) -> None:
        self._collect()
        pending, step = self.state.pending, self.state.step
        count = pending["count"]
        values = {
            "loss": pending["loss"] / count,
            "lr": self.schedule.rate(step - 1),
            "grad_norm": pending["grad_norm"] / max(count - pending["skipped"], 1),
            "epoch": round(self.order.epoch(step), 4),
            **clock.read(),
            "memory_gb": round(memory_gb(self.device), 3),
        }
        if self.precision.may_skip:
            values["skipped_steps"] = pending["skipped"]
        self.state.pending = {}
        outputs.log.write(step, "train", values)
        outputs.progress.update(step, values)

    def _collect(self) -> None:
        """Move the losses since the last call into the state, as plain numbers."""
        self._refuse_nan(self._losses, self._norms)
        self.precision.refuse_collapse(self.state.step)
        pending = {"loss": 0.0, "grad_norm": 0.0, "count": 0, "skipped": 0, **self.state.pending}
        for loss, norm in zip(self._losses, self._norms, strict=True):
            pending["loss"] += loss.item()
            overflow = not math.isfinite(norm.item())
            pending["skipped"] += overflow
            pending["grad_norm"] += 0.0 if overflow else norm.item()
            pending["count"] += 1
        self.state.pending = pending
        self._losses, self._norms = [], []

    def _due(self, every: int | None) -> bool:
        return self.state.step == self.steps or (every is not None and self.state.step % every == 0)


class _Clock:
    """Samples per second of training alone (no validation, no saving) and the share spent waiting for data."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._mark = time.perf_counter()
        self._wait = self._busy = 0.0
        self._steps = 0

    def pause_over(self) -> None:
        self._mark = time.perf_counter()

    def data_ready(self) -> None:
        self._wait += self._lap()

    def step_done(self) -> None:
        self._busy += self._lap()
        self._steps += 1

    def read(self) -> dict[str, float]:
        total = max(self._wait + self._busy, 1e-9)
        values = {
            "samples_per_s": round(self._steps * self._batch_size / total, 2),
            "data_wait": round(self._wait / total, 4),
        }
        self._wait = self._busy = 0.0
        self._steps = 0
        return values

    def _lap(self) -> float:
        now = time.perf_counter()
        lap, self._mark = now - self._mark, now
        return lap
