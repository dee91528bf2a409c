"""Make a sound copy of a damaged recording: `repair`."""

from smolpilot.datasets.repair.plan import EpisodeRepair, RepairPlan
from smolpilot.datasets.repair.run import RepairReport, RepairWishes, repair

__all__ = ["EpisodeRepair", "RepairPlan", "RepairReport", "RepairWishes", "repair"]
