"""What runs beside a robot: setups, drivers, cameras, the governor. Loads no torch."""

from .governed_robot import GovernedRobot
from .governor import Governor, GovernorOptions, Request
from .limits import EffectiveLimits, OperatingLimit, effective_limits
from .opening import make_robot
from .setup.robot_setup import RobotSetup

__all__ = [
    "EffectiveLimits",
    "GovernedRobot",
    "Governor",
    "GovernorOptions",
    "OperatingLimit",
    "Request",
    "RobotSetup",
    "effective_limits",
    "make_robot",
]
