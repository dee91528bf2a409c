"""ALOHA (gym-aloha): two arms hand over a cube or plug a peg into a socket; 14 joints, one camera from above, 50 Hz."""

from __future__ import annotations

from typing import Literal

from smolpilot.contracts import Environment
from smolpilot.robots import CameraProfile, RobotProfile

from ..simulation import SimulatedEnvironment, spec_of
from ..simulators.aloha import MAX_STEPS
from ..where import HERE, Where

Task = Literal["transfer_cube", "insertion"]
Camera = Literal["top", "angle", "front_close", "left_pillar", "right_pillar"]

# As LeRobot's datasets of these tasks word them.
INSTRUCTIONS = {
    "transfer_cube": "Pick up the cube with the right arm and transfer it to the left arm.",
    "insertion": "Insert the peg into the socket.",
}
_ROLES: dict[str, Literal["top", "front", "other"]] = {"top": "top", "angle": "front", "front_close": "front"}


def make_aloha(
    task: Task = "transfer_cube",
    cameras: tuple[Camera, ...] = ("top",),
    width: int = 640,
    height: int = 480,
    shadows: bool = True,
    msaa: int = 4,
    multiccd: bool = False,
    max_steps: int = MAX_STEPS,
    end_on_success: bool = False,
    instruction: str | None = None,
    where: Where = HERE,
) -> Environment:
    """gym-aloha's `transfer_cube` or `insertion`; a seed gives the same scene there and in `lerobot-eval`.

    Success is gym-aloha's own, a reward of 4 at any instant; the episode goes on to its last step all the same (unless
    `end_on_success`), so that what is dropped right afterwards shows. width, height: of each image, px. shadows, msaa
    (samples a pixel): how images are drawn, by default as gym-aloha does; `shadows=false msaa=0` is many times as fast.
    multiccd: MuJoCo 3.8's contacts at several points; off, as before it. instruction: default as LeRobot's.
    UsageError without the extra `aloha`.
    """
    simulation = where.simulate("aloha", {
        "task": task, "cameras": cameras, "width": width, "height": height, "shadows": shadows, "msaa": msaa,
        "multiccd": multiccd, "max_steps": max_steps, "end_on_success": end_on_success,
    })  # fmt: skip
    drawn = tuple(
        CameraProfile(name=name, width=width, height=height, role=_ROLES.get(name, "other")) for name in cameras
    )
    profile = RobotProfile.load("aloha").model_copy(update={"cameras": list(drawn)})
    spec = spec_of("aloha", profile, simulation.facts, instruction or INSTRUCTIONS[task])
    return SimulatedEnvironment(simulation, spec)
