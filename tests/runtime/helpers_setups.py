"""Setup files for an arm on an emulated bus, and such an arm in real time, for verbs that run by themselves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from .safety.helpers_rig import Rig, calibration_file

# A busy machine is no silent servo.
PATIENT = {"max_state_age": 5.0, "max_action_age": 5.0}


def write_setup(rig: Rig, folder: Path, **parts: Any) -> Path:
    """A setup of the rig's arm, `arm.yaml`; parts: keys of a setup, in place of the usual ones."""
    driver = {"type": "feetech", "port": rig.bus.port, "timeout": 0.2, "calibration": "./arm.json"}
    calibration_file(rig, folder)
    values: dict[str, Any] = {"profile": "so101", "driver": driver, "governor": PATIENT} | parts
    path = folder / "arm.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


@contextmanager
def living_arm() -> Iterator[Rig]:
    """An arm that nobody has connected, and that moves in real time."""
    rig = Rig(connect=False, clock=time.monotonic)
    try:
        yield rig
    finally:
        rig.__exit__()


def slow_profile(folder: Path) -> str:
    """An SO-101 that asks for two readings a second: a busy machine gives them, too."""
    from .safety.helpers_rig import PROFILE

    path = folder / "slow.yaml"
    path.write_text(PROFILE.model_copy(update={"rate": 2.0, "robot_types": []}).to_yaml(), encoding="utf-8")
    return "./slow.yaml"
