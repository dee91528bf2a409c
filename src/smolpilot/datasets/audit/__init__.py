"""Find what is wrong with a recording: `audit` for any LeRobot folder, damaged or not."""

from smolpilot.datasets.audit.findings import Finding, Severity
from smolpilot.datasets.audit.recording import Recording
from smolpilot.datasets.audit.run import Audit, audit

__all__ = ["Audit", "Finding", "Recording", "Severity", "audit"]
