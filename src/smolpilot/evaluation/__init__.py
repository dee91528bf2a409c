"""Metrics in physical units: offline against recordings, closed loop in environments, reports.

The names below load on first use, so that the options stay light (no torch, no matplotlib).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

from .intervals import wilson
from .options import EvalOptions, RolloutOptions

if TYPE_CHECKING:
    from .binding import embodiment_of
    from .closed_loop import RolloutResult, Run, rollout
    from .demo_report import write_demo_report
    from .fit import embodiment_in
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
    "embodiment_in",
    "embodiment_of",
    "evaluate",
    "measure_latency",
    "rollout",
    "wilson",
    "write_demo_report",
    "write_eval_report",
    "write_rollout_report",
]

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "binding": ["embodiment_of"],
        "closed_loop": ["RolloutResult", "Run", "rollout"],
        "demo_report": ["write_demo_report"],
        "fit": ["embodiment_in"],
        "latency": ["measure_latency"],
        "offline": ["Evaluation", "evaluate"],
        "report": ["write_eval_report"],
        "rollout_report": ["write_rollout_report"],
        "scored": ["Scored"],
    },
)
