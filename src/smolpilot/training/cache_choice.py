"""Whether a run uses a frame cache, and which: exact always, worth it mostly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from smolpilot.errors import UsageError
from smolpilot.policy.inputs import PolicyInputs

from .batches import Batches, Rows
from .frame_cache import CacheSpec, FrameCache, Kind, cache_spec, default_folder, free_gb, own_dtype
from .frames import camera_plans
from .setup import Prepared

# Below this share of an epoch, computing what is needed is cheaper than computing everything once.
_LEAST_EPOCHS = 0.5
MakeCache = Callable[[Batches, Rows], FrameCache]


def choose_cache(prepared: Prepared) -> MakeCache | None:
    """What makes the cache of a run's frames, None where every step computes them; the choice is printed."""
    options, trained = prepared.options, prepared.policy.model.context_is_trained
    reason = None
    if trained:
        reason = "the vision-language model is trained"
    elif any(options.augment.values()):
        reason = "--augment changes the pictures every time"
    if reason is not None and options.cache in ("vision", "prefix"):
        raise UsageError(f"--cache {options.cache} cannot be used: {reason}.", fix="leave --cache out")
    if reason is not None or options.cache == "none":
        return None
    frames, used = prepared.frames, (options.steps or 0) * (options.batch_size or 0)
    folder = (options.cache_dir or default_folder()).expanduser()
    kind: Kind
    if options.cache != "auto":
        kind = options.cache
    elif used < _LEAST_EPOCHS * frames:
        return None
    else:
        found = _fitting(prepared, folder)
        if found is None:
            return None
        kind = found
    print(f"cache: {kind}, {_spec(prepared, kind).gigabytes(frames):.2f} GB in {folder}", flush=True)

    def make(batches: Batches, rows: Rows) -> FrameCache:
        spec = cache_spec(prepared.policy, kind, batches.plans, batches.token_width, options.cache_dtype)
        cache = FrameCache(prepared.policy, batches.dataset, batches.plans, rows, spec, batches.uncached, folder)
        cache.build()
        if spec.dtype != own_dtype(prepared.policy, kind):
            print(f"cache: {_loss_of(cache, batches, rows)}", flush=True)
        return cache

    return make


def _spec(prepared: Prepared, kind: Kind) -> CacheSpec:
    """The spec before the frames are opened: instructions are counted as the tokenizer gives them."""
    recipe = prepared.policy.recipe
    plans = camera_plans(prepared.parts[0].meta, prepared.policy.transforms)
    tokens, _ = recipe.tokenizer(
        prepared.instructions,
        max_length=recipe.config.tokenizer_max_length,
        padding=recipe.config.pad_language_to,
    )
    return cache_spec(prepared.policy, kind, plans, tokens.shape[1], prepared.options.cache_dtype)


def _fitting(prepared: Prepared, folder: Path) -> Kind | None:
    """The fastest cache that leaves half of the free disk."""
    free = free_gb(folder)
    kinds: tuple[Kind, ...] = ("prefix", "vision")
    for kind in kinds:
        if _spec(prepared, kind).gigabytes(prepared.frames) < free / 2:
            return kind
    return None


@torch.no_grad()
def _loss_of(cache: FrameCache, batches: Batches, rows: Rows) -> str:
    """What a coarser dtype changes: the largest difference of a chunk, on a few frames and the same noise."""
    some = rows[np.linspace(0, len(rows) - 1, min(4, len(rows))).round().astype(np.int64)]
    policy = cache.policy
    exact, coarse = batches.uncached(some, cache.pictures(some)), batches.cached(some, cache)
    shape = (len(some), policy.config.chunk_size, policy.config.max_action_dim)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(policy.device)

    def chunks(inputs: PolicyInputs) -> torch.Tensor:
        return policy.transforms.actions(policy.model.sample(inputs, noise=noise).float().cpu())

    apart = (chunks(exact) - chunks(coarse)).abs().amax(dim=(0, 1))
    scale = torch.from_numpy(np.maximum(policy.statistics["action"]["std"], 1e-6)).float()
    return f"{cache.spec.dtype} moves an action by up to {float((apart / scale).max()):.2e} standard deviations"
