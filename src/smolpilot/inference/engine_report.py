"""What an engine says about itself: mode, precision, memory, warm-up, latency by stage, and its verdict."""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from .backends.parity_check import ParityReport

STAGES = ("transforms", "vision", "prefix", "denoising", "total")
_KEPT = 1000  # chunks that the percentiles are taken over


class Stopwatch:
    """Milliseconds by stage, over the last chunks; a fixed amount of memory."""

    def __init__(self) -> None:
        self._samples: dict[str, deque[float]] = {stage: deque(maxlen=_KEPT) for stage in STAGES}
        self.last: dict[str, float] = {}  # of the newest chunk
        self.wait: Callable[[], object] = lambda: None  # for the device, at the end of a stage

    @contextmanager
    def stage(self, name: str, *, counted: bool = True) -> Iterator[None]:
        """Time the block; counted: whether it goes into the percentiles, too."""
        start = time.perf_counter()
        yield
        self.wait()
        self.last[name] = (time.perf_counter() - start) * 1e3
        if counted:
            self._samples[name].append(self.last[name])

    def clear(self) -> None:
        for samples in self._samples.values():
            samples.clear()

    def summary(self) -> dict[str, dict[str, float]]:
        """`{"vision": {"count", "p50_ms", "p95_ms", "p99_ms"}, ...}` of the stages that were measured."""
        import numpy as np

        out = {}
        for name, samples in self._samples.items():
            if samples:
                p50, p95, p99 = np.percentile(list(samples), [50, 95, 99])
                out[name] = {"count": len(samples), "p50_ms": float(p50), "p95_ms": float(p95), "p99_ms": float(p99)}
        return out


@dataclass
class EngineReport:
    """Facts of a running engine. `latency` counts chunks of one frame after the warm-up, by stage."""

    source: str
    mode: str  # what runs: "exact", "fast", "int8", or "plain" after a fallback
    asked_mode: str
    backend: str
    precision: str
    device: str
    cameras: list[str]
    max_tokens: int
    denoising_steps: int
    parameters: int
    memory_bytes: int
    load_seconds: float
    warm_up_seconds: float
    verdict: ParityReport | None = None
    fallback: str = ""  # why the plain network runs instead
    latency: dict[str, dict[str, float]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def text(self) -> str:
        """The report for a person, several lines."""
        asked = f" (asked for: {self.asked_mode})" if self.asked_mode != self.mode else ""
        lines = [
            f"engine for {self.source}",
            f"  mode       {self.mode}{asked}, {self.backend}, {self.precision} on {self.device}, "
            f"{self.memory_bytes / 1e6:,.0f} MB",
            f"  built for  cameras {', '.join(self.cameras)}; up to {self.max_tokens} tokens; "
            f"{self.denoising_steps} denoising steps",
            f"  start      loaded in {self.load_seconds:.1f} s, warm-up {self.warm_up_seconds:.1f} s",
            f"  check      {self.verdict.text() if self.verdict is not None else 'not yet: on the first frame'}",
        ]
        for name, numbers in self.latency.items():
            lines.append(
                f"  {name:<10} p50 {numbers['p50_ms']:.1f} ms, p95 {numbers['p95_ms']:.1f}, p99 {numbers['p99_ms']:.1f}"
            )
        if self.fallback:
            lines.append(f"  WARNING    {self.fallback}")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.text()
