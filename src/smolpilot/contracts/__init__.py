"""What every policy, environment and robot plugs into: protocols and plain dataclasses on numpy. No torch."""

from .action_queue import ActionQueue, check_horizon
from .camera import Camera, CameraSpec, CapturedImage
from .environment import Environment, EnvironmentFactory, EnvironmentSpec, EpisodeInfo, Outcome
from .example import example_observation
from .history import History
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
from .robot import Flag, Robot, RobotSpec, SentAction, Stop, StopCategory
from .run_log import ChunkStep, RunLog, RunLogHeader, RunLogWriter, Tick, read_run_log
from .teleoperator import Teleoperator, TeleoperatorReading, TeleoperatorSpec

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
    "Camera",
    "CameraSpec",
    "CapturedImage",
    "ChunkStep",
    "Embodiment",
    "Environment",
    "EnvironmentFactory",
    "EnvironmentSpec",
    "EpisodeInfo",
    "Flag",
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
    "Robot",
    "RobotSpec",
    "RunLog",
    "RunLogHeader",
    "RunLogWriter",
    "SentAction",
    "Stop",
    "StopCategory",
    "Teleoperator",
    "TeleoperatorReading",
    "TeleoperatorSpec",
    "Tick",
    "TimedPolicy",
    "TokenizedPolicy",
    "TwoStagePolicy",
    "UntrainedInstructionWarning",
    "check_horizon",
    "example_observation",
    "make_observation",
    "read_run_log",
]
