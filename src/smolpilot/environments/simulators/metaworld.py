"""Meta-World: fifty tasks of one arm on a table, each with a scripted policy; with the scenes of `lerobot-eval`.

Imports the standard library, numpy and Meta-World's packages only: it runs in any interpreter that has them.

A seed means the scene that LeRobot 0.6's `metaworld` environment has for it, and the same actions lead to the same
states, to the last bit; its camera's images are the same, too. Images are drawn only when asked for.
"""

from __future__ import annotations

import difflib
import importlib.metadata
import os
import warnings
from typing import Any

import numpy as np

from .gl import choose_gl, no_drawing

# Without the version that Meta-World's names end in.
TASKS = (
    "assembly", "basketball", "bin-picking", "box-close", "button-press-topdown", "button-press-topdown-wall",
    "button-press", "button-press-wall", "coffee-button", "coffee-pull", "coffee-push", "dial-turn", "disassemble",
    "door-close", "door-lock", "door-open", "door-unlock", "drawer-close", "drawer-open", "faucet-close",
    "faucet-open", "hammer", "hand-insert", "handle-press-side", "handle-press", "handle-pull-side", "handle-pull",
    "lever-pull", "peg-insert-side", "peg-unplug-side", "pick-out-of-hole", "pick-place", "pick-place-wall",
    "plate-slide", "plate-slide-back", "plate-slide-back-side", "plate-slide-side", "push-back", "push", "push-wall",
    "reach", "reach-wall", "shelf-place", "soccer", "stick-pull", "stick-push", "sweep-into", "sweep",
    "window-close", "window-open",
)  # fmt: skip
VERSION = "-v3"
WEAK = ("box-close", "soccer", "stick-pull")  # whose scripted policies succeed in less than 95 % of all scenes
NEEDS = "metaworld"
EXTRA = False  # it wants MuJoCo 3.3.0, ALOHA 3.8: an interpreter of its own
PINS = (
    "metaworld==3.1.1", "mujoco==3.3.0", "gymnasium==1.4.0", "numpy==2.2.6", "scipy==1.15.3", "imageio==2.37.0",
    "pyopengl==3.1.10",
    "packaging==25.0",  # which is imported, and not asked for
)  # fmt: skip
EXPERT = True  # it has one: see MetaworldSimulation.expert
RATE, MAX_STEPS = 80.0, 500
CAMERAS = ("corner2", "corner", "corner3", "corner4", "topview", "behindGripper", "gripperPOV")
_UPSIDE_DOWN = ("corner", "corner2", "corner3", "corner4")
_CORNER2 = (0.75, 0.075, 0.7)  # m: where LeRobot puts it, nearer than Meta-World has it
_SIZE, _MOST = 480, 10_000


class MetaworldSimulation:
    """One of Meta-World's tasks, without smolpilot's types.

    Raises ValueError(found, expected, fix) for settings that cannot be.
    """

    NOISE = (1.0, 1.0, 1.0, 0.0)  # of what a demonstration's noise is for each action; the gripper's is none

    def __init__(
        self, task: str = "reach-v3", cameras: tuple[str, ...] = ("corner2",), width: int = _SIZE, height: int = _SIZE,
        shadows: bool = True, msaa: int = 4, max_steps: int = MAX_STEPS, end_on_success: bool = True,
    ) -> None:  # fmt: skip
        """task: with or without `-v3`. width, height: of each image, px; shadows, msaa: how it is drawn."""
        name = full_name(task)
        for camera in cameras:
            if camera not in CAMERAS:
                raise ValueError(
                    f"Setting 'cameras' of the environment 'metaworld' is {camera!r}.", f"of {', '.join(CAMERAS)}", ""
                )
        for setting, value, least in (("width", width, 1), ("height", height, 1), ("msaa", msaa, 0),
                                      ("max_steps", max_steps, 1)):  # fmt: skip
            if not least <= value <= _MOST:
                raise ValueError(
                    f"Setting '{setting}' of the environment 'metaworld' is {value}.", f"{least} to {_MOST:,}", ""
                )
        self._mujoco, metaworld, self._policies = _packages()
        self._name, self._max_steps, self._end_on_success = name, max_steps, end_on_success
        self._cameras, self._size, self._shadows = tuple(cameras), (height, width), shadows
        self._env = _environment(metaworld, name)
        self._env.max_path_length = max_steps
        model = self._env.model
        model.vis.quality.offsamples = msaa
        model.vis.global_.offwidth, model.vis.global_.offheight = max(width, _SIZE), max(height, _SIZE)
        self._renderers: dict[tuple[int, int], Any] = {}
        self._seen = np.zeros(39)
        self._steps, self._succeeded, self._succeeds, self._reward, self._best = 0, False, False, 0.0, 0.0
        self.facts: dict[str, Any] = {
            "rate": RATE,
            "max_steps": max_steps,
            "goal": "Meta-World's success at any instant",
            "labels": {"timeout": "ran out of time"},
            "joints": 4,
            "expert": True,
            "weak_expert": name.removesuffix(VERSION) in WEAK,
            "cameras": {camera: [height, width] for camera in cameras},
            "render": {
                "shadows": shadows, "msaa": msaa, "gl": os.environ["MUJOCO_GL"], "width": width, "height": height,
            },
            "physics": {"mujoco": self._mujoco.__version__},
            "packages": {
                package: importlib.metadata.version(package)
                for package in ("metaworld", "gymnasium", "mujoco", "numpy", "scipy")
            },
        }  # fmt: skip

    def reset(self, seed: int) -> dict[str, Any]:
        """Begin the episode of the seed. A group: whether the first thing that the scene draws, mostly the object, is
        left or right of the middle of where it may be, as the robot sees it."""
        self._env.seed(seed)
        self._seen, _ = self._env.reset(seed=seed)
        self._steps, self._succeeded, self._succeeds, self._reward, self._best = 0, False, False, 0.0, 0.0
        space = self._env._random_reset_space
        drawn, low, high = (float(values[0]) for values in (self._env._last_rand_vec, space.low, space.high))
        if high <= low:
            return {"groups": {}}
        return {"groups": {"start": "left" if drawn < (low + high) / 2 else "right"}}

    def act(self, action: Any) -> dict[str, Any] | None:
        """One step of 12.5 ms: the hand's target moves by x, y, z (1 is 1 cm), the gripper pushes (-1 open, 1 closed).

        What is beyond -1 to 1 is clipped, by Meta-World and MuJoCo. The answer says how the episode ended.
        """
        # As numbers of 32 bits: LeRobot's env gets them so, and the hand's target is computed with them.
        self._seen, reward, _, _, info = self._env.step(np.asarray(action, np.float32))
        self._steps += 1
        self._succeeds, self._reward = bool(info["success"]), float(reward)
        self._succeeded, self._best = self._succeeded or self._succeeds, max(self._best, self._reward)
        if self._steps < self._max_steps and not (self._succeeded and self._end_on_success):
            return None
        return {
            "success": self._succeeded,
            "label": "success" if self._succeeded else "timeout",
            "facts": {"max_reward": self._best, "last_reward": self._reward},
            "success_at_end": None if self._end_on_success else self._succeeds,
        }

    def observe(self, *, images: bool = True) -> tuple[Any, dict[str, Any]]:
        """State [4] (the hand's x, y, z in m; the gripper, 0 closed to 1 open) and, where they are asked for, the image
        of each camera, uint8 [h, w, 3]."""
        drawn = {one: self._draw(one, *self._size, shadows=self._shadows) for one in self._cameras} if images else {}
        return np.asarray(self._seen[:4], np.float32), drawn

    def render(self) -> Any:
        """The view for people, uint8 [480, 480, 3]; without shadows, which take two thirds of the time."""
        return self._draw("corner2", _SIZE, _SIZE, shadows=False)

    def expert(self, seed: int = 0, vary: float = 0.0) -> Expert:
        """Meta-World's scripted policy for the episode that has just begun; it reads positions and draws nothing."""
        if vary:
            raise ValueError(
                "The experts of Meta-World have no pace that could vary: they steer by where things are.",
                "an expert without another pace",
                "leave --vary-timing out, or say --vary-timing 0",
            )
        return Expert(self, self._policies[self._name]())

    @property
    def observation(self) -> Any:
        """Meta-World's own observation [39] after the last step, float64: positions of now and of before, the goal."""
        return self._seen

    def close(self) -> None:
        """Free the renderers now: at exit EGL complains about a display that is gone."""
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()

    def _draw(self, camera: str, height: int, width: int, *, shadows: bool) -> Any:
        renderer = self._renderers.get((height, width))
        if renderer is None:
            renderer = self._renderers[height, width] = self._mujoco.Renderer(self._env.model, height, width)
        renderer.scene.flags[self._mujoco.mjtRndFlag.mjRND_SHADOW] = int(shadows)
        renderer.update_scene(self._env.data, camera=camera)
        image = renderer.render()
        return np.ascontiguousarray(image[::-1, ::-1] if camera in _UPSIDE_DOWN else image)


class Expert:
    """Meta-World's scripted policy of a task. Its actions are clipped to -1 to 1, as they are when executed."""

    def __init__(self, simulation: MetaworldSimulation, policy: Any) -> None:
        self._simulation, self._policy = simulation, policy

    def action(self) -> Any:
        """The next action [4]."""
        # Of a copy: some of the policies move what they read.
        return np.clip(self._policy.get_action(self._simulation.observation.copy()), -1.0, 1.0)


def full_name(task: str) -> str:
    """Meta-World's name of a task that is given with or without its version."""
    short = task.removesuffix(VERSION)
    if short in TASKS:
        return short + VERSION
    near = difflib.get_close_matches(short, TASKS, n=1)
    raise ValueError(
        f"Setting 'task' of the environment 'metaworld' is {task!r}.",
        f"one of {', '.join(TASKS)}",
        f"Did you mean '{near[0]}'?" if near else "",
    )


def _environment(metaworld: Any, name: str) -> Any:
    """The environment of a task as LeRobot makes it: goals may be seen, each seed draws a scene of its own."""
    benchmark = metaworld.MT1(name, seed=42)
    env = benchmark.train_classes[name]()
    env.set_task(benchmark.train_tasks[0])
    env.model.camera("corner2").pos[:] = _CORNER2
    env.reset()
    env._freeze_rand_vec, env.seeded_rand_vec = False, True
    return env


def _packages() -> tuple[Any, Any, Any]:
    """MuJoCo, Meta-World and its policies by task. ImportError where one is missing; ValueError where nothing can be
    drawn."""
    choose_gl()
    # Its policies say at almost every step that the environment clips what they want.
    warnings.filterwarnings("ignore", message=r"Constant\(s\) may be too high")
    with no_drawing():
        import metaworld
        import mujoco
        from metaworld.policies import ENV_POLICY_MAP
    return mujoco, metaworld, ENV_POLICY_MAP


SIMULATION = MetaworldSimulation
