"""Robot profiles (one YAML file per robot) and the mapping between a dataset's joints and a profile's."""

from .mapping import JointLayout, JointMapping, map_joints
from .profile import Camera, CameraRole, Joint, RobotProfile, Unit, list_profiles

__all__ = [
    "Camera",
    "CameraRole",
    "Joint",
    "JointLayout",
    "JointMapping",
    "RobotProfile",
    "Unit",
    "list_profiles",
    "map_joints",
]
