"""SO-101 in MuJoCo: an arm with a front and a wrist camera, a table with colored things, five kinds of tasks; 30 Hz."""

from __future__ import annotations

from typing import Literal

from smolpilot.contracts import Environment
from smolpilot.robots import CameraProfile, RobotProfile

from ..simulation import SimulatedEnvironment, spec_of
from ..simulators.so101.tasks import EVERY_COLOR, EVERY_SHAPE
from ..where import HERE, Where

Task = Literal["touch", "pick_up", "place_in", "stack", "push"]
Color = Literal["red", "green", "blue", "yellow", "orange", "purple"]
Shape = Literal["cube", "brick", "cylinder", "ball"]
Camera = Literal["front", "wrist"]


def make_so101(
    task: tuple[Task, ...] = ("pick_up",),
    colors: tuple[Color, ...] = EVERY_COLOR,  # type: ignore[assignment]
    shapes: tuple[Shape, ...] = EVERY_SHAPE,  # type: ignore[assignment]
    things: int = 3,
    cameras: tuple[Camera, ...] = ("front", "wrist"),
    width: int = 320,
    height: int = 240,
    shadows: bool = False,
    msaa: int = 0,
    randomize: bool = True,
    max_steps: int | None = None,
    end_on_success: bool = True,
    where: Where = HERE,
) -> Environment:
    """The arm of the profile `so101`, in its units, on a table with 2 to 4 `things`; the instruction names one of them.

    task: which kinds of tasks a scene may be of: touch, pick_up, place_in (the bin), stack (on another), push (to the
    left or right of another, as the arm sees it). The others of a scene are its alternatives. randomize: light, table,
    arm's color, cameras' poses; else all scenes look alike. width, height: of each image, px; shadows, msaa: how it is
    drawn.
    UsageError without the extra `so101`.
    """
    simulation = where.simulate("so101", {
        "task": task, "colors": colors, "shapes": shapes, "things": things, "cameras": cameras, "width": width,
        "height": height, "shadows": shadows, "msaa": msaa, "randomize": randomize, "max_steps": max_steps,
        "end_on_success": end_on_success,
    })  # fmt: skip
    drawn = [CameraProfile(name=name, width=width, height=height, role=name) for name in cameras]
    profile = RobotProfile.load("so101").model_copy(update={"cameras": drawn})
    return SimulatedEnvironment(simulation, spec_of("so101", profile, simulation.facts))
