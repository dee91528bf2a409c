"""Does a dataset fit your robot? python own_robot.py DATASET [PROFILE] [UNIT]

Joints are matched by name or alias, brought into the profile's order and unit, and compared with its limits. UNIT is
that of the dataset, which LeRobot does not store. `smolpilot preflight --dataset DATASET --robot PROFILE` checks more.
"""

import sys
from pathlib import Path

from smolpilot.datasets import open_dataset
from smolpilot.robots import JointLayout, RobotProfile, Unit, map_joints


def main(folder: str, file: str = str(Path(__file__).with_name("own_robot.yaml")), unit: Unit = "rad") -> None:
    profile = RobotProfile.load(file)
    dataset = open_dataset(folder)
    names = tuple(dataset.meta.state_names)
    joints = profile.state_joints
    mapping = map_joints(JointLayout(names, (unit,) * len(names)), joints)
    states = mapping.forward(dataset.states)  # float32 [N, S], the profile's order and units
    for joint, low, high in zip(joints, states.min(axis=0), states.max(axis=0), strict=True):
        lowest, highest = joint.position_limits or (low, high)
        verdict = "within" if lowest <= low and high <= highest else "BEYOND"
        print(f"{joint.name}: {low:.1f} to {high:.1f} {joint.unit}, {verdict} {lowest:.1f} to {highest:.1f}")
    missing = {camera.name for camera in profile.cameras} - set(dataset.meta.camera_names)
    print(f"cameras: {', '.join(sorted(missing))} missing" if missing else "cameras: all there")


if __name__ == "__main__":
    main(*sys.argv[1:])  # type: ignore[arg-type]
