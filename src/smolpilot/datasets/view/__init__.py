"""A page for the browser that shows a dataset: videos, curves and findings, without a network."""

from .shown_findings import read_findings
from .view_page import PageSummary, write_page

__all__ = ["PageSummary", "read_findings", "write_page"]
