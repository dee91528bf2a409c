"""Writing recordings from planned episodes of others, losslessly: the engine behind convert, repair, split, merge."""

from smolpilot.datasets.beside import MANIFEST
from smolpilot.datasets.rewrite.engine import RewriteReport, rewrite
from smolpilot.datasets.rewrite.options import EpisodePlan, Progress, RewriteOptions
from smolpilot.datasets.rewrite.work import work_folder

__all__ = ["MANIFEST", "EpisodePlan", "Progress", "RewriteOptions", "RewriteReport", "rewrite", "work_folder"]
