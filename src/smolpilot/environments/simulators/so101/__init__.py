"""SO-101: the arm that LeRobot's users have, in MuJoCo, on a table with things of six colors; with an expert.

Imports the standard library, numpy, MuJoCo and the model in so101-nexus: it runs in any interpreter that has them.
"""

from __future__ import annotations

import importlib.metadata
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..gl import choose_gl, draw_as_chosen, no_drawing
from . import tasks
from .demonstrator import Arm, Expert
from .looks import Looks
from .table import JOINTS, RATE, SLOTS, SUBSTEPS, Shape, Stagehand, build
from .table import SHAPES as SHAPES
from .tasks import Goal, Judge, Scene, check_choice, draw

NEEDS = "so101-nexus"
PINS = ("so101-nexus==0.10.0", "mujoco==3.8.1", "numpy==2.2.6")
EXPERT = True
POSES = True  # its arm can be shown at joints that were recorded
CAMERAS = ("front", "wrist")
_MOST = 10_000
_START = (0.0, -75.0, 45.0, 83.0, 0.0, 15.0)  # in the robot's units: folded, 11 cm above the table
_STARTS_AROUND = (15.0, 5.0, 5.0, 8.0, 15.0, 10.0)
_NAMED = {"gripper": "jaw", "moving_jaw_so101_v1": "finger", "bin": "bin"}


class So101Simulation:
    """One task, or several in turn, without smolpilot's types.

    Raises ValueError(found, expected, fix) for settings that cannot be.
    """

    NOISE = (1.0, 1.0, 1.0, 1.0, 1.0, 0.0)  # degrees; none for the gripper

    def __init__(
        self, task: Sequence[str] = ("pick_up",), colors: Sequence[str] = tasks.EVERY_COLOR,
        shapes: Sequence[str] = tasks.EVERY_SHAPE, things: int = 3, cameras: Sequence[str] = CAMERAS, width: int = 320,
        height: int = 240, shadows: bool = False, msaa: int = 0, randomize: bool = True, max_steps: int | None = None,
        end_on_success: bool = True,
    ) -> None:  # fmt: skip
        """task: for each scene one is drawn. things: how many lie there; width, height, shadows, msaa: how images
        are drawn. max_steps: None for the longest of the tasks."""
        for name, chosen, known in (("task", task, tasks.TASKS), ("colors", colors, tasks.EVERY_COLOR),
                                    ("shapes", shapes, tasks.EVERY_SHAPE), ("cameras", cameras, CAMERAS)):  # fmt: skip
            check_choice(name, chosen, known)
        longest = max(tasks.MAX_STEPS[one] for one in task) if max_steps is None else max_steps
        for name, value, least, most in (
            ("things", things, 2, SLOTS), ("width", width, 1, _MOST), ("height", height, 1, _MOST),
            ("msaa", msaa, 0, 16), ("max_steps", longest, 1, _MOST),
        ):  # fmt: skip
            if not least <= value <= most:
                raise ValueError(f"Setting '{name}' of the environment 'so101' is {value}.", f"{least} to {most:,}", "")
        self._require_enough(task, colors, shapes, things)
        choose_gl()
        import mujoco

        self.mujoco, self._tasks = mujoco, tuple(task)
        self._draw = (tuple(task), tuple(colors), tuple(shapes), things)
        self._cameras, self._size, self._shadows, self._randomize = tuple(cameras), (height, width), shadows, randomize
        self._max_steps, self._end_on_success = longest, end_on_success
        self.model = build(mujoco, msaa, (max(height, 480), max(width, 640)))
        self.data = mujoco.MjData(self.model)
        self._stage, self._looks = Stagehand(mujoco, self.model), Looks(mujoco, self.model)
        numbers = [mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_JOINT, name) for name in JOINTS]
        self.joints, self.degrees = self.model.jnt_qposadr[numbers], self.model.jnt_dofadr[numbers]
        self._low, self._high = self.model.jnt_range[numbers].T
        self._arm = Arm(self)
        self._names = self._categories()
        self._renderers: dict[tuple[int, int], Any] = {}
        self._scene, self._goal = Scene([], None, []), Goal("touch", 0, "")
        self._judge = Judge(self._scene, np.zeros((0, 3)))
        self._steps = 0
        self.facts: dict[str, Any] = {
            "rate": RATE,
            "max_steps": longest,
            "goal": "; ".join(f"{one}: {tasks.GOALS[one]}" for one in task),
            "labels": dict(tasks.LABELS),
            "instructions": tasks.every_instruction(task, colors, shapes),
            "joints": len(JOINTS),
            "expert": True,
            "cameras": {camera: [height, width] for camera in cameras},
            "render": {"shadows": shadows, "msaa": msaa, "gl": os.environ["MUJOCO_GL"], "width": width,
                       "height": height, "randomize": randomize},
            "physics": {"mujoco": mujoco.__version__},
            "packages": {name: importlib.metadata.version(name) for name in ("so101-nexus", "mujoco", "numpy")},
        }  # fmt: skip

    @staticmethod
    def _require_enough(task: Sequence[str], colors: Sequence[str], shapes: Sequence[str], things: int) -> None:
        usable = min((tasks.usable_shapes(one, shapes) for one in task), key=len)
        if len(colors) * len(usable) < things:
            raise ValueError(
                f"{things} things cannot all be different with {len(colors)} colors and {len(usable)} usable shapes.",
                "more colors or shapes (a ball is neither stacked nor pushed)", "or fewer things",
            )  # fmt: skip

    def reset(self, seed: int, instruction: str | None = None) -> dict[str, Any]:
        """Begin the episode of the seed: the same scene under each of its instructions."""
        rng = np.random.default_rng([seed, 101])
        scene = draw(rng, *self._draw)
        texts = [goal.text for goal in scene.goals]
        if instruction is not None and instruction not in texts:
            raise ValueError(
                f"The scene of seed {seed} has no instruction {instruction!r}.", f"one of {'; '.join(texts)}", ""
            )
        start = np.array(_START) + rng.uniform(-1, 1, 6) * _STARTS_AROUND
        if self._randomize:
            self._looks.draw(rng)
        else:
            self._looks.plain()
        mujoco, data = self.mujoco, self.data
        mujoco.mj_resetData(self.model, data)
        self._stage.place(data, scene.things, scene.bin_at)
        data.qpos[self.joints] = self._radians(start)
        data.ctrl[:] = self._radians(start)
        mujoco.mj_forward(self.model, data)
        self._scene, self._goal = scene, scene.goals[texts.index(instruction) if instruction is not None else 0]
        self._judge = Judge(scene, self._positions().copy())
        self._steps = 0
        thing = scene.things[self._goal.thing]
        return {
            "instruction": self._goal.text,
            "alternatives": [text for text in texts if text != self._goal.text],
            "groups": {"task": self._goal.task, "color": thing.color, "shape": thing.shape},
        }

    def act(self, action: Any) -> dict[str, Any] | None:
        """One step of 1/30 s towards the joint targets [6] (degrees; gripper 0 closed to 100 open); how the episode
        ended. A target beyond a joint's range is the end of its range, as a servo has it."""
        self.data.ctrl[:] = np.clip(self._radians(np.asarray(action, np.float64)), self._low, self._high)
        self.mujoco.mj_step(self.model, self.data, SUBSTEPS)
        self._steps += 1
        self._judge.look(self._positions(), self._touching())
        success = self._goal.text in self._judge.reached
        if self._steps < self._max_steps and not (success and self._end_on_success):
            return None
        return {
            "success": success,
            "label": "success" if success else self._judge.label(self._goal),
            "success_at_end": None if self._end_on_success else self.holds(self._goal),
            "reached": list(self._judge.reached),
        }

    def observe(self, *, images: bool = True) -> tuple[Any, dict[str, Any]]:
        """State [6] in the robot's units and, where they are asked for, the cameras' images, uint8 [h, w, 3]."""
        seen = {camera: self._image(_CAMERA[camera], self._size, self._shadows) for camera in self._cameras if images}
        return self._units(self.data.qpos[self.joints]).astype(np.float32), seen

    def render(self) -> Any:
        """A view for people, with shadows, uint8 [480, 640, 3]."""
        return self._image("beauty", (480, 640), True)

    def expert(self, seed: int = 0, vary: float = 0.0) -> Any:
        """Plays the episode that `reset` has begun. vary: its pace differs by so much between seeds."""
        pace = 1.0 + vary * float(np.random.default_rng([seed, 2]).uniform(-1, 1))
        return _InUnits(Expert(self, self._arm, self._goal, pace), self._units)

    def pose(self, state: Any) -> None:
        """Put the arm where a recording has it, [6] in the robot's units, on an empty table."""
        self._looks.plain()
        self._stage.place(self.data, [], None)
        self.data.qpos[self.joints] = self._radians(np.asarray(state, np.float64))
        self.data.qvel[:] = 0
        self.mujoco.mj_forward(self.model, self.data)

    def close(self) -> None:
        """Free the renderers."""
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()

    # what the expert sees

    def where(self, slot: int) -> Any:
        """Position of a thing [3], m."""
        return self.data.xpos[self._stage.bodies[slot]].copy()

    def turn(self, slot: int) -> float:
        """How a thing is turned about the vertical, rad."""
        axes = self.data.xmat[self._stage.bodies[slot]].reshape(3, 3)
        return math.atan2(axes[1, 0], axes[0, 0])

    def shape(self, slot: int) -> Shape:
        """What it is."""
        return SHAPES[self._scene.things[slot].shape]

    def bin(self) -> tuple[float, float]:
        """Where the bin is."""
        assert self._scene.bin_at is not None
        return self._scene.bin_at

    def holds(self, goal: Goal) -> bool:
        """Whether the goal was reached."""
        return goal.text in self._judge.reached

    # the physics

    def _positions(self) -> Any:
        return self.data.xpos[self._stage.bodies[: len(self._scene.things)]]

    def _categories(self) -> list[str]:
        """Of each geom, what it belongs to."""
        mujoco, model = self.mujoco, self.model
        found = []
        for geom in range(model.ngeom):
            body = mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_BODY, model.geom_bodyid[geom]) or ""
            name = mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_GEOM, geom) or ""
            found.append(_NAMED.get(body, body if body.startswith("thing") else name if name == "table" else ""))
        return found

    def _touching(self) -> set[tuple[str, str]]:
        pairs = set()
        for geoms in self.data.contact.geom[: self.data.ncon]:
            one, other = sorted((self._names[geoms[0]], self._names[geoms[1]]))
            if one and other:
                pairs.add((one, other))
        return pairs

    def _image(self, camera: str, size: tuple[int, int], shadows: bool) -> Any:
        with no_drawing():
            if size not in self._renderers:
                draw_as_chosen()
                self._renderers[size] = self.mujoco.Renderer(self.model, *size)
            renderer = self._renderers[size]
            renderer.update_scene(self.data, camera)
            renderer.scene.flags[self.mujoco.mjtRndFlag.mjRND_SHADOW] = int(shadows)
            return renderer.render().copy()

    def _radians(self, values: Any) -> Any:
        share = np.asarray(values[5:]) / 100
        return np.concatenate([np.radians(values[:5]), self._low[5:] + share * (self._high[5:] - self._low[5:])])

    def _units(self, angles: Any) -> Any:
        share = (angles[5:] - self._low[5:]) / (self._high[5:] - self._low[5:])
        return np.concatenate([np.degrees(angles[:5]), 100 * share])


_CAMERA: Mapping[str, str] = {"front": "front", "wrist": "wrist_cam"}


class _InUnits:
    """An expert whose targets are in the robot's units."""

    def __init__(self, expert: Expert, units: Any) -> None:
        self._expert, self._units = expert, units

    def action(self) -> Any:
        return self._units(self._expert.action())


SIMULATION = So101Simulation
