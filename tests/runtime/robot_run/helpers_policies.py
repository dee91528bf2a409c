"""Policies in a process of their own, as the project starts it; which one, the folder's name says."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from smolpilot.robots import RobotProfile
from smolpilot.runtime.cameras.shared_frames import SharedFrameWriter, frames_file
from smolpilot.runtime.robot_run.policy_link import PolicyLink
from smolpilot.runtime.robot_run.protocol import OpenPolicy

PROFILE = RobotProfile.load("so101")
COMMAND = [sys.executable, str(Path(__file__).with_name("helpers_policy_program.py"))]


def request(folder: Path, kind: str, **more: object) -> OpenPolicy:
    """Open the policy of that kind (see the program), for an SO-101 with one camera."""
    values = {"folder": str(folder), "source": kind, "owner": "the arm", "profile": PROFILE.to_yaml(),
              "cameras": ("front",), "instruction": "do it", "nice": 0} | more  # fmt: skip
    return OpenPolicy.model_validate(values)


@contextmanager
def link_to(folder: Path) -> Iterator[PolicyLink]:
    """A link whose process ends with the block; one image of a camera lies in the folder."""
    made = PolicyLink(folder / "policy.log")
    with SharedFrameWriter(frames_file(folder, "front"), 4, 6) as frames:
        frames.write(np.full((4, 6, 3), 7, np.uint8), 90.0)
        try:
            yield made
        finally:
            made.close()
