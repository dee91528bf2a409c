"""Latency of a policy on single frames: real predictions apart from queue pops."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from smolpilot.contracts import ActionQueue

if TYPE_CHECKING:
    from smolpilot.contracts import Observation, Policy

WARM_UP = 3  # predictions that are not counted: lazy initialization, caches, clocks
_REPEATS, _FEWEST = 50, 5
_BUDGET_S = 8.0  # a big policy on a small machine gets fewer repeats


def measure_latency(policy: Policy, observation: Observation) -> dict[str, Any]:
    """Milliseconds per chunk (one frame, transforms included) and per queue pop: p50, p95, mean and all samples.

    A chunk is a forward pass with all denoising steps, until its numbers are in main memory; a pop takes the next
    action of a chunk predicted before, as `select_action` does between plans. Averaging the two, as some benchmarks do,
    describes neither. A policy forgets the frame in between: on a robot no image comes twice.
    """

    def anew() -> None:
        policy.reset()
        policy.predict([observation])

    chunks = _sample(anew)
    policy.reset()
    queue = ActionQueue(policy)
    queue.select_action(observation)
    pops = [_milliseconds(lambda: queue.select_action(observation)) for _ in range(len(queue))]
    policy.reset()
    return {"warm_up": WARM_UP, "batch": 1, "chunk": _describe(chunks), "queue_pop": _describe(pops)}


def percentiles(samples: Sequence[float]) -> dict[str, float]:
    """The median and the 95th percentile."""
    p50, p95 = np.percentile(samples, [50, 95])
    return {"p50_ms": float(p50), "p95_ms": float(p95)}


def _sample(call: Callable[[], object]) -> list[float]:
    begin = time.perf_counter()
    for _ in range(WARM_UP):
        call()
    samples: list[float] = []
    while len(samples) < _FEWEST or (len(samples) < _REPEATS and time.perf_counter() - begin < _BUDGET_S):
        samples.append(_milliseconds(call))
    return samples


def _milliseconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e3


def _describe(samples: list[float]) -> dict[str, Any]:
    if not samples:
        return {"count": 0, "p50_ms": None, "p95_ms": None, "mean_ms": None, "samples_ms": []}
    return {
        "count": len(samples),
        **percentiles(samples),
        "mean_ms": float(np.mean(samples)),
        "samples_ms": [round(sample, 4) for sample in samples],
    }
