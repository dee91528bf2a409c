"""A small stand-in for Meta-World and its MuJoCo: an interpreter that has them, where the real ones do not fit.

Its hand moves to a point that each seed draws, in a plain image; the real one is tested where
SMOLPILOT_METAWORLD_PYTHON names an interpreter that has it.
"""

from __future__ import annotations

import sys
from pathlib import Path

METAWORLD = """
import numpy as np

class Space:
    low, high = np.array([-0.1, 0.6, 0.1]), np.array([0.1, 0.8, 0.2])

class Camera:
    def __init__(self):
        self.pos = np.zeros(3)

class Model:
    class vis:
        class quality:
            offsamples = 4
        class global_:
            offwidth = offheight = 480
    def __init__(self):
        self._camera = Camera()
    def camera(self, name):
        return self._camera

class Env:
    max_path_length = 500
    _random_reset_space = Space
    def __init__(self):
        self.model, self._freeze_rand_vec, self.seeded_rand_vec = Model(), True, False
        self._last_rand_vec = None
        self._rng = np.random.default_rng()
    def set_task(self, task):
        self._last_rand_vec = np.array([0.0, 0.7, 0.15])
    def seed(self, seed):
        self._rng = np.random.default_rng(seed)
    def reset(self, seed=None):
        self._steps, self._hand = 0, np.array([0.0, 0.6, 0.2])
        if not self._freeze_rand_vec:
            self._last_rand_vec = self._rng.uniform(Space.low, Space.high)
        return self._observation(), {}
    @property
    def data(self):
        return self._hand
    def _observation(self):
        seen = np.zeros(39)
        seen[:3], seen[3], seen[-3:] = self._hand, 1.0, self._last_rand_vec
        return seen
    def step(self, action):
        assert action.dtype == np.float32
        assert self._steps < self.max_path_length
        self._hand = self._hand + np.clip(action[:3], -1, 1) * 0.01
        self._steps += 1
        near = np.linalg.norm(self._hand - self._last_rand_vec) < 0.01
        return self._observation(), 10.0 if near else 1.0, False, False, {"success": float(near)}

class MT1:
    def __init__(self, name, seed):
        assert seed == 42
        self.train_classes, self.train_tasks = {name: Env}, [None]
"""
POLICIES = """
import numpy as np

class Policy:
    def get_action(self, seen):
        return np.array([*(40 * (seen[-3:] - seen[:3])), -3.0], np.float32)

class Weak(Policy):
    def get_action(self, seen):
        return Policy.get_action(self, seen) * (seen[-3] > 0)

class Broken(Policy):
    def get_action(self, seen):
        return np.zeros(4, np.float32)

ENV_POLICY_MAP = {"reach-v3": Policy, "drawer-close-v3": Policy, "soccer-v3": Weak, "push-v3": Weak, "stick-pull-v3": Broken}
"""  # noqa: E501
MUJOCO = """
import numpy as np
__version__ = "3.3.0"

class mjtRndFlag:
    mjRND_SHADOW = 0

class Renderer:
    def __init__(self, model, height, width):
        self._size, self._drawn = (height, width), None
        self.scene = type("Scene", (), {"flags": [1]})()
    def update_scene(self, data, camera):
        self._drawn = data
    def render(self):
        image = np.full((*self._size, 3), 50 + 50 * self.scene.flags[0], np.uint8)
        image[: self._size[0] // 4] = int(255 * abs(self._drawn[0]) * 5) % 255
        return image
    def close(self):
        pass
"""


def stand_in(folder: Path) -> Path:
    """A python with the stand-in, beside what this one has."""
    for name, text in (
        ("metaworld/__init__.py", METAWORLD),
        ("metaworld/policies.py", POLICIES),
        ("mujoco.py", MUJOCO),
    ):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for name in ("metaworld-3.1.1", "mujoco-3.3.0", "gymnasium-1.4.0", "scipy-1.15.3"):
        about = folder / f"{name}.dist-info" / "METADATA"
        about.parent.mkdir()
        package, version = name.split("-")
        about.write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{folder}" exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return python
