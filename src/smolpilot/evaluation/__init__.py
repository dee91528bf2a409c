"""Metrics in physical units: offline against recordings, closed loop in environments, reports.

The names below load on first use, so that the options stay light (no torch, no matplotlib).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

from .eval_options import EvalOptions, RolloutOptions
from .intervals import wilson

if TYPE_CHECKING:
    from .demo_report import write_demo_report
    from .html_report import write_eval_report
    from .offline.dataset_adapter import embodiment_of
    from .offline.scoring import Evaluation, evaluate
    from .predictions import Scored
    from .rollout.closed_loop import RolloutResult, Run, rollout
    from .rollout.fit import embodiment_in
    from .rollout.rollout_report import write_rollout_report
    from .timing.latency import measure_latency

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
        "offline.dataset_adapter": ["embodiment_of"],
        "rollout.closed_loop": ["RolloutResult", "Run", "rollout"],
        "demo_report": ["write_demo_report"],
        "rollout.fit": ["embodiment_in"],
        "timing.latency": ["measure_latency"],
        "offline.scoring": ["Evaluation", "evaluate"],
        "html_report": ["write_eval_report"],
        "rollout.rollout_report": ["write_rollout_report"],
        "predictions": ["Scored"],
    },
)
