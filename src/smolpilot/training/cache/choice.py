"""Whether a run uses a frame cache, and which: exact always, worth it mostly."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from smolpilot.common.errors import UsageError
from smolpilot.common.text import format_bytes
from smolpilot.datasets.read.order import Rows
from smolpilot.smolvla import Policy
from smolpilot.smolvla.network.inputs import PolicyInputs
from smolpilot.training.data.augment import Augmentation
from smolpilot.training.data.batches import Batches
from smolpilot.training.data.frames import camera_plans
from smolpilot.training.data.run_datasets import RunDataset, instructions_of
from smolpilot.training.data.sample_rng import SampleRng

from .codec import CacheDtype
from .frame_cache import CacheSpec, FrameCache, Kind, cache_spec, default_folder, free_gb, own_dtype
from .offload import offload

# Below this share of an epoch, computing what is needed is cheaper than computing everything once.
_LEAST_EPOCHS = 0.5
_SAMPLE = 8  # frames on which a lower precision is compared with the exact one


@dataclass(frozen=True)
class CacheChoice:
    """The cache of a run's frames.

    dtype (None: the model's), views, augmentation: of the training frames. turn: the number of this process among those
    that build the cache at once.
    """

    policy: Policy
    kind: Kind
    folder: Path
    dtype: CacheDtype | None
    views: int
    augmentation: Augmentation
    turn: int = 0

    def training(self, batches: Batches, rows: Rows) -> FrameCache:
        """The built cache of training frames: in the asked dtype, in augmented views where images are augmented."""
        cache = self._built(batches, rows, self.dtype, self.views, self.augmentation if self.augmentation else None)
        if cache.spec.codec.dtype != own_dtype(self.policy, self.kind):
            self._measure(cache, batches, rows)
        return cache

    def held_out(self, batches: Batches, rows: Rows) -> FrameCache:
        """The built cache of validation frames: exact and unchanged, as the robot will see them."""
        return self._built(batches, rows, None, 1, None)

    def offload(self) -> None:
        """Move what the cache stands in for from a GPU into main memory."""
        if self.policy.device.type == "cpu":
            return
        freed = offload(self.policy.model, self.kind)
        print(
            f"cache: {format_bytes(1e9 * freed)} of the network wait in main memory while the cache serves", flush=True
        )

    def _built(
        self, batches: Batches, rows: Rows, dtype: CacheDtype | None, views: int, augmentation: Augmentation | None
    ) -> FrameCache:
        spec = cache_spec(self.policy, self.kind, batches.plans, batches.token_width, dtype, views)
        cache = FrameCache(
            self.policy, batches.dataset, batches.plans, rows, spec, batches.uncached, self.folder, augmentation
        )
        cache.build(self.turn)
        return cache

    def _measure(self, cache: FrameCache, batches: Batches, rows: Rows) -> None:
        """Print, and keep in the lineage, what a lower precision changes."""
        found = quantization_error(cache, batches, rows)
        print(f"cache: {self.dtype} {found.text()}", flush=True)
        values = {key: float(f"{value:.3g}") for key, value in dataclasses.asdict(found).items()}
        self.policy.lineage["cache"] = {"kind": self.kind, "dtype": self.dtype, **values}


def choose_cache(
    policy: Policy,
    datasets: Sequence[RunDataset],
    asked: Literal["auto", "none", "vision", "prefix"],
    *,
    augmentation: Augmentation,
    dtype: CacheDtype | None,
    views: int | None,
    folder: Path | None,
    samples: int,
    turn: int = 0,
) -> CacheChoice | None:
    """The cache of a run that trains on `samples` samples, None where every step computes the frames; printed.

    asked, dtype, views, folder: what the options of the cache say. UsageError for a cache that cannot serve.
    """
    folder = (folder or default_folder()).expanduser()
    frames = sum(len(dataset.train) for dataset in datasets)
    if not _is_possible(policy, asked, augmentation, views) or asked == "none":
        return None
    kind: Kind | None
    if asked != "auto":
        kind = asked
    elif samples < _LEAST_EPOCHS * frames and not views:
        return None
    else:
        kinds: tuple[Kind, ...] = ("prefix", "vision")
        free = free_gb(folder)
        fitting = (one for one in kinds if _spec(policy, datasets, one, dtype, views).gigabytes(frames) < free / 2)
        # Views that were asked for are kept: a run must not draw other images on a fuller disk.
        kind = next(fitting, "vision" if views else None)
    if kind is None:
        return None
    size = _spec(policy, datasets, kind, dtype, views).gigabytes(frames)
    augmented = f", {views} changed views of each frame" if views else ""
    print(f"cache: {kind}, {format_bytes(1e9 * size)} in {folder}{augmented}", flush=True)
    return CacheChoice(policy, kind, folder, dtype, views or 1, augmentation, turn)


def _is_possible(policy: Policy, asked: str, augmentation: Augmentation, views: int | None) -> bool:
    """Whether a cache can serve; UsageError where it cannot and was asked for."""
    if policy.model.context_is_trained:
        reason, fix = "the vision-language model is trained", "leave --cache out"
    elif augmentation and views is None:
        reason = "--augment changes the images every time"
        fix = "--cache-views 8 keeps 8 changed views of each frame; or leave --cache out"
    else:
        return True
    if asked in ("vision", "prefix") or views:
        what = f"--cache {asked}" if asked in ("vision", "prefix") else "--cache-views"
        raise UsageError(f"{what} cannot be used: {reason}.", fix=fix)
    if asked == "auto" and augmentation:
        print(f"cache: none, {reason} ({fix.split(';')[0]})", flush=True)
    return False


def _spec(
    policy: Policy, datasets: Sequence[RunDataset], kind: Kind, dtype: CacheDtype | None, views: int | None
) -> CacheSpec:
    """The spec before the frames are opened: instructions are counted as the tokenizer gives them."""
    plans = camera_plans(datasets[0].meta, policy.transforms)
    tokens, _ = policy.transforms.tokens(instructions_of(datasets))
    return cache_spec(policy, kind, plans, tokens.shape[1], dtype, views or 1)


@dataclass(frozen=True)
class QuantizationError:
    """What lower precision changes: cached tensors and the loss (relative), actions (in standard deviations)."""

    tensor_error: float
    loss_error: float
    action_error: float

    def text(self) -> str:
        return (
            f"changes cached tensors by {self.tensor_error:.1e}, the loss by {self.loss_error:.1e} (relative), "
            f"an action by up to {self.action_error:.1e} standard deviations"
        )


@torch.no_grad()
def quantization_error(cache: FrameCache, batches: Batches, rows: Rows) -> QuantizationError:
    """Compare what the cache gives back with the exact computation on a few frames, same noise and times."""
    some = rows[np.linspace(0, len(rows) - 1, min(_SAMPLE, len(rows))).round().astype(np.int64)]
    policy, rng, sample_ids = cache.policy, SampleRng(0), np.arange(len(some))
    exact, rounded, states = cache.exact(some), batches.cached(some, cache), batches.states(some)
    assert exact.actions is not None
    noise = rng.noise(sample_ids, tuple(exact.actions.shape[1:])).to(policy.device)
    times = rng.times(sample_ids).to(policy.device)
    left, right = (float(policy.model.loss(inputs, noise, times)) for inputs in (exact, rounded))
    numbers = cache.tensor(exact)
    kept = next(iter(cache.fields(some, policy.device).values()))
    tensors = float((kept - numbers).float().norm() / numbers.float().norm())

    def chunks(inputs: PolicyInputs) -> torch.Tensor:
        return policy.transforms.actions(policy.model.sample(inputs, noise=noise).float().cpu(), states)

    apart = (chunks(exact) - chunks(rounded)).abs().amax(dim=(0, 1))
    scale = torch.from_numpy(np.maximum(policy.statistics["action"]["std"], 1e-6)).float()
    return QuantizationError(tensors, abs(right - left) / max(abs(left), 1e-12), float((apart / scale).max()))
