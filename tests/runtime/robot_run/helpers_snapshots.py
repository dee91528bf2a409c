"""Snapshots of a run for tests."""

from __future__ import annotations

import math
from typing import Any

from smolpilot.runtime.robot_run.snapshot import Phase, Snapshot

SO101 = ["shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper"]


def snapshot(number: int = 6, **other: Any) -> Snapshot:
    """An arm that runs; joint i of six stands at 10 i - 20, is sent 8 more, and goes on by 3 in each step."""
    names = SO101 if number == 6 else [f"left_arm_joint_{i}" for i in range(number)]
    measured = [10.0 * i - 20 if number == 6 else 60 * math.sin(i) for i in range(number)]
    values: dict[str, Any] = {
        "phase": Phase.RUNNING, "dry_run": False, "episode": 2, "episodes": 10, "seconds": 12.34, "of_seconds": 30.0,
        "instruction": "Pick up the cube.", "schedule": "async", "rate": 30.0, "achieved": 29.9, "late_ms": 1.2,
        "missed": 0, "starved": 3, "queued": 0.83, "turnaround": 0.21, "waiting": 0.04, "observation_age": 0.05,
        "chunk_age": 0.3, "joints": names, "units": ["deg"] * number, "low": [-100.0] * number,
        "high": [100.0] * number, "measured": measured, "commanded": [x + 8 for x in measured],
        "planned": [[x + 8 + 3 * step for x in measured] for step in range(5)], "clamped": {names[-1]: 4},
        "temperatures": [41.0] * number, "camera_ages": {"front": 0.033, "wrist": None}, "stop": None,
        "marks": ["success", "failure", "success", None], "hold_to_run": None, "policy_alive": True,
    }  # fmt: skip
    return Snapshot(**(values | other))
