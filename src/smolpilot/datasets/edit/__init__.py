"""Edits of recordings, each into a new folder: instructions, parts, unions, fewer episodes."""

from smolpilot.datasets.edit.features import rename_features
from smolpilot.datasets.edit.history import HISTORY, read_history
from smolpilot.datasets.edit.instructions import Instruction, list_instructions, rename_tasks, set_tasks, undo_tasks
from smolpilot.datasets.edit.merge import merge
from smolpilot.datasets.edit.options import EditSettings
from smolpilot.datasets.edit.selection import exclude
from smolpilot.datasets.edit.split import Parts, plan_parts, split

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
