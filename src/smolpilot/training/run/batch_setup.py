"""The batches that a run trains on, and what scores its held-out frames."""

from __future__ import annotations

from collections.abc import Sequence

from smolpilot.common.errors import UsageError
from smolpilot.common.machine import available_memory
from smolpilot.common.text import format_bytes
from smolpilot.datasets.read.order import Rows
from smolpilot.smolvla import Policy
from smolpilot.training.cache.choice import CacheChoice
from smolpilot.training.data.batches import Batches
from smolpilot.training.data.frames import camera_plans, predicted_gb
from smolpilot.training.data.mixture import BatchSource, Mixture
from smolpilot.training.data.run_datasets import RunDataset, groups_of

from .validation import Validator, spread


def build_batches(
    policy: Policy,
    datasets: Sequence[RunDataset],
    cache: CacheChoice | None,
    *,
    balance: str,
    frames_gb: float | None,
    workers: int,
    sharers: int = 1,
) -> BatchSource:
    """Batches of the training frames of all datasets, images from the cache, from memory or decoded while training.

    balance: see `groups_of`. frames_gb: memory for decoded video, None for half of what is free, shared by `sharers`
    processes. UsageError where that memory is not free.
    """
    limit = (frames_gb if frames_gb is not None else available_memory() / 2e9) / sharers
    # Of a mixture all datasets are held in memory, or all are decoded while training.
    plans = list(camera_plans(datasets[0].meta, policy.transforms).values())
    needed = predicted_gb(plans, sum(len(dataset.train) for dataset in datasets))
    if frames_gb is not None and (free := available_memory() / 1e9) < sharers * needed <= frames_gb:
        raise UsageError(
            f"--frames-gb {frames_gb:g} would hold {format_bytes(1e9 * sharers * needed)} of decoded frames in memory, "
            f"{format_bytes(1e9 * free)} are free.",
            fix="leave --frames-gb out: frames are decoded while training then",
        )
    batches = [
        Batches(
            dataset.train, policy.transforms.for_source(dataset.layout), policy.device,
            chunk_size=policy.config.chunk_size, memory_gb=limit if len(datasets) == 1 or needed <= limit else 0.0,
            workers=workers, cache=cache.training if cache else None,
        )
        for dataset in datasets
    ]  # fmt: skip
    if len(datasets) == 1 and balance == "frames":
        return batches[0]
    return Mixture(batches, *groups_of(datasets, balance), workers=workers)


def build_validator(
    policy: Policy,
    datasets: Sequence[RunDataset],
    cache: CacheChoice | None,
    *,
    frames: int,
    batch_size: int,
    seed: int,
) -> Validator | None:
    """What scores the policy on `frames` held-out frames of each dataset; None where no episode is held out."""
    held: dict[str, tuple[Batches, Rows]] = {}
    for dataset in datasets:
        if dataset.held_out is not None:
            rows = spread(len(dataset.held_out), frames)
            batches = Batches(
                dataset.held_out, policy.transforms.for_source(dataset.layout), policy.device,
                chunk_size=policy.config.chunk_size, rows=rows, cache=cache.held_out if cache else None,
            )  # fmt: skip
            held[dataset.title] = batches, rows
    if not held:
        return None
    return Validator(held, batch_size=max(32, batch_size), seed=seed, by_dataset=len(datasets) > 1)
