"""Whether a batch fits into the main memory, before the system ends the process for it: on a CPU nothing else says so.

What a sample needs is measured on one: the bytes that its forward pass keeps for the backward pass.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

import torch
from torch import Tensor

from smolpilot.common.errors import TrainingError, UsageError
from smolpilot.common.machine import available_memory
from smolpilot.common.option_types import AUTO
from smolpilot.common.text import format_bytes
from smolpilot.smolvla import Policy, PolicyInputs
from smolpilot.training.data.batches import Feed
from smolpilot.training.train_options import TrainOptions

from .precision import Precision

_FILL = 0.9  # of what is free
_WORK = 1.3  # temporary values beside those that are kept
_MAKING = 2.5  # a batch, and what it is put together from: decoded pictures, letterboxed ones, stacks


def fit_batch(
    options: TrainOptions, policy: Policy, feed: Feed, *, batch: int, sharers: int = 1, resumed: bool = False
) -> tuple[int | None, str]:
    """The micro-batch to use on a CPU and a line that says why; unchanged and empty where the whole batch fits.

    batch: samples of this process. UsageError for a batch, or a stated micro-batch, that cannot fit; `resumed` runs
    are only warned, since they cannot change it.
    """
    if torch.device(policy.device).type != "cpu":
        return options.micro_batch, ""
    free = available_memory() / sharers
    order = feed.order(1, options.seed)
    one = feed.batch(order.batch(0), order.places(0))
    held = _bytes(one) * batch
    if _MAKING * held > free and not resumed:
        most = max(1, int(free / _MAKING / _bytes(one) / 2))
        raise UsageError(
            f"--batch-size {batch} does not fit into the memory: its samples alone take {format_bytes(held)}, "
            f"{format_bytes(free)} are free.",
            fix=f"--batch-size auto, or at most --batch-size {most}",
        )
    if options.micro_batch == AUTO:
        return AUTO, ""
    wanted = min(options.micro_batch or batch, batch)
    trained = sum(p.numel() for p in policy.model.parameters() if p.requires_grad)
    later = 4 * trained * (3 + (options.ema is not None))  # gradients, two of AdamW, the average
    each = _WORK * _kept_bytes(policy, one, options)
    room = _FILL * free - held - later
    fits = int(room // each)
    if wanted <= fits:
        return options.micro_batch, ""
    needed = f"about {format_bytes(later + held + each * wanted)} are needed, {format_bytes(free)} are free"
    if resumed:
        return options.micro_batch, f"warning: the memory may not suffice: {needed}"
    if fits < 1:
        raise UsageError(
            f"Not even one sample at a time fits into the memory: {needed}.",
            fix="--lora 32, the frame cache (--cache prefix), or a smaller --batch-size; close what else uses memory",
        )
    if options.micro_batch is not None:
        raise UsageError(
            f"--micro-batch {options.micro_batch} does not fit into the memory: {needed}.",
            fix=f"--micro-batch auto, or at most --micro-batch {fits}",
        )
    return fits, f"micro-batch: {fits} of {batch} samples at once, for all of them {needed} (--micro-batch chooses)"


@contextlib.contextmanager
def memory_errors(options: TrainOptions) -> Iterator[None]:
    """Memory that ran out on the way as a TrainingError that says what to make smaller."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if "DataLoader worker" in str(error):
            raise TrainingError(
                f"A process that decodes video ahead has ended: {str(error).splitlines()[0]}",
                expected="Earlier checkpoints are whole. A system whose memory is used up ends processes so",
                fix="go on with --resume and --workers 0 (threads of this process decode then), or --workers 1",
            ) from error
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "allocate memory" not in str(error):
            raise
        size = options.micro_batch or options.batch_size
        reason = str(error).strip().splitlines()
        raise TrainingError(
            f"The memory does not suffice for {size} samples at once: {reason[0] if reason else 'it ran out'}",
            expected="Nothing of this step is saved; earlier checkpoints are whole",
            fix="--micro-batch auto (or a smaller number), --dtype bfloat16, --lora 32, or --memory GB",
        ) from error


def _bytes(inputs: PolicyInputs) -> int:
    values = (getattr(inputs, item.name) for item in dataclasses.fields(inputs))
    return sum(value.numel() * value.element_size() for value in values if isinstance(value, Tensor))


def _kept_bytes(policy: Policy, one: PolicyInputs, options: TrainOptions) -> int:
    """Bytes that the forward pass of one sample keeps for the backward pass, weights not counted."""
    assert one.actions is not None
    model, device = policy.model, torch.device(policy.device)
    weights = {p.untyped_storage().data_ptr() for p in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}

    def keep(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return value

    training = model.training
    model.train()
    noise = torch.zeros(one.actions.shape, device=device)
    precision = Precision(options.dtype or "float32", device)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value), precision.autocast():
        model.losses(one, noise, torch.full((1,), 0.5, device=device)).sum()
    model.train(training)
    return max(1, sum(kept.values()))
