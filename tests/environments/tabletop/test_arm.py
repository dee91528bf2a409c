"""The arm: kinematics, limits, servos."""

from __future__ import annotations

import numpy as np
import pytest

from smolpilot.environments.tabletop import arm
from smolpilot.environments.tabletop.env import CAMERAS, IMAGE_SIZE, RATE
from smolpilot.robots import RobotProfile


def test_inverse_kinematics_brings_the_tip_there() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        angle, radius = rng.uniform(-1.0, 1.0), rng.uniform(0.18, 0.36)
        goal = np.array([radius * np.cos(angle), radius * np.sin(angle), rng.uniform(0.02, 0.25)])
        np.testing.assert_allclose(arm.tip_position(arm.inverse(goal)), goal, atol=1e-9)


def test_links_keep_their_length() -> None:
    points = arm.skeleton([0.4, 0.9, -1.2])
    lengths = np.linalg.norm(np.diff(points, axis=0), axis=1)
    np.testing.assert_allclose(lengths, [arm.SHOULDER_HEIGHT, arm.UPPER_ARM, arm.FOREARM])


def test_out_of_reach_stays_within_limits() -> None:
    for goal in ([2.0, 0.0, 0.1], [-0.3, 0.1, 0.1], [0.0, 0.0, 0.12]):
        joints = arm.inverse(goal)
        assert np.isfinite(joints).all()
        np.testing.assert_array_equal(joints, arm.clip_joints(joints))


def test_servos_lag_and_respect_the_velocity_limit() -> None:
    start = arm.inverse([0.25, 0.0, 0.2])
    path = arm.servo_path(start, np.add(start, [1.0, 0.0, 0.0]), 0.1)
    steps = np.diff(np.array([start, *path]), axis=0)
    assert np.abs(steps).max() <= arm.VELOCITY_LIMIT * 0.01 + 1e-12
    assert path[-1][0] == pytest.approx(start[0] + arm.VELOCITY_LIMIT * 0.1)
    near = arm.servo_path(start, np.add(start, [0.05, 0.0, 0.0]), arm.TIME_CONSTANT)[-1]
    assert (near[0] - start[0]) / 0.05 == pytest.approx(1 - np.exp(-1), abs=0.02)  # a first-order lag, not a jump


def test_tip_slides_on_the_table() -> None:
    joints = arm.inverse([0.25, 0.0, 0.03])
    for _ in range(40):
        path = arm.servo_path(joints, [0.5, -0.2, -0.5], 0.1)
        assert min(arm.tip_position(pose)[2] for pose in path) >= arm.TIP_RADIUS - 1e-9
        joints = path[-1]
    assert joints[0] == pytest.approx(0.5, abs=0.01)


def test_robot_profile_says_the_same() -> None:
    profile = RobotProfile.load("tabletop")
    assert tuple(joint.name for joint in profile.joints) == arm.JOINT_NAMES
    assert tuple(joint.position_limits for joint in profile.joints) == arm.POSITION_LIMITS
    assert {joint.unit for joint in profile.joints} == {"rad"}
    assert {joint.velocity_limit for joint in profile.joints} == {arm.VELOCITY_LIMIT}
    assert profile.rate == RATE
    assert tuple(profile.camera_names) == CAMERAS
    assert {(camera.width, camera.height) for camera in profile.cameras} == {(IMAGE_SIZE, IMAGE_SIZE)}
