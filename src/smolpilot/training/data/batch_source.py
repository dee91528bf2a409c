"""What the loop reads and is judged by: batches of the training frames, and validators of the held-out ones."""

from __future__ import annotations

from smolpilot.common.errors import UsageError
from smolpilot.common.machine import available_memory
from smolpilot.common.text import format_bytes
from smolpilot.training.cache.choice import CacheChoice
from smolpilot.training.run.setup import Prepared
from smolpilot.training.run.validation import Scorer, TaskValidator, Validator, spread

from .batches import Batches, Feed
from .frames import camera_plans, predicted_gb
from .mixture import Mixture
from .run_datasets import groups_of


def build_feed(prepared: Prepared, cache: CacheChoice | None, *, sharers: int = 1) -> tuple[Feed, Scorer | None]:
    """Batches of all datasets of a run, and what scores their held-out frames (None without any).

    `sharers` processes of the run share the memory for decoded video.
    """
    options, policy, parts = prepared.options, prepared.policy, prepared.parts
    chunk, device, workers = policy.config.chunk_size, policy.device, options.workers or 0
    transforms = [policy.transforms.for_source(part.layout) for part in parts]
    memory = options.frames_gb if options.frames_gb is not None else available_memory() / 2e9
    if options.frames_gb is not None:
        _refuse_more_than_free(prepared, options.frames_gb, sharers)
    memory /= sharers
    memory = memory if len(parts) == 1 else _memory_of_each(prepared, memory)
    made = cache.training if cache else None
    batches = [
        Batches(part.train, own, device, chunk_size=chunk, memory_gb=memory, workers=workers, cache=made)
        for part, own in zip(parts, transforms, strict=True)
    ]
    size, validators = max(32, options.batch_size or 0), {}
    for part, own in zip(parts, transforms, strict=True):
        if part.held_out is not None:
            rows = spread(len(part.held_out), options.eval_frames)
            held = Batches(
                part.held_out, own, device, chunk_size=chunk, rows=rows, cache=cache.held_out if cache else None
            )
            validators[part.title] = Validator(held, rows, batch_size=size, seed=options.seed)
    scorer: Scorer | None = TaskValidator(validators) if validators else None
    if len(parts) == 1:
        scorer = next(iter(validators.values()), None)
    if len(parts) == 1 and options.balance == "frames":
        return batches[0], scorer
    return Mixture(batches, *groups_of(parts, options.balance), workers=workers), scorer


def _refuse_more_than_free(prepared: Prepared, limit: float, sharers: int) -> None:
    """Decoded frames that --frames-gb lets into the memory, but the machine does not."""
    plans = camera_plans(prepared.parts[0].meta, prepared.policy.transforms)
    needed, free = sharers * predicted_gb(list(plans.values()), prepared.frames), available_memory() / 1e9
    if free < needed <= limit:
        raise UsageError(
            f"--frames-gb {limit:g} would hold {format_bytes(1e9 * needed)} of decoded frames in memory, "
            f"{format_bytes(1e9 * free)} are free.",
            fix="leave --frames-gb out: frames are decoded while training then",
        )


def _memory_of_each(prepared: Prepared, limit: float) -> float:
    """All datasets of a mixture are held in memory, or all are decoded while training."""
    plans = camera_plans(prepared.parts[0].meta, prepared.policy.transforms)
    return limit if predicted_gb(list(plans.values()), prepared.frames) <= limit else 0.0
