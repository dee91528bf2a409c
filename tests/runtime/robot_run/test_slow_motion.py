"""`--speed`: the same way, slower; and a control rate above the policy's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from smolpilot.contracts.run_folder import LOG, read_facts
from smolpilot.contracts.run_log import read_run_log

from ...helpers_packages import install_package
from ..helpers_setups import PATIENT, living_arm, write_setup

STEADY = '''
import numpy as np

from smolpilot.contracts import Policy, PolicySpec


class Steady(Policy):
    """On and on, 1.5 degrees a step: 45 degrees per second at its own 30 Hz."""

    def __init__(self, source, options, embodiment):
        options.only("a steady policy", "device", "camera_map")
        self.spec = PolicySpec("steady", 6, 6, 40, 20, profile=embodiment.profile, rate=30.0)

    def predict(self, observations, *, seeds=None, previous=None):
        chunk = np.tile(np.asarray(observations[0]["observation.state"], np.float32), (40, 1))
        chunk[:, 0] += 1.5 * np.arange(40)
        return chunk[None]
'''


def test_at_a_quarter_of_the_speed_it_goes_the_same_way_without_being_clamped(tmp_path: Path) -> None:
    """A limit alone would clamp every tick, and stop the arm: what is asked for has to be slower, too."""
    packages = install_package(tmp_path / "site", "steady", STEADY, {"smolpilot.policies": {"steady": "steady:Steady"}})
    with living_arm() as rig:
        limits = {"shoulder_pan": {"velocity": 60.0, "acceleration": 600.0}}
        setup = write_setup(
            rig, tmp_path, operating_limits=limits, governor={**PATIENT, "max_chunk_age": 20.0, "max_starved": 5.0}
        )
        words = ["run", "steady", "--robot", str(setup), "--go", "--unattended", "--seconds", "2", "--speed", "0.25",
                 "--rate", "60", "--schedule", "async", "--log-only", "--out", str(tmp_path / "run")]  # fmt: skip
        path = os.pathsep.join([str(packages), os.environ.get("PYTHONPATH", "")])
        done = subprocess.run(
            [sys.executable, "-m", "smolpilot", *words], env={**os.environ, "PYTHONPATH": path}, check=False,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    facts, log = read_facts(tmp_path / "run"), read_run_log(tmp_path / "run" / LOG)
    assert (facts.speed, facts.rate, facts.policy_rate) == (0.25, 60.0, 30.0)
    assert next(one for one in facts.limits if one.joint == "shoulder_pan").velocity[0] == 15.0
    ticks = [tick for tick in log.ticks if tick.source == "policy"]
    played = np.array([tick.sent.commanded[0] for tick in ticks])
    speed = np.median(np.diff(played)) * 60
    assert 10.5 < speed < 12.0, "a quarter of 45 degrees per second"
    late = ticks[len(ticks) // 2 :]  # it has caught up with what it missed while the first chunk was computed
    assert sum("velocity" in tick.sent.flags for tick in late) < 0.2 * len(late)
