"""ALOHA (gym-aloha): two ViperX arms hand over a cube, or plug a peg into a socket; with the scripted expert.

Imports the standard library, numpy and gym-aloha's packages only: it runs in any interpreter that has them.

Episodes are those of gym-aloha 0.1.5: the same seed and actions give the same joint angles, rewards and, with the
render settings as shipped, the same images. Two things differ, both on purpose. Images are drawn only when asked for:
gym-aloha draws three of 640x480 at each step and returns one. And `multiccd` is off, as it was before MuJoCo 3.8, which
turned on contacts at several points between meshes (its 3.8.0 changes): with them a peg jams that is held crookedly.
"""

from __future__ import annotations

import bisect
import importlib.metadata
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from .gl import choose_gl, no_drawing

TASKS = {
    "transfer_cube": ("bimanual_viperx_transfer_cube.xml", "TransferCubeTask"),
    "insertion": ("bimanual_viperx_insertion.xml", "InsertionTask"),
}
NEEDS = "gym-aloha"
PINS = ("gym-aloha==0.1.5", "dm-control==1.0.41", "mujoco==3.8.1", "numpy==2.2.6")
EXPERT = True  # it has one: see AlohaSimulation.expert
RATE, MAX_STEPS, SUCCESS_REWARD = 50.0, 400, 4
CAMERAS = ("top", "angle", "front_close", "left_pillar", "right_pillar")
_MOST = 10_000
# In the order of the state and the action: an arm's six joints and its gripper, which stands for two fingers.
_ARMS = {"left": 0, "right": 8}
_LABELS = {
    "transfer_cube": ("never touched", "touched", "lifted by the right arm", "touched by the left arm", "success"),
    "insertion": ("never touched", "touched by both", "lifted by both", "peg and socket met", "success"),
}


class AlohaSimulation:
    """One ALOHA task, without smolpilot's types.

    Raises ValueError(found, expected, fix) for settings that cannot be.
    """

    NOISE = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0) * 2  # of what a demonstration's noise is for each action; no gripper's

    def __init__(
        self, task: str = "transfer_cube", cameras: tuple[str, ...] = ("top",), width: int = 640, height: int = 480,
        shadows: bool = True, msaa: int = 4, multiccd: bool = False, max_steps: int = MAX_STEPS,
        end_on_success: bool = False,
    ) -> None:  # fmt: skip
        """cameras: of gym-aloha's five, by name. width, height: of each image, px; shadows, msaa: how it is drawn."""
        _check("task", task, TASKS)
        for camera in cameras:
            _check("cameras", camera, CAMERAS)
        for name, value, least in (
            ("width", width, 1),
            ("height", height, 1),
            ("msaa", msaa, 0),
            ("max_steps", max_steps, 1),
        ):
            if not least <= value <= _MOST:
                raise ValueError(
                    f"Setting '{name}' of the environment 'aloha' is {value}.", f"{least} to {_MOST:,}", ""
                )
        mujoco, dm_mujoco, control, constants, sim = _packages()
        self._task_name, self._max_steps, self._end_on_success = task, max_steps, end_on_success
        self._cameras, self._size, self._shadows = tuple(cameras), (height, width), shadows
        xml, class_name = TASKS[task]
        physics = dm_mujoco.Physics.from_xml_path(str(constants.ASSETS_DIR / xml))
        model = physics.model.ptr
        if not multiccd and hasattr(mujoco.mjtDisableBit, "mjDSBL_MULTICCD"):
            model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_MULTICCD
        elif not multiccd and hasattr(mujoco.mjtEnableBit, "mjENBL_MULTICCD"):  # before 3.8 it was off unless asked for
            model.opt.enableflags &= ~mujoco.mjtEnableBit.mjENBL_MULTICCD
        model.vis.quality.offsamples = msaa
        model.vis.global_.offwidth, model.vis.global_.offheight = max(width, 640), max(height, 480)
        judge = getattr(sim, class_name)
        unseeing = type(
            class_name, (judge,), {"get_observation": lambda self, physics: {"qpos": self.get_qpos(physics)}}
        )
        self._sim, self._mujoco = sim, mujoco
        self._env = control.Environment(
            physics, unseeing(), float("inf"), control_timestep=constants.DT, flat_observation=False
        )
        self._steps, self._best, self._reward, self._state = 0, 0, 0, np.zeros(14)
        self.facts: dict[str, Any] = {
            "rate": RATE,
            "max_steps": max_steps,
            "goal": f"gym-aloha's reward of {SUCCESS_REWARD} at any instant",
            "labels": {_label(text): text for text in _LABELS[task][:-1]},
            "joints": 14,
            "expert": True,
            "cameras": {camera: [height, width] for camera in cameras},
            "render": {
                "shadows": shadows,
                "msaa": msaa,
                "gl": os.environ["MUJOCO_GL"],
                "width": width,
                "height": height,
            },
            "physics": {"mujoco": mujoco.__version__, "multiccd": multiccd},
            "packages": {
                name: importlib.metadata.version(name) for name in ("gym-aloha", "dm-control", "mujoco", "numpy")
            },
        }

    def reset(self, seed: int) -> dict[str, Any]:
        """Begin the episode of the seed; gym-aloha's sampling, so that other tools' seeds mean the same scene."""
        from gym_aloha import utils

        if self._task_name == "transfer_cube":
            self._sim.BOX_POSE[0] = utils.sample_box_pose(seed)
        else:
            self._sim.BOX_POSE[0] = np.concatenate(utils.sample_insertion_pose(seed))
        self._env.task.random.seed(seed)
        self._state = self._env.reset().observation["qpos"]
        self._steps, self._best, self._reward = 0, 0, 0
        x, y = self._physics.data.qpos[16:18]
        return {"groups": {"start": f"{'near' if y < 0.5 else 'far'} {'left' if x < 0.1 else 'right'}"}}

    def act(self, action: Any) -> dict[str, Any] | None:
        """One step of 20 ms towards the joint targets [14] (rad; grippers 0 closed to 1 open); how the episode ended.

        Nothing is clipped to gym-aloha's action_space, which says -1 to 1: the start pose alone holds 1.16.
        """
        done = self._env.step(np.asarray(action, np.float64))
        self._state, self._reward = done.observation["qpos"], int(done.reward)
        self._steps, self._best = self._steps + 1, max(self._best, int(done.reward))
        over = self._steps >= self._max_steps or (self._end_on_success and self._best == SUCCESS_REWARD)
        if not over:
            return None
        success = self._best == SUCCESS_REWARD
        return {
            "success": success,
            "label": "success" if success else _label(_LABELS[self._task_name][self._best]),
            "facts": {"max_reward": float(self._best), "last_reward": float(self._reward)},
            "success_at_end": None if self._end_on_success else self._reward == SUCCESS_REWARD,
        }

    def observe(self, *, images: bool = True) -> tuple[Any, dict[str, Any]]:
        """State [14] and, where they are asked for, the image of each camera, uint8 [h, w, 3]."""
        drawn = {camera: self._draw(camera, *self._size) for camera in self._cameras} if images else {}
        return np.asarray(self._state, np.float32), drawn

    def render(self) -> Any:
        """The view from above for people, uint8 [480, 640, 3]."""
        return self._draw("top", 480, 640)

    def expert(self, seed: int = 0, vary: float = 0.0) -> Expert:
        """The scripted expert for the episode that has just begun. vary: how much its timing varies, 0.2 for 20 %."""
        return Expert(self._physics, self._mujoco, self._task_name, np.random.default_rng(seed), vary)

    def close(self) -> None:
        """Free the renderer now: at exit EGL complains about a display that is gone."""
        self._physics.free()

    @property
    def _physics(self) -> Any:
        return self._env.physics

    def _draw(self, camera: str, height: int, width: int) -> Any:
        overrides = {} if self._shadows else {self._mujoco.mjtRndFlag.mjRND_SHADOW: False}
        image = self._physics.render(height=height, width=width, camera_id=camera, render_flag_overrides=overrides)
        return np.ascontiguousarray(image)


class Expert:
    """A path of both grippers' tips through waypoints, followed by inverse kinematics; it never looks at images.

    The waypoints' offsets and times are those of the published demonstrations (T. Zhao et al., ACT, 2023). They move
    mocap bodies there, whose welds MuJoCo 3 changed; joint targets by inverse kinematics need none and succeed in 50 of
    50 episodes of both tasks.
    """

    def __init__(self, physics: Any, mujoco: Any, task: str, rng: np.random.Generator, vary: float) -> None:
        self._mujoco, self._model, self._data = mujoco, physics.model.ptr, physics.data.ptr
        self._scratch = mujoco.MjData(self._model)
        self._bodies = {arm: self._model.body(f"vx300s_{arm}/gripper_link").id for arm in _ARMS}
        self._scratch.qpos[:] = self._model.qpos0
        mujoco.mj_kinematics(self._model, self._scratch)
        self._level = {arm: self._scratch.xquat[body].copy() for arm, body in self._bodies.items()}
        limits = self._model.jnt_range
        self._low = {arm: limits[at : at + 6, 0] for arm, at in _ARMS.items()}
        self._high = {arm: limits[at : at + 6, 1] for arm, at in _ARMS.items()}
        self._joints = {arm: self._data.qpos[at : at + 6].copy() for arm, at in _ARMS.items()}
        tips = {arm: self._tip(self._data, arm) for arm in _ARMS}
        objects = self._data.qpos[16:].copy()
        path = _transfer(objects) if task == "transfer_cube" else _insertion(objects)
        # One stretch for both arms: they meet.
        pace = 1 + vary * rng.uniform(-1, 1)
        self._path = {
            arm: [(0.0, tips[arm], _LEVEL, 0.0), *((t * pace, *rest) for t, *rest in path[arm])] for arm in _ARMS
        }
        self._time = 0

    def action(self) -> Any:
        """Joint targets [14] for the next step."""
        self._time += 1
        found = []
        for arm in _ARMS:
            position, turn, gripper = _between(self._path[arm], self._time)
            self._joints[arm] = self._solve(arm, position, turn)
            found += [*self._joints[arm], gripper]
        return np.array(found)

    def _solve(self, arm: str, position: Any, turn: Any) -> Any:
        """The arm's six joint angles that bring its tip there, as near to the last ones as that allows.

        Gauss-Newton on the pose's error with a pull on the forearm's roll. Where the wrist is straight, forearm and
        wrist roll about one axis: the exact pose would need half a turn of both within a few steps there, and the pull
        gives a slightly turned gripper instead. Angles stay within the joints' limits.
        """
        mujoco, model, scratch, at, body = self._mujoco, self._model, self._scratch, _ARMS[arm], self._bodies[arm]
        wanted, back, rest = np.zeros(4), np.zeros(4), np.zeros(4)
        mujoco.mju_mulQuat(wanted, turn, self._level[arm])
        last = self._joints[arm]
        angles, aim = last.copy(), last.copy()
        aim[_ROLL] = 0.0
        scratch.qpos[:] = self._data.qpos
        error, moves, turns = np.zeros(6), np.zeros((3, model.nv)), np.zeros((3, model.nv))
        for _ in range(_ROUNDS):
            scratch.qpos[at : at + 6] = angles
            mujoco.mj_kinematics(model, scratch)
            mujoco.mj_comPos(model, scratch)
            tip = self._tip(scratch, arm)
            error[:3] = position - tip
            mujoco.mju_negQuat(back, scratch.xquat[body])
            mujoco.mju_mulQuat(rest, wanted, back)
            mujoco.mju_quat2Vel(error[3:], rest, 1.0)
            mujoco.mj_jac(model, scratch, moves, turns, tip, body)
            jacobian = _WEIGHTS[:, None] * np.vstack([moves, turns])[:, at : at + 6]
            step = np.linalg.solve(
                jacobian.T @ jacobian + np.diag(_PULL), jacobian.T @ (_WEIGHTS * error) + _PULL * (aim - angles)
            )
            angles = np.clip(angles + step, self._low[arm], self._high[arm])
            if np.abs(step).max() < 1e-6:
                break
        return angles

    def _tip(self, data: Any, arm: str) -> Any:
        body = self._bodies[arm]
        return data.xpos[body] + data.xmat[body].reshape(3, 3) @ _TIP


_ROUNDS, _ROLL = 30, 3
_WEIGHTS = np.array([10.0, 10.0, 10.0, 1.0, 1.0, 1.0])  # of a pose's error in m and rad
_PULL = np.array([1e-4, 1e-4, 1e-4, 0.05, 1e-4, 1e-4])  # of each angle towards its last one; the roll's, to 0
_TIP = np.array([0.134706, 0.0, -0.00205])  # between the fingers, from the gripper's body; m
_LEVEL = np.array([1.0, 0.0, 0.0, 0.0])


def _transfer(cube: Any) -> dict[str, list[Any]]:
    """(time in steps, position in m, turn from level as a quaternion, gripper) of both tips."""
    meet, down, sideways = np.array([0.0, 0.5, 0.25]), _turn("y", -60), _turn("x", 90)
    above, take = _moved(cube[:3], z=0.08), _moved(cube[:3], z=-0.015)
    wait, hand, right = _moved(meet, x=-0.1, z=-0.02), _moved(meet, x=0.02, z=-0.02), _moved(meet, x=0.1)
    return {
        "left": [
            (100, wait, sideways, 1), (260, hand, sideways, 1), (310, hand, sideways, 0), (360, wait, _LEVEL, 0),
            (400, wait, _LEVEL, 0),
        ],
        "right": [
            (90, above, down, 1), (130, take, down, 1), (170, take, down, 0), (200, _moved(meet, x=0.05), down, 0),
            (220, meet, down, 0), (310, meet, down, 1), (360, right, down, 1), (400, right, down, 1),
        ],
    }  # fmt: skip


def _insertion(objects: Any) -> dict[str, list[Any]]:
    """The same for peg (right) and socket (left)."""
    meet = np.array([0.0, 0.5, 0.15])

    def arm(thing: Any, turn: Any, side: int, lift: float) -> list[Any]:
        above, take = _moved(thing, z=0.08), _moved(thing, z=-0.03)
        far, near = _moved(meet, x=side * 0.1, z=lift), _moved(meet, x=side * 0.05, z=lift)
        return [
            (120, above, turn, 1), (170, take, turn, 1), (220, take, turn, 0), (285, far, turn, 0),
            (340, near, turn, 0), (400, near, turn, 0),
        ]  # fmt: skip

    peg, socket = objects[:3], objects[7:10]
    return {"left": arm(socket, _turn("y", 60), -1, 0.0), "right": arm(peg, _turn("y", -60), 1, 0.00715)}


def _moved(position: Any, x: float = 0.0, z: float = 0.0) -> Any:
    return position + np.array([x, 0.0, z])


def _turn(axis: str, degrees: float) -> Any:
    half = np.radians(degrees) / 2
    found = np.zeros(4)
    found[0], found[1 + "xyz".index(axis)] = np.cos(half), np.sin(half)
    return found


def _between(path: list[Any], time: float) -> tuple[Any, Any, float]:
    """Position, turn and gripper at a time, straight between the waypoints before and after; the last one for good."""
    after = min(bisect.bisect_right([point[0] for point in path], time), len(path) - 1)
    (begin, from_, turned, held), (end, to, turn, grip) = path[after - 1], path[after]
    share = min(1.0, (time - begin) / (end - begin))
    turn = turned + (turn - turned) * share
    return from_ + (to - from_) * share, turn / np.linalg.norm(turn), held + (grip - held) * share


def _packages() -> tuple[Any, ...]:
    """The packages of the simulation. ImportError where one is missing; ValueError where nothing can be drawn."""
    choose_gl()
    with no_drawing():
        import mujoco
        from dm_control import mujoco as dm_mujoco
        from dm_control.rl import control
        from gym_aloha import constants
        from gym_aloha.tasks import sim
    return mujoco, dm_mujoco, control, constants, sim


def _label(text: str) -> str:
    return text.replace(" ", "_")


def _check(name: str, value: str, known: Mapping[str, Any] | tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"Setting '{name}' of the environment 'aloha' is {value!r}.", f"one of {', '.join(known)}", "")


SIMULATION = AlohaSimulation
