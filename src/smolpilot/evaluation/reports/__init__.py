"""Reports as single HTML files in English and Chinese: an evaluation, a rollout, stages, a whole demo."""

from .demo_page import write_demo_report
from .formats import interval, number, percent
from .offline_page import write_eval_report
from .rollout_page import write_rollout_report
from .stages_page import write_stages_page

__all__ = [
    "interval",
    "number",
    "percent",
    "write_demo_report",
    "write_eval_report",
    "write_rollout_report",
    "write_stages_page",
]
