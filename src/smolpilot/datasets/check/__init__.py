"""Find what is wrong with a recording: `audit` for any LeRobot folder, damaged or not."""

from smolpilot.datasets.tolerant.findings import Finding, Severity
from smolpilot.datasets.tolerant.found_dataset import Recording

from .run import Audit, audit

__all__ = ["Audit", "Finding", "Recording", "Severity", "audit"]
