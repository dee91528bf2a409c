"""Metrics in physical units: offline against recordings, closed loop in simulation, reports.

The names below load on first use, so that the options stay light (no torch, no matplotlib).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .intervals import wilson
from .options import EvalOptions, RolloutOptions

if TYPE_CHECKING:
    from .closed_loop import RolloutResult, Run, rollout
    from .demo_report import write_demo_report
    from .latency import measure_latency
    from .offline import Evaluation, evaluate
    from .report import write_eval_report
    from .rollout_report import write_rollout_report
    from .scored import Scored

__all__ = [
    "EvalOptions",
    "Evaluation",
    "RolloutOptions",
    "RolloutResult",
    "Run",
    "Scored",
    "evaluate",
    "measure_latency",
    "rollout",
    "wilson",
    "write_demo_report",
    "write_eval_report",
    "write_rollout_report",
]

_HOMES = {
    "RolloutResult": "closed_loop",
    "Run": "closed_loop",
    "rollout": "closed_loop",
    "write_demo_report": "demo_report",
    "measure_latency": "latency",
    "Evaluation": "offline",
    "evaluate": "offline",
    "write_eval_report": "report",
    "write_rollout_report": "rollout_report",
    "Scored": "scored",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
