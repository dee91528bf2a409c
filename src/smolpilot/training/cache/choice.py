"""Whether a run uses a frame cache, and which: exact always, worth it mostly."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from smolpilot.common.errors import UsageError
from smolpilot.common.text import format_bytes
from smolpilot.datasets.read.order import Rows
from smolpilot.smolvla.network.inputs import PolicyInputs
from smolpilot.training.data.augment import Augmentation
from smolpilot.training.data.batches import Batches
from smolpilot.training.data.frames import camera_plans
from smolpilot.training.data.sample_rng import Draws
from smolpilot.training.run.setup import Prepared

from .codec import CacheDtype
from .frame_cache import CacheSpec, FrameCache, Kind, cache_spec, default_folder, free_gb, own_dtype
from .offload import park

# Below this share of an epoch, computing what is needed is cheaper than computing everything once.
_LEAST_EPOCHS = 0.5
_SAMPLE = 8  # frames on which a coarser dtype is compared with the exact


@dataclass(frozen=True)
class CacheChoice:
    """The cache of a run's frames; `turn` is the number of this process among those that build it at once."""

    prepared: Prepared
    kind: Kind
    folder: Path
    turn: int = 0

    def training(self, batches: Batches, rows: Rows) -> FrameCache:
        """The built cache of training frames: in the asked dtype, in changed views where pictures are augmented."""
        options = self.prepared.options
        change = Augmentation(options.augment, Draws(options.seed))
        views = options.cache_views or 1
        cache = self._built(batches, rows, options.cache_dtype, views, change if change else None)
        if cache.spec.numbers.dtype != own_dtype(self.prepared.policy, self.kind):
            self._measure(cache, batches, rows)
        return cache

    def held_out(self, batches: Batches, rows: Rows) -> FrameCache:
        """The built cache of validation frames: exact and unchanged, as the robot will see them."""
        return self._built(batches, rows, None, 1, None)

    def park(self) -> None:
        """Let go of what the cache stands in for, on a GPU."""
        policy = self.prepared.policy
        if policy.device.type == "cpu":
            return
        freed = park(policy.model, self.kind)
        print(
            f"cache: {format_bytes(1e9 * freed)} of the network wait in main memory while the cache serves", flush=True
        )

    def _built(
        self, batches: Batches, rows: Rows, dtype: CacheDtype | None, views: int, change: Augmentation | None
    ) -> FrameCache:
        policy = self.prepared.policy
        spec = cache_spec(policy, self.kind, batches.plans, batches.token_width, dtype, views)
        cache = FrameCache(policy, batches.dataset, batches.plans, rows, spec, batches.uncached, self.folder, change)
        cache.build(self.turn)
        return cache

    def _measure(self, cache: FrameCache, batches: Batches, rows: Rows) -> None:
        """Say, and keep in the lineage, what a coarser dtype changes."""
        found = coarseness(cache, batches, rows)
        name = self.prepared.options.cache_dtype
        print(f"cache: {name} {found.text()}", flush=True)
        values = {key: float(f"{value:.3g}") for key, value in dataclasses.asdict(found).items()}
        self.prepared.policy.lineage["cache"] = {"kind": self.kind, "dtype": name, **values}


def choose_cache(prepared: Prepared, turn: int = 0) -> CacheChoice | None:
    """The cache of a run, None where every step computes the frames; the choice is printed and settled."""
    options = prepared.options
    folder = (options.cache_dir or default_folder()).expanduser()
    kind = _kind(prepared, folder)
    prepared.options = dataclasses.replace(options, cache=kind or "none")
    if kind is None:
        return None
    views = f", {options.cache_views} changed views of each frame" if options.cache_views else ""
    size = _spec(prepared, kind).gigabytes(prepared.frames)
    print(f"cache: {kind}, {format_bytes(1e9 * size)} in {folder}{views}", flush=True)
    return CacheChoice(prepared, kind, folder, turn)


def _kind(prepared: Prepared, folder: Path) -> Kind | None:
    options = prepared.options
    reason, fix = None, "leave --cache out"
    if prepared.policy.model.context_is_trained:
        reason = "the vision-language model is trained"
    elif any(options.augment.values()) and options.cache_views is None:
        reason = "--augment changes the pictures every time"
        fix = "--cache-views 8 keeps 8 changed views of each frame; or leave --cache out"
    if reason is not None and (options.cache in ("vision", "prefix") or options.cache_views):
        what = f"--cache {options.cache}" if options.cache in ("vision", "prefix") else "--cache-views"
        raise UsageError(f"{what} cannot be used: {reason}.", fix=fix)
    if reason is not None and options.cache == "auto" and options.augment:
        print(f"cache: none, {reason} ({fix.split(';')[0]})", flush=True)
    if reason is not None or options.cache == "none":
        return None
    if options.cache != "auto":
        return options.cache
    frames, used = prepared.frames, (options.steps or 0) * (options.batch_size or 0)
    if used < _LEAST_EPOCHS * frames and not options.cache_views:
        return None
    found = _fitting(prepared, folder)
    # Views that were asked for are kept: a run must not draw other pictures on a fuller disk.
    return "vision" if found is None and options.cache_views else found


def _spec(prepared: Prepared, kind: Kind) -> CacheSpec:
    """The spec before the frames are opened: instructions are counted as the tokenizer gives them."""
    transforms, options = prepared.policy.transforms, prepared.options
    plans = camera_plans(prepared.parts[0].meta, transforms)
    tokens, _ = transforms.tokens(prepared.instructions)
    return cache_spec(prepared.policy, kind, plans, tokens.shape[1], options.cache_dtype, options.cache_views or 1)


def _fitting(prepared: Prepared, folder: Path) -> Kind | None:
    """The fastest cache that leaves half of the free disk."""
    free = free_gb(folder)
    kinds: tuple[Kind, ...] = ("prefix", "vision")
    for kind in kinds:
        if _spec(prepared, kind).gigabytes(prepared.frames) < free / 2:
            return kind
    return None


@dataclass(frozen=True)
class Coarseness:
    """What a coarser cache changes: its numbers and the loss, relative; a chunk, in the action's deviations."""

    tensor_error: float
    loss_error: float
    action_error: float

    def text(self) -> str:
        return (
            f"changes cached numbers by {self.tensor_error:.1e}, the loss by {self.loss_error:.1e} (relative), "
            f"an action by up to {self.action_error:.1e} standard deviations"
        )


@torch.no_grad()
def coarseness(cache: FrameCache, batches: Batches, rows: Rows) -> Coarseness:
    """Compare what the cache gives back with the exact computation on a few frames, same noise and times."""
    some = rows[np.linspace(0, len(rows) - 1, min(_SAMPLE, len(rows))).round().astype(np.int64)]
    policy, draws, places = cache.policy, Draws(0), np.arange(len(some))
    exact, coarse, states = cache.exact(some), batches.cached(some, cache), batches.states(some)
    assert exact.actions is not None
    noise, times = (
        draws.noise(places, tuple(exact.actions.shape[1:])).to(policy.device),
        draws.times(places).to(policy.device),
    )
    left, right = (float(policy.model.loss(inputs, noise, times)) for inputs in (exact, coarse))
    numbers = cache.tensor(exact)
    kept = next(iter(cache.fields(some, policy.device).values()))
    tensors = float((kept - numbers).float().norm() / numbers.float().norm())

    def chunks(inputs: PolicyInputs) -> torch.Tensor:
        return policy.transforms.actions(policy.model.sample(inputs, noise=noise).float().cpu(), states)

    apart = (chunks(exact) - chunks(coarse)).abs().amax(dim=(0, 1))
    scale = torch.from_numpy(np.maximum(policy.statistics["action"]["std"], 1e-6)).float()
    return Coarseness(tensors, abs(right - left) / max(abs(left), 1e-12), float((apart / scale).max()))
