"""How much fits: settings by the size of a GPU, and the largest micro-batch by trying. Torch-free but for `probe`.

What a preset is made of (450 M parameters, 100 M of them trained, prefix cache): weights 1.8 GB in float32, of which
the vision tower and the embeddings leave the GPU while the cache serves; gradients 0.4 GB; AdamW 0.8 GB. The rest is
for activations: about a quarter of a GB per sample in float32, about 0.15 GB in bfloat16.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import psutil

from smolpilot.common.errors import TrainingError
from smolpilot.common.machine import available_memory
from smolpilot.common.option_types import AUTO
from smolpilot.common.text import format_bytes

if TYPE_CHECKING:
    from smolpilot.smolvla import Policy, PolicyInputs

    from .precision import Precision

Memory = Literal["8", "12", "24", "80", "cpu"]
PRESETS: dict[str, dict[str, Any]] = {
    "8": {"batch_size": 32, "micro_batch": 8, "dtype": "bfloat16"},
    "12": {"batch_size": 32, "micro_batch": 16, "dtype": "bfloat16"},
    "24": {"batch_size": 64, "micro_batch": 32, "dtype": "bfloat16"},
    "80": {"batch_size": 64, "micro_batch": 64, "dtype": "bfloat16"},
    "cpu": {"batch_size": 8, "micro_batch": 8, "dtype": "float32"},
}
PUBLISHED_BATCH = 64  # SmolVLA's fine-tuning recipe: the effective batch of --batch-size auto
_TINY_BATCH = 32
_FILL = 0.9  # of what is free: other batches have longer instructions, other processes need a little


def fill_memory(memory: str | None, given: dict[str, Any], *, tiny: bool) -> dict[str, Any]:
    """Batch, micro-batch and dtype where they were left open: by the preset, for `auto`, or by the network.

    A given batch is kept: the preset then only limits what goes through the network at once.
    """
    preset = PRESETS.get(memory or "", {})
    batch, micro, dtype = given["batch_size"], given["micro_batch"], given["dtype"]
    if batch == AUTO:
        batch, micro = (_TINY_BATCH if tiny else PUBLISHED_BATCH), micro or AUTO
    elif batch is None:
        batch = preset.get("batch_size", 32 if tiny else 8)
    if micro is None and preset:
        micro = min(preset["micro_batch"], batch)
    return {"batch_size": batch, "micro_batch": micro, "dtype": dtype or preset.get("dtype", "float32")}


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
    import torch

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


def _free(device: Any) -> float:
    """Bytes that may still be used."""
    if device.type == "cuda":
        import torch

        return float(torch.cuda.mem_get_info(device)[0])
    return float(available_memory())


def _peak(act: Callable[[], None], device: Any) -> float:
    """Bytes that `act` needs at most beyond those in use."""
    if device.type == "cuda":
        import torch

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
