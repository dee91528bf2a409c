"""Robot profiles (one YAML file per robot), how a dataset gets its own, and the mapping between both sides' joints."""

from .choose import better_robot, choose_profile, findings_of, unit_doubt
from .mapping import JointLayout, JointMapping, map_joints
from .profile import CameraProfile, CameraRole, Joint, RobotProfile, is_shipped, list_profiles
from .unit_rules import UnitFinding, unit_findings
from .units import Unit

__all__ = [
    "CameraProfile",
    "CameraRole",
    "Joint",
    "JointLayout",
    "JointMapping",
    "RobotProfile",
    "Unit",
    "UnitFinding",
    "better_robot",
    "choose_profile",
    "findings_of",
    "is_shipped",
    "list_profiles",
    "map_joints",
    "unit_doubt",
    "unit_findings",
]
