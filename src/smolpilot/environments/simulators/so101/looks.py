"""How a scene looks: light, table, arm, cameras; drawn by seed, so that a policy does not learn one look."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

FRONT = ((0.56, 0.0, 0.34), (0.19, 0.0, 0.02))  # from, to
BEAUTY = ((0.52, -0.42, 0.36), (0.15, 0.0, 0.07))
_SHIFT_M, _TURN = 0.02, math.radians(3)
_ARMS = ((1.0, 0.82, 0.12), (0.93, 0.93, 0.93), (0.95, 0.45, 0.10), (0.20, 0.22, 0.25), (0.15, 0.45, 0.75))
_TABLES = ((0.86, 0.84, 0.80), (0.72, 0.58, 0.42), (0.45, 0.33, 0.24), (0.35, 0.37, 0.40), (0.78, 0.83, 0.80))


class Looks:
    """Changes the model between episodes; `plain` is the one look of `randomize=false`."""

    def __init__(self, mujoco: Any, model: Any) -> None:
        self._mujoco, self._model = mujoco, model

        def number(kind: str, name: str) -> int:
            return int(mujoco.mj_name2id(model, getattr(mujoco.mjtObj, f"mjOBJ_{kind}"), name))

        self._cameras = {name: number("CAMERA", name) for name in ("front", "beauty", "wrist_cam")}
        self._table, self._lamp = number("GEOM", "table"), number("LIGHT", "lamp")
        self._materials = [number("MATERIAL", name) for name in ("plain", "checker", "gradient")]
        yellow = (1.0, 0.82, 0.12)
        self._arm = [one for one in range(model.nmat) if np.allclose(model.mat_rgba[one][:3], yellow, atol=0.02)]
        wrist = self._cameras["wrist_cam"]
        self._wrist = model.cam_pos[wrist].copy(), model.cam_quat[wrist].copy()

    def plain(self) -> None:
        """The same for every seed."""
        self._dress(_ARMS[0], self._materials[0], _TABLES[0], (0.3, 0.3, 1.4), 0.6)
        self._aim("front", *FRONT)
        self._aim("beauty", *BEAUTY)
        self._mount((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))

    def draw(self, rng: np.random.Generator) -> None:
        """One of many."""
        shade = rng.uniform(0.85, 1.1)
        table = np.clip(np.array(_TABLES[rng.integers(len(_TABLES))]) * shade, 0, 1)
        lamp = (rng.uniform(0.0, 0.6), rng.uniform(-0.6, 0.6), rng.uniform(1.0, 1.6))
        material = self._materials[rng.integers(len(self._materials))]
        self._dress(_ARMS[rng.integers(len(_ARMS))], material, table, lamp, rng.uniform(0.4, 0.75))
        # 2 cm for the camera and, so that it turns by up to 3 degrees, for what it looks at.
        away = math.dist(*FRONT) * math.tan(_TURN)
        self._aim("front", FRONT[0] + rng.uniform(-_SHIFT_M, _SHIFT_M, 3), FRONT[1] + rng.uniform(-away, away, 3))
        self._aim("beauty", *BEAUTY)
        self._mount(rng.uniform(-0.004, 0.004, 3), rng.uniform(-_TURN, _TURN, 3))

    def _dress(self, arm: Any, material: int, table: Any, lamp: Any, light: float) -> None:
        model = self._model
        for one in self._arm:
            model.mat_rgba[one][:3] = arm
        model.geom_matid[self._table] = material
        model.mat_rgba[material][:3] = table
        model.light_pos[self._lamp] = lamp
        toward = np.array([0.2, 0.0, 0.0]) - lamp
        model.light_dir[self._lamp] = toward / np.linalg.norm(toward)
        model.light_diffuse[self._lamp] = light

    def _aim(self, name: str, at: Any, to: Any) -> None:
        """A camera looks along its own -z, with y up."""
        at, to = np.asarray(at, float), np.asarray(to, float)
        back = (at - to) / np.linalg.norm(at - to)
        right = np.cross([0.0, 0.0, 1.0], back)
        right /= np.linalg.norm(right)
        turn = np.zeros(4)
        self._mujoco.mju_mat2Quat(turn, np.stack([right, np.cross(back, right), back], axis=1).reshape(-1))
        self._model.cam_pos[self._cameras[name]], self._model.cam_quat[self._cameras[name]] = at, turn

    def _mount(self, shift: Any, turn: Any) -> None:
        """The wrist's camera, a little off: nobody screws two on alike."""
        camera, (at, before) = self._cameras["wrist_cam"], self._wrist
        more, found = np.zeros(4), np.zeros(4)
        self._mujoco.mju_euler2Quat(more, np.asarray(turn, float), "xyz")
        self._mujoco.mju_mulQuat(found, before, more)
        self._model.cam_pos[camera], self._model.cam_quat[camera] = at + np.asarray(shift), found
