"""The expert: inverse kinematics along a few waypoints, looking at where things are, and again where it failed.

An episode is a generator of joint targets; between two of them the simulation makes a step, with whatever noise is
pushed on them. What is aimed at follows where the thing is, so that a push is no end.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from .table import BIN_HEIGHT_M, RATE, SHAPES, Shape
from .tasks import Goal

# In the gripper's frame, m: the fixed jaw's inside; how far from the wrist the fingertips are; where things are held.
_JAW_X, _TIP_Z, _HOLD_Z = -0.0081, -0.104, -0.0965
_ROOM_M = 0.005  # between the fixed jaw and what is to be held
_HOVER_M, _CARRY_M, _PUSHED_M = 0.055, 0.085, 0.042
_SPEED = 0.16 / RATE  # m a step
_TURN = math.radians(150) / RATE  # rad a step
_JOINT = math.radians(150) / RATE  # rad a step, of any joint
_GRIP_STEPS = 14
_TRIES = 6


class World(Protocol):
    """What the expert sees and knows of the simulation."""

    mujoco: Any
    model: Any
    data: Any
    joints: Any  # addresses of the arm's joints in qpos
    degrees: Any  # of freedom: addresses in qvel

    def where(self, slot: int) -> Any: ...
    def turn(self, slot: int) -> float: ...
    def shape(self, slot: int) -> Shape: ...
    def bin(self) -> tuple[float, float]: ...
    def holds(self, goal: Goal) -> bool: ...


class Arm:
    """Kinematics on data of its own: where the gripper is at joint angles, and which angles put it somewhere."""

    def __init__(self, world: World) -> None:
        self._mujoco, self._model, self._world = world.mujoco, world.model, world
        self._data = world.mujoco.MjData(world.model)
        self._body = world.mujoco.mj_name2id(world.model, world.mujoco.mjtObj.mjOBJ_BODY, "gripper")
        self._low, self._high = (
            np.array([world.model.jnt_range[world.model.dof_jntid[one]][end] for one in world.degrees])
            for end in (0, 1)
        )
        self._gaps = self._measure()

    def pose(self, angles: Any) -> tuple[Any, Any]:
        """The gripper's position [3] and axes [3, 3] at the six joint angles, rad."""
        self._data.qpos[self._world.joints] = angles
        self._mujoco.mj_kinematics(self._model, self._data)
        return self._data.xpos[self._body].copy(), self._data.xmat[self._body].reshape(3, 3).copy()

    def reach(self, angles: Any, tool: Any, point: Any, yaw: float) -> Any:
        """Angles [6] near the given ones, with `tool` (in the gripper's frame) at the point, its x axis at the angle
        `yaw`, and the gripper pointing down as far as the wrist lets it: far out it has to lean."""
        found = np.array(angles, float)
        aim = _pointing_down(yaw)
        moves, turns = np.zeros((3, self._model.nv)), np.zeros((3, self._model.nv))
        for _ in range(15):
            at, axes = self.pose(found)
            self._mujoco.mj_comPos(self._model, self._data)
            tip = at + axes @ tool
            off = 0.5 * np.cross(axes.T, aim.T).sum(axis=0)
            error = np.concatenate([_POSITION * (point - tip), _TURNS * off])
            self._mujoco.mj_jac(self._model, self._data, moves, turns, tip, self._body)
            jacobian = np.vstack([_POSITION * moves, _TURNS[:, None] * turns])[:, self._world.degrees[:5]]
            step = self._step(jacobian, error, found[:5])
            step *= min(1.0, 0.3 / max(float(np.abs(step).max()), 1e-9))
            found[:5] = np.clip(found[:5] + step, self._low[:5], self._high[:5])
            if np.abs(step).max() < 1e-5:
                break
        return found

    def _step(self, jacobian: Any, error: Any, angles: Any) -> Any:
        """The damped step of least squares. A joint at the end of its range is left out: the others do its work."""
        free = np.ones(5, bool)
        for _ in range(3):
            used = jacobian * free
            step = np.linalg.solve(used.T @ used + _DAMPING * np.eye(5), used.T @ error)
            stuck = ((angles <= self._low[:5]) & (step < 0)) | ((angles >= self._high[:5]) & (step > 0))
            if not (stuck & free).any():
                break
            free &= ~stuck
        return step * free

    def gripper(self, gap: float) -> float:
        """The gripper's angle, rad, at which its fingertips are so far apart, m."""
        gaps, angles = self._gaps
        return float(np.interp(gap, gaps, angles))

    def _measure(self) -> tuple[Any, Any]:
        """How far apart the fingertips are at each of some angles."""
        tip = self._mujoco.mj_name2id(self._model, self._mujoco.mjtObj.mjOBJ_GEOM, "moving_jaw_sph_tip1")
        angles, gaps = np.linspace(self._low[5], self._high[5] * 0.7, 40), []
        for angle in angles:
            at, axes = self.pose(np.array([0, 0, 0, 0, 0, angle]))
            gaps.append(float((axes.T @ (self._data.geom_xpos[tip] - at))[0]) - _JAW_X)
        rising = np.maximum.accumulate(gaps)
        return rising, angles


_POSITION, _DAMPING = 40.0, 1e-3  # what a meter weighs against a radian
_TURNS = np.array([0.3, 0.3, 1.0])  # about x and y, by which it leans, and about z


def _pointing_down(yaw: float) -> Any:
    """Axes of a gripper that points straight down."""
    x = np.array([math.cos(yaw), math.sin(yaw), 0.0])
    up = np.array([0.0, 0.0, 1.0])
    return np.stack([x, np.cross(up, x), up], axis=1)


class Expert:
    """Plays one episode: `action` gives the next joint targets, rad [6]."""

    def __init__(self, world: World, arm: Arm, goal: Goal, pace: float = 1.0) -> None:
        """pace: of its motions; 1.1 is 10 % faster."""
        self._world, self._arm, self._goal, self._pace = world, arm, goal, pace
        self._angles = np.array(world.data.qpos[world.joints], float)
        self._plan = self._play()

    def action(self) -> Any:
        """The next targets; the last ones for good when all is done."""
        return next(self._plan)

    def _play(self) -> Iterator[Any]:
        task = {"touch": self._touch, "pick_up": self._pick_up, "place_in": self._place, "stack": self._place,
                "push": self._push}[self._goal.task]  # fmt: skip
        for _ in range(_TRIES):
            yield from task()
            yield from self._wait(8)
            if self._world.holds(self._goal):
                break
            yield from self._away()
        while True:
            yield self._angles.copy()

    # the tasks

    def _touch(self) -> Iterator[Any]:
        shape = self._world.shape(self._goal.thing)
        tool, yaw = np.array([_JAW_X, 0.0, _TIP_Z]), self._yaw(None)
        self._angles[5] = self._arm.gripper(0.004)
        yield from self._go(tool, lambda: _higher(self._thing(), _HOVER_M), yaw)
        # Onto its upper edge, and a little further than it is high: a servo needs something to push against.
        depth = shape.half_height - 0.006
        yield from self._go(tool, lambda: _higher(self._thing(), depth), yaw, slow=0.5)
        yield from self._wait(6)

    def _pick_up(self) -> Iterator[Any]:
        yield from self._grasp()
        yield from self._rise(0.075)
        yield from self._wait(14)

    def _place(self) -> Iterator[Any]:
        yield from self._grasp()
        yield from self._rise(_CARRY_M)
        if not self._carries():
            return
        shape = self._world.shape(self._goal.thing)
        if self._goal.task == "stack":
            assert self._goal.other is not None
            other = self._goal.other
            height = self._world.shape(other).half_height + shape.half_height

            def above(more: float) -> Any:
                return _higher(self._world.where(other), height + more)
        else:
            x, y = self._world.bin()

            def above(more: float) -> Any:
                return np.array([x, y, shape.half_height + BIN_HEIGHT_M + more])

        tool, yaw = self._held_at(), self._now()[1]
        yield from self._go(tool, lambda: above(0.045), yaw, carrying=True)
        if not self._carries():
            return
        tool = self._held_at()
        down = 0.001 if self._goal.task == "stack" else -0.012
        yield from self._go(tool, lambda: above(down), yaw, slow=0.4, carrying=True)
        yield from self._wait(5)
        yield from self._grip(self._arm.gripper(2 * shape.half_width + 0.016))
        yield from self._rise(0.06)

    def _push(self) -> Iterator[Any]:
        assert self._goal.other is not None
        side, other = self._goal.side, self._goal.other
        shape = self._world.shape(self._goal.thing)
        self._angles[5] = self._arm.gripper(0.004)
        tool, yaw = np.array([_JAW_X, 0.0, _TIP_Z]), self._yaw(math.pi / 2)
        reach = shape.size[0] + 0.024

        def beside(height: float) -> Any:
            where = self._thing()
            return np.array([where[0], where[1] - side * reach, height])

        yield from self._go(tool, lambda: beside(_HOVER_M), yaw)
        yield from self._go(tool, lambda: beside(0.012), yaw, slow=0.7)
        for _ in range(150):
            where, beyond = self._thing(), self._world.where(other)
            if side * (where[1] - beyond[1]) >= _PUSHED_M:
                break
            at = self._now()[0]
            point = np.array([where[0], at[1] + side * 0.6 * _SPEED * self._pace, 0.012])
            yield self._reached(tool, point, yaw)
        yield from self._wait(3)
        yield from self._rise(0.05)

    # their parts

    def _grasp(self) -> Iterator[Any]:
        """Hold the thing between the jaws."""
        shape = self._world.shape(self._goal.thing)
        tool = np.array([_JAW_X + _ROOM_M + shape.half_width, 0.0, _HOLD_Z])
        yaw = self._yaw(self._across(shape))
        open_to = self._arm.gripper(2 * shape.half_width + 0.022)
        yield from self._go(tool, lambda: _higher(self._thing(), _HOVER_M), yaw, gripper=open_to)
        # A tall thing is held above its middle: the jaws must not meet the table.
        deep = max(0.0, 0.0115 - shape.half_height)
        yield from self._go(tool, lambda: _higher(self._thing(), deep), yaw, slow=0.5)
        yield from self._wait(3)
        yield from self._grip(self._arm.gripper(2 * shape.half_width - 0.014))

    def _rise(self, height: float) -> Iterator[Any]:
        """Straight up from where the gripper is."""
        tool = np.array([0.0, 0.0, _HOLD_Z])
        at, yaw = self._commanded(tool)
        yield from self._go(tool, lambda: np.array([at[0], at[1], at[2] + height]), yaw, slow=0.6)

    def _away(self) -> Iterator[Any]:
        """Up and open, to look again."""
        tool = np.array([0.0, 0.0, _HOLD_Z])
        at, yaw = self._commanded(tool)
        yield from self._grip(self._arm.gripper(0.05))
        yield from self._go(tool, lambda: np.array([at[0], at[1], max(at[2], 0.09)]), yaw)

    def _go(
        self, tool: Any, point: Any, yaw: float, *, gripper: float | None = None, slow: float = 1.0,
        carrying: bool = False,
    ) -> Iterator[Any]:  # fmt: skip
        """In a straight line, at a limited speed, to where `point()` is by then; or until what is carried is lost."""
        for _ in range(120):
            if carrying and not self._carries():
                return
            at, now = self._commanded(tool)
            way, turn = point() - at, _wrapped(yaw - now)
            far = float(np.linalg.norm(way))
            pace = slow * self._pace
            share = min(1.0, _SPEED * pace / max(far, 1e-9))
            yawed = now + float(np.clip(turn, -_TURN * pace, _TURN * pace))
            if gripper is not None:
                self._angles[5] += float(np.clip(gripper - self._angles[5], -0.09, 0.09))
            yield self._reached(tool, at + way * share, yawed)
            if far < 0.0025 and abs(turn) < 0.03:
                return

    def _grip(self, angle: float) -> Iterator[Any]:
        begin = self._angles[5]
        steps = max(2, round(_GRIP_STEPS / self._pace))
        for step in range(1, steps + 1):
            self._angles[5] = begin + (angle - begin) * step / steps
            yield self._angles.copy()

    def _wait(self, steps: int) -> Iterator[Any]:
        for _ in range(max(1, round(steps / self._pace))):
            yield self._angles.copy()

    def _reached(self, tool: Any, point: Any, yaw: float) -> Any:
        wanted = self._arm.reach(self._angles, tool, point, yaw)
        most = _JOINT * self._pace
        self._angles[:5] += np.clip(wanted[:5] - self._angles[:5], -most, most)
        return self._angles.copy()

    # what is known

    def _thing(self) -> Any:
        """Where it is now."""
        return self._world.where(self._goal.thing)

    def _commanded(self, tool: Any) -> tuple[Any, float]:
        """Where the tool is at the angles that were commanded last, and the gripper's yaw."""
        at, axes = self._arm.pose(self._angles)
        return at + axes @ tool, math.atan2(axes[1, 0], axes[0, 0])

    def _now(self) -> tuple[Any, float]:
        return self._commanded(np.array([_JAW_X, 0.0, _TIP_Z]))

    def _held_at(self) -> Any:
        """Where the thing is in the gripper's frame: it moved when the jaws closed."""
        at, axes = self._arm.pose(np.array(self._world.data.qpos[self._world.joints]))
        return axes.T @ (self._world.where(self._goal.thing) - at)

    def _carries(self) -> bool:
        found = self._held_at()
        return bool(np.linalg.norm(found - [0.008, 0.0, _HOLD_Z]) < 0.03)

    def _across(self, shape: Shape) -> float | None:
        """The yaw at which the jaws close on the thing's narrow side; None where each will do."""
        turn = self._world.turn(self._goal.thing)
        if shape is SHAPES["brick"]:
            return turn + math.pi / 2
        return turn if shape is SHAPES["cube"] else None

    def _yaw(self, wanted: float | None) -> float:
        """The equal yaw that is nearest to the wrist's middle; the one of the wrist's middle where any will do."""
        where = self._thing()
        middle = math.atan2(where[1], where[0] - 0.0388) + self._neutral
        if wanted is None:
            return middle
        symmetry = math.pi if self._world.shape(self._goal.thing) is not SHAPES["cube"] else math.pi / 2
        return middle + (wanted - middle + symmetry / 2) % symmetry - symmetry / 2

    @property
    def _neutral(self) -> float:
        """The gripper's yaw, seen from the pan axis, with the wrist in its middle and the gripper pointing down."""
        _, axes = self._arm.pose(np.array([0.0, 0.0, 0.0, math.pi / 2, 0.0, 0.0]))
        return math.atan2(axes[1, 0], axes[0, 0])


def _higher(point: Any, height: float) -> Any:
    return point + np.array([0.0, 0.0, height])


def _wrapped(angle: float) -> float:
    return (angle + math.pi) % (2 * math.pi) - math.pi
