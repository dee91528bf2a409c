"""Make a sound copy of a damaged dataset: `repair`."""

from .repair_plan import EpisodeRepair, RepairPlan
from .repairing import RepairReport, RepairWishes, repair

__all__ = ["EpisodeRepair", "RepairPlan", "RepairReport", "RepairWishes", "repair"]
