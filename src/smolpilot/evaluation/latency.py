"""Latency of a policy on single frames: real predictions apart from queue pops."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from smolpilot.inference import Engine
    from smolpilot.policy import Policy

WARM_UP = 3  # predictions that are not counted: lazy initialisation, caches, clocks
_REPEATS, _FEWEST = 50, 5
_BUDGET_S = 8.0  # a big policy on a small machine gets fewer repeats


def measure_latency(policy: Policy | Engine, frame: dict[str, Any]) -> dict[str, Any]:
    """Milliseconds per chunk (one frame, transforms included) and per queue pop: p50, p95, mean and all samples.

    A chunk is a forward pass with all denoising steps; a pop takes the next action of a chunk predicted before, as
    `select_action` does between plans. Averaging the two, as some benchmarks do, describes neither. An engine forgets
    the frame in between: on a robot no picture comes twice.
    """

    def anew() -> None:
        policy.reset()
        policy.predict_chunk(frame)

    chunks = _sample(policy, anew)
    policy.reset()
    policy.select_action(frame)
    pops = []
    for _ in range(policy.n_action_steps - 1):
        start = time.perf_counter()
        policy.select_action(frame)
        pops.append((time.perf_counter() - start) * 1e3)
    policy.reset()
    return {"warm_up": WARM_UP, "batch": 1, "chunk": _describe(chunks), "queue_pop": _describe(pops)}


def _sample(policy: Policy | Engine, call: Callable[[], object]) -> list[float]:
    begin = time.perf_counter()
    for _ in range(WARM_UP):
        call()
    _synchronise(policy)
    samples: list[float] = []
    while len(samples) < _FEWEST or (len(samples) < _REPEATS and time.perf_counter() - begin < _BUDGET_S):
        start = time.perf_counter()
        call()
        _synchronise(policy)
        samples.append((time.perf_counter() - start) * 1e3)
    return samples


def _synchronise(policy: Policy | Engine) -> None:
    """Wait for the device: kernels run behind the call's back on CUDA and MPS."""
    import torch

    kind = torch.device(policy.device).type
    if kind == "cuda":
        torch.cuda.synchronize(policy.device)
    elif kind == "mps":
        torch.mps.synchronize()


def _describe(samples: list[float]) -> dict[str, Any]:
    if not samples:
        return {"count": 0, "p50_ms": None, "p95_ms": None, "mean_ms": None, "samples_ms": []}
    return {
        "count": len(samples),
        "p50_ms": float(np.percentile(samples, 50)),
        "p95_ms": float(np.percentile(samples, 95)),
        "mean_ms": float(np.mean(samples)),
        "samples_ms": [round(sample, 4) for sample in samples],
    }
