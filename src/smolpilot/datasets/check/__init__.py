"""Find what is wrong with a dataset: `check_dataset` for any LeRobot folder, damaged or not."""

from smolpilot.datasets.tolerant.findings import Finding, Severity
from smolpilot.datasets.tolerant.found_dataset import FoundDataset

from .run import CheckResult, check_dataset

__all__ = ["CheckResult", "Finding", "FoundDataset", "Severity", "check_dataset"]
