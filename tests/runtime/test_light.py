"""What runs beside an arm is light: no torch, no video library, no simulation, little memory."""

from __future__ import annotations

import json
import subprocess
import sys

_LOOK = """
import json, sys
import psutil
import smolpilot.runtime
memory = psutil.Process().memory_info().rss / 2**20
import smolpilot.runtime.opening, smolpilot.runtime.drive, smolpilot.runtime.control_loop
import smolpilot.cli.main
from smolpilot.cli.robot import check, emulate, find, listing, move, new, watch
from smolpilot.runtime import RobotSetup, make_robot
make_robot(RobotSetup.load("so101-emulated"))
print(json.dumps({"memory": memory, "modules": sorted({name.partition(".")[0] for name in sys.modules})}))
"""
HEAVY = {"torch", "lerobot", "av", "matplotlib", "mujoco", "PIL", "cv2", "pandas", "pyarrow", "scipy", "transformers"}


def test_importing_the_runtime_and_the_robot_verbs_loads_nothing_heavy() -> None:
    made = subprocess.run([sys.executable, "-c", _LOOK], capture_output=True, text=True, check=False, timeout=120)
    assert made.returncode == 0, made.stderr
    found = json.loads(made.stdout)
    assert HEAVY.isdisjoint(found["modules"])
    assert found["memory"] < 80, "MB, after `import smolpilot.runtime`"
