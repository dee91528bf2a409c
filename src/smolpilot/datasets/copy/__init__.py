"""Writing recordings from planned episodes of others, losslessly: the engine behind convert, repair, split, merge."""

from smolpilot.datasets.beside import MANIFEST

from .engine import RewriteReport, rewrite
from .options import EpisodePlan, Progress, RewriteOptions
from .work import work_folder

__all__ = ["MANIFEST", "EpisodePlan", "Progress", "RewriteOptions", "RewriteReport", "rewrite", "work_folder"]
