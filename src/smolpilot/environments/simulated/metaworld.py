"""Meta-World: fifty tasks of one arm on a table; the hand moves by x, y, z, at 80 Hz. In an interpreter of its own."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated, Literal

import pydantic

from smolpilot.common.errors import UsageError
from smolpilot.common.json_input import read_json_object
from smolpilot.contracts import Environment
from smolpilot.robots import CameraProfile, RobotProfile

from ..simulation import SimulatedEnvironment, spec_of, told
from ..simulators.metaworld import MAX_STEPS, full_name
from ..where import HERE, Where
from .metaworld_texts import TEXTS

Camera = Literal["corner2", "corner", "corner3", "corner4", "topview", "behindGripper", "gripperPOV"]
Wording = Literal["smolpilot", "lerobot"]

_ROLES: dict[str, Literal["top", "front", "wrist", "side"]] = {
    "topview": "top", "corner2": "front", "corner4": "front", "corner": "side", "corner3": "side",
    "behindGripper": "wrist", "gripperPOV": "wrist",
}  # fmt: skip


def _task(value: str) -> str:
    """Meta-World's name of the task."""
    with told():
        return full_name(value)


Task = Annotated[str, pydantic.AfterValidator(_task)]


def make_metaworld(
    task: Task = "reach-v3",
    cameras: tuple[Camera, ...] = ("corner2",),
    width: int = 480,
    height: int = 480,
    shadows: bool = True,
    msaa: int = 4,
    max_steps: int = MAX_STEPS,
    end_on_success: bool = True,
    wording: Wording = "smolpilot",
    instruction: str | None = None,
    where: Where = HERE,
) -> Environment:
    """One of Meta-World's tasks; a seed gives the same scene in `lerobot-eval`.

    task: with or without `-v3`. Success is Meta-World's own, at any instant, and ends the episode as in `lerobot-eval`
    (unless `end_on_success=false`). cameras: `corner2` is where LeRobot puts it, and upright. width, height: of each
    image, px. shadows, msaa (samples a pixel): how images are drawn, by default as LeRobot does; `shadows=false` is
    several times as fast. wording: whose text of the task a policy is told, unless it is given as `instruction`;
    LeRobot's are read from an installed lerobot. UsageError without Meta-World, which wants an interpreter of its own.
    """
    said = instruction or (_lerobot_text(full_name(task)) if wording == "lerobot" else TEXTS[full_name(task)])
    simulation = where.simulate("metaworld", {
        "task": task, "cameras": cameras, "width": width, "height": height, "shadows": shadows, "msaa": msaa,
        "max_steps": max_steps, "end_on_success": end_on_success,
    })  # fmt: skip
    drawn = [CameraProfile(name=name, width=width, height=height, role=_ROLES[name]) for name in cameras]
    profile = RobotProfile.load("metaworld").model_copy(update={"cameras": drawn})
    return SimulatedEnvironment(simulation, spec_of("metaworld", profile, simulation.facts, said))


def _lerobot_text(task: str) -> str:
    """How LeRobot words a task: from its file, without importing it."""
    found = importlib.util.find_spec("lerobot")
    folder = Path(found.origin).parent if found is not None and found.origin else None
    if folder is None:
        raise UsageError(
            "wording=lerobot reads LeRobot's texts, but lerobot is not installed.",
            fix="pip install lerobot; or give the text: instruction=TEXT",
        )
    path = folder / "envs" / "metaworld_config.json"
    try:
        text = read_json_object(path)["TASK_DESCRIPTIONS"][task]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"LeRobot's texts of Meta-World cannot be read from {path}: {type(error).__name__}.",
            expected=f"TASK_DESCRIPTIONS with {task}, as LeRobot 0.6 has it",
            fix="install lerobot 0.6; or give the text: instruction=TEXT",
        ) from error
    return str(text)
