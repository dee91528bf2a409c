"""What every policy, environment and robot plugs into: protocols and plain dataclasses on numpy. No torch."""

from .action_queue import ActionQueue, check_horizon
from .environment import Environment, EnvironmentFactory, EnvironmentSpec, EpisodeInfo, Outcome
from .history import History
from .made_up import made_up_observation
from .observation import CAPTURED_AT, HISTORY, Image, Observation, make_observation
from .policy import (
    GUIDED,
    RANDOM,
    TIMED,
    TOKENS,
    TWO_STAGE,
    Embodiment,
    Leftover,
    Policy,
    PolicyFactory,
    PolicyFacts,
    PolicyOptions,
    PolicySpec,
    TimedPolicy,
    TokenizedPolicy,
    TwoStagePolicy,
    UntrainedInstructionWarning,
)
from .registry import CAMERAS, ENVIRONMENTS, POLICIES, REGISTRIES, ROBOTS, TELEOPERATORS, Plugin, Registry

__all__ = [
    "CAMERAS",
    "CAPTURED_AT",
    "ENVIRONMENTS",
    "GUIDED",
    "HISTORY",
    "POLICIES",
    "RANDOM",
    "REGISTRIES",
    "ROBOTS",
    "TELEOPERATORS",
    "TIMED",
    "TOKENS",
    "TWO_STAGE",
    "ActionQueue",
    "Embodiment",
    "Environment",
    "EnvironmentFactory",
    "EnvironmentSpec",
    "EpisodeInfo",
    "History",
    "Image",
    "Leftover",
    "Observation",
    "Outcome",
    "Plugin",
    "Policy",
    "PolicyFactory",
    "PolicyFacts",
    "PolicyOptions",
    "PolicySpec",
    "Registry",
    "TimedPolicy",
    "TokenizedPolicy",
    "TwoStagePolicy",
    "UntrainedInstructionWarning",
    "check_horizon",
    "made_up_observation",
    "make_observation",
]
