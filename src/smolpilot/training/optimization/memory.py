"""How many samples fit into memory at once: refused or split before the system ends the process, or found by trying.

On a CPU nothing but the end of the process says that memory ran out. What a sample needs is measured on one: the bytes
that its forward pass keeps for the backward pass.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import threading
from collections.abc import Callable, Iterator

import psutil
import torch
from torch import Tensor

from smolpilot.common.errors import TrainingError, UsageError
from smolpilot.common.machine import available_memory
from smolpilot.common.option_types import AUTO
from smolpilot.common.progress import working
from smolpilot.common.text import format_bytes
from smolpilot.datasets.read.order import BatchOrder
from smolpilot.smolvla import Policy, PolicyInputs
from smolpilot.training.data.mixture import BatchSource

from .precision import Precision

_FILL = 0.9  # of what is free: other batches have longer instructions, other processes need a little
_WORK = 1.3  # temporary values beside those that are kept
_MAKING = 2.5  # a batch, and what it is put together from: decoded images, letterboxed ones, stacks


def choose_micro_batch(
    policy: Policy,
    batches: BatchSource,
    order: BatchOrder,
    precision: Precision,
    *,
    asked: int | None,
    copies: int,
    sharers: int = 1,
    resumed: bool = False,
) -> tuple[int | None, str]:
    """How many samples go through the network at once (None: the whole batch), and a line that says so.

    order: this process's share of every batch. copies: float32 copies of the trained weights that training adds (two of
    AdamW, one of an average). sharers: processes that share a CPU's memory. UsageError for a batch, or a stated
    micro-batch, that cannot fit; `resumed` runs are only warned, since they cannot change it.
    """
    with working("finding out how much memory a batch takes"):
        size, said = asked, ""
        if torch.device(policy.device).type == "cpu":
            size, said = _on_cpu(policy, batches, order, precision, asked, copies, sharers, resumed=resumed)
        if size == AUTO:
            inputs = batches.batch(order.batch(0), order.sample_ids(0))
            return probe(policy, inputs, precision, copies=copies, sharers=sharers)
        return size, said


def _on_cpu(
    policy: Policy, batches: BatchSource, order: BatchOrder, precision: Precision, asked: int | None, copies: int,
    sharers: int, *, resumed: bool,
) -> tuple[int | None, str]:  # fmt: skip
    rows = order.batch(0)
    batch, free = len(rows), available_memory() / sharers
    one = batches.batch(rows[:1], order.sample_ids(0)[:1])
    held = _bytes(one) * batch
    if _MAKING * held > free and not resumed:
        most = max(1, int(free / _MAKING / _bytes(one) / 2))
        raise UsageError(
            f"--batch-size {batch} does not fit into the memory: its samples alone take {format_bytes(held)}, "
            f"{format_bytes(free)} are free.",
            fix=f"--batch-size auto, or at most --batch-size {most}",
        )
    if asked == AUTO:
        return AUTO, ""
    wanted = min(asked or batch, batch)
    trained = sum(p.numel() for p in policy.model.parameters() if p.requires_grad)
    later = 4 * trained * (1 + copies)  # gradients, too
    each = _WORK * _kept_bytes(policy, one, precision)
    fits = int((_FILL * free - held - later) // each)
    if wanted <= fits:
        return asked, ""
    needed = f"about {format_bytes(later + held + each * wanted)} are needed, {format_bytes(free)} are free"
    if resumed:
        return asked, f"warning: the memory may not suffice: {needed}"
    if fits < 1:
        raise UsageError(
            f"Not even one sample at a time fits into the memory: {needed}.",
            fix="--lora 32, the frame cache (--cache prefix), or a smaller --batch-size; close what else uses memory",
        )
    if asked is not None:
        raise UsageError(
            f"--micro-batch {asked} does not fit into the memory: {needed}.",
            fix=f"--micro-batch auto, or at most --micro-batch {fits}",
        )
    return fits, f"micro-batch: {fits} of {batch} samples at once, for all of them {needed} (--micro-batch chooses)"


def largest_that_fits(need: Callable[[int], float | None], largest: int, limit: float) -> tuple[int, float]:
    """The largest size up to `largest`, by doubling, whose need in bytes stays below `limit`; and that need.

    `need` gives None where the memory did not suffice. Sizes that would surely exceed the limit are never tried: the
    need of twice the size is taken as up to twice as large. TrainingError when not even one sample fits.
    """
    size, found = 1, (0, 0.0)
    while True:
        used = need(size)
        if used is None or used > limit:
            break
        found = size, used
        if size == largest or 2 * used > limit:
            break
        size = min(2 * size, largest)
    if not found[0]:
        raise TrainingError(
            f"Not even one sample fits into the {format_bytes(limit)} that are free.",
            fix="--lora 32, --dtype bfloat16, the frame cache (--cache prefix); close what else uses the memory",
        )
    return found


def probe(
    policy: Policy, inputs: PolicyInputs, precision: Precision, *, copies: int, sharers: int = 1
) -> tuple[int, str]:
    """The largest micro-batch of `inputs` that fits beside the optimizer, and a line that says so.

    copies: float32 copies of the trained weights that come on top (two of AdamW, one of an average). sharers:
    processes that share a CPU's memory. Weights and random numbers are left as they were.
    """
    model, device = policy.model, torch.device(policy.device)
    trained = [p for p in model.parameters() if p.requires_grad]
    later = sum(p.numel() for p in trained) * 4.0 * copies
    generator = torch.Generator().manual_seed(0)

    def step(size: int) -> None:
        part = inputs[[row % len(inputs) for row in range(size)]]
        assert part.actions is not None
        noise = torch.randn(part.actions.shape, generator=generator).to(device)
        when = torch.rand(size, generator=generator).to(device)
        with precision.autocast():
            loss = model.loss(part, noise, when)
        precision.backward(loss)

    def need(size: int) -> float | None:
        try:
            return later + _peak(lambda: step(size), device)
        except torch.OutOfMemoryError:
            return None
        finally:
            for parameter in trained:
                parameter.grad = None
            gc.collect()
            if device.type == "cuda":
                torch.cuda.empty_cache()

    before = _free(device) / (sharers if device.type == "cpu" else 1)
    model.train()
    size, used = largest_that_fits(need, len(inputs), _FILL * before)
    # Equal parts of the batch: the last one should not be a small rest.
    parts = -(-len(inputs) // size)
    text = f"{format_bytes(used)} of {format_bytes(before)} free"
    return size, f"micro-batch: {size} of {len(inputs)} samples at once, {parts} for a step ({text})"


def _free(device: torch.device) -> float:
    """Bytes that may still be used."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return float(available_memory())


def _peak(act: Callable[[], None], device: torch.device) -> float:
    """Bytes that `act` needs at most beyond those in use."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        act()
        torch.cuda.synchronize(device)
        return float(torch.cuda.max_memory_allocated(device) - before)
    process, ended = psutil.Process(), threading.Event()
    before = highest = process.memory_info().rss

    def watch() -> None:
        nonlocal highest
        while not ended.wait(0.005):
            highest = max(highest, process.memory_info().rss)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        act()
    finally:
        highest = max(highest, process.memory_info().rss)
        ended.set()
        watcher.join()
    return float(highest - before)


@contextlib.contextmanager
def memory_errors(size: int) -> Iterator[None]:
    """Turn running out of memory, with `size` samples at once, into a TrainingError that says what to make smaller."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if "DataLoader worker" in str(error):
            raise TrainingError(
                f"A process that decodes video ahead has ended: {str(error).splitlines()[0]}",
                expected="Earlier checkpoints are complete. A system whose memory is used up ends processes so",
                fix="resume with --resume and --workers 0 (threads of this process decode then), or --workers 1",
            ) from error
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "allocate memory" not in str(error):
            raise
        reason = str(error).strip().splitlines()
        raise TrainingError(
            f"The memory does not suffice for {size} samples at once: {reason[0] if reason else 'it ran out'}",
            expected="this step is not saved, earlier checkpoints are complete",
            fix="--micro-batch auto (or a smaller number), --dtype bfloat16, --lora 32, or --memory GB",
        ) from error


def _bytes(inputs: PolicyInputs) -> int:
    values = (getattr(inputs, item.name) for item in dataclasses.fields(inputs))
    return sum(value.numel() * value.element_size() for value in values if isinstance(value, Tensor))


def _kept_bytes(policy: Policy, one: PolicyInputs, precision: Precision) -> int:
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
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value), precision.autocast():
        model.losses(one, noise, torch.full((1,), 0.5, device=device)).sum()
    model.train(training)
    return max(1, sum(kept.values()))
