"""smolpilot's engine as a LeRobot policy: importing this registers `--policy.type=smolpilot`."""

from .configuration_smolpilot import SmolpilotConfig

__all__ = ["SmolpilotConfig"]
