"""The faults that each promise of docs/safety.md is tried with. scripts/safety_table.py writes its table from these.

Each case says how many faults it tried; one that is not survived is an AssertionError.
"""

from __future__ import annotations

from . import helpers_commands, helpers_devices, helpers_faults, helpers_people, helpers_runs
from .helpers_case import CASES, Case

__all__ = ["CASES", "Case", "helpers_commands", "helpers_devices", "helpers_faults", "helpers_people", "helpers_runs"]
