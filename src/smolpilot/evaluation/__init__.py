"""Metrics in physical units: offline against datasets, closed loop in environments, reports.

The names below load on first use, so that the options stay light (no torch, no matplotlib).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

from .eval_options import EvalOptions, RolloutOptions

if TYPE_CHECKING:
    from .offline.dataset_adapter import embodiment_of
    from .offline.scoring import Evaluation, evaluate
    from .predictions import Predictions
    from .rates.intervals import rate_interval
    from .reports import write_demo_report, write_eval_report, write_rollout_report
    from .rollout.closed_loop import RolloutResult, rollout
    from .rollout.comparing import compare_rollouts
    from .rollout.fit import embodiment_in
    from .rollout.results import Run
    from .timing.latency import measure_latency

__all__ = [
    "EvalOptions",
    "Evaluation",
    "Predictions",
    "RolloutOptions",
    "RolloutResult",
    "Run",
    "compare_rollouts",
    "embodiment_in",
    "embodiment_of",
    "evaluate",
    "measure_latency",
    "rate_interval",
    "rollout",
    "write_demo_report",
    "write_eval_report",
    "write_rollout_report",
]

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "offline.dataset_adapter": ["embodiment_of"],
        "rollout.closed_loop": ["RolloutResult", "rollout"],
        "rollout.comparing": ["compare_rollouts"],
        "rollout.results": ["Run"],
        "rates.intervals": ["rate_interval"],
        "rollout.fit": ["embodiment_in"],
        "timing.latency": ["measure_latency"],
        "offline.scoring": ["Evaluation", "evaluate"],
        "reports": ["write_demo_report", "write_eval_report", "write_rollout_report"],
        "predictions": ["Predictions"],
    },
)
