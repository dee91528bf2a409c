"""PushT (gym-pusht): a round pusher moves a T-shaped block onto its target; pixels, two dimensions."""

from __future__ import annotations

import functools
import os

from smolpilot.common.errors import UsageError
from smolpilot.contracts import Environment, EnvironmentSpec
from smolpilot.robots import RobotProfile

from .gymnasium import GymnasiumEnvironment, Wiring, open_gymnasium, quiet

MAX_STEPS = 300
_WIRING = Wiring(
    state="agent_pos",
    images={"image": "pixels"},
    success="is_success",
    facts={"coverage": "coverage"},
    peaks={"max_coverage": "coverage"},
)


def make_pusht(instruction: str | None = None, max_steps: int = MAX_STEPS) -> Environment:
    """PushT-v0 of gym-pusht: the image [96, 96, 3] from above and where the pusher is [2] in px; an action [2] is where
    it shall go, at 10 Hz.

    Success, which ends an episode, is gym-pusht's own: the T covers more than 95 % of its target. Demonstrations of
    people seldom reach that, so an Outcome also says `coverage` at the end and `max_coverage`, the best of the episode.
    instruction: what the policy is told, default the profile's. UsageError without the extra `pusht`.
    """
    if max_steps < 1:
        raise UsageError(f"Setting 'max_steps' of the environment 'pusht' is {max_steps}.", expected="at least 1")
    profile = _profile()
    _import()
    size = {"observation_width": profile.cameras[0].width, "observation_height": profile.cameras[0].height}
    env = open_gymnasium("gym_pusht/PushT-v0", max_steps, {"obs_type": "pixels_agent_pos", **size})
    spec = EnvironmentSpec(
        name="pusht",
        profile=profile,
        rate=profile.rate,
        goal="the T covers more than 95 % of its target",
        max_steps=max_steps,
        instructions=(instruction or str(profile.default_instruction),),
        labels={"timeout": "ran out of time"},
    )
    return GymnasiumEnvironment(env, spec, _WIRING)


@functools.cache
def _profile() -> RobotProfile:
    return RobotProfile.load("pusht")


def _import() -> None:
    # pygame draws into memory here; without a display it must not look for one, and need not greet.
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        with quiet():
            import gym_pusht  # noqa: F401  (registers the environment)
    except ImportError as error:
        raise UsageError(
            f"The environment 'pusht' needs gym-pusht, which cannot be imported: {error}.",
            fix="install the extra: pip install 'smolpilot[pusht]'",
        ) from error
