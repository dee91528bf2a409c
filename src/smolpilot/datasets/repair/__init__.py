"""Make a sound copy of a damaged dataset: `repair`."""

from .repair_plan import EpisodeRepair, RepairPlan, RepairWishes
from .repairing import RepairReport, repair

__all__ = ["EpisodeRepair", "RepairPlan", "RepairReport", "RepairWishes", "repair"]
