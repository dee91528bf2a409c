"""Edits of datasets, each into a new folder: instructions, parts, unions, fewer episodes."""

from smolpilot.datasets.copy.options import EditSettings

from .history import HISTORY, read_history
from .instructions import Instruction, list_instructions, rename_tasks, set_tasks, undo_tasks
from .merge import merge
from .rename_features import rename_features
from .split import Parts, exclude, plan_parts, split

__all__ = [
    "HISTORY",
    "EditSettings",
    "Instruction",
    "Parts",
    "exclude",
    "list_instructions",
    "merge",
    "plan_parts",
    "read_history",
    "rename_features",
    "rename_tasks",
    "set_tasks",
    "split",
    "undo_tasks",
]
