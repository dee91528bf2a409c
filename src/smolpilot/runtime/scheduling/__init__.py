"""When a policy is asked for the next chunk, and which action is due meanwhile. No process, no device, no clock."""

from __future__ import annotations

from .schedule import Ask, Due, PlannedChunk, Schedule
from .schedule_options import Merge, Mode, ScheduleOptions
from .timeline import Knot, Timeline
from .turnarounds import Turnarounds

__all__ = [
    "Ask",
    "Due",
    "Knot",
    "Merge",
    "Mode",
    "PlannedChunk",
    "Schedule",
    "ScheduleOptions",
    "Timeline",
    "Turnarounds",
]
