"""Writing datasets from planned episodes of others, losslessly: the engine behind convert, repair, split, merge."""

from smolpilot.datasets.beside import MANIFEST

from .engine import copy_episodes
from .options import CopyOptions, EpisodePlan, Progress
from .proof.copy_report import CopyReport
from .work import work_folder

__all__ = ["MANIFEST", "CopyOptions", "CopyReport", "EpisodePlan", "Progress", "copy_episodes", "work_folder"]
