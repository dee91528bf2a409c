"""A page for the browser that shows a recording: videos, curves and findings, without a network."""

from smolpilot.datasets.view.findings import PageFinding, read_findings
from smolpilot.datasets.view.page import PageSummary, write_page

__all__ = ["PageFinding", "PageSummary", "read_findings", "write_page"]
