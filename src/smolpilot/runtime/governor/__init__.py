"""The one gate between what is asked for and the motors."""

from .governor import Governor
from .options import GovernorOptions
from .request import Decision, Phase, Request

__all__ = ["Decision", "Governor", "GovernorOptions", "Phase", "Request"]
