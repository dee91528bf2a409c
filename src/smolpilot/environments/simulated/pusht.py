"""PushT (gym-pusht): a round pusher moves a T-shaped block onto its target; an image from above, 2 dims, 10 Hz."""

from __future__ import annotations

from smolpilot.contracts import Environment
from smolpilot.robots import Joint, RobotProfile

from ..simulation import SimulatedEnvironment, spec_of
from ..simulators.pusht import MAX_STEPS as MAX_STEPS
from ..where import HERE, Where

_CORNERS = 8


def make_pusht(
    instruction: str | None = None,
    max_steps: int = MAX_STEPS,
    width: int = 96,
    height: int = 96,
    keypoints: bool = False,
    end_on_success: bool = True,
    where: Where = HERE,
) -> Environment:
    """gym-pusht's PushT-v0: the image from above and where the pusher is [2] in px; an action [2] is where it shall go.

    Success, which ends an episode, is gym-pusht's own: the T covers more than 95 % of its target. Demonstrations of
    people seldom reach that (7 of 206), so an Outcome also says `coverage` at the end and `max_coverage`, the best of
    the episode. keypoints: the state is the pusher and the T's corners [18]. instruction: what the policy is told,
    default the profile's. width, height: of the image, px. UsageError without the extra `pusht`.
    """
    simulation = where.simulate(
        "pusht",
        {"width": width, "height": height, "keypoints": keypoints, "max_steps": max_steps,
         "end_on_success": end_on_success},
    )  # fmt: skip
    profile = _profile(width, height, keypoints)
    return SimulatedEnvironment(simulation, spec_of("pusht", profile, simulation.facts, instruction))


def _profile(width: int, height: int, keypoints: bool) -> RobotProfile:
    """The shipped profile with an image of that size; with keypoints, each corner's x and y are read, too."""
    profile = RobotProfile.load("pusht")
    changes: dict[str, object] = {}
    if (width, height) != (profile.cameras[0].width, profile.cameras[0].height):
        changes["cameras"] = [profile.cameras[0].model_copy(update={"width": width, "height": height})]
    if keypoints:
        names = [f"corner_{number}_{axis}" for number in range(_CORNERS) for axis in "xy"]
        read = [Joint(name=name, unit="px", position_limits=None, velocity_limit=None) for name in names]
        changes |= {"joints": [*profile.joints, *read], "action": [joint.name for joint in profile.joints]}
    return profile.model_copy(update=changes)
