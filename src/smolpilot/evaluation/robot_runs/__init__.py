"""Robot runs: what the log of `smolpilot run` comes to in numbers, and its report.html."""

from .measures import RunMeasures, measure
from .page import write_run_report

__all__ = ["RunMeasures", "measure", "write_run_report"]
