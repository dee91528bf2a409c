"""A page for the browser that shows a recording: videos, curves and findings, without a network."""

from smolpilot.datasets.view.findings import read_findings
from smolpilot.datasets.view.page import PageSummary, write_page

__all__ = ["PageSummary", "read_findings", "write_page"]
