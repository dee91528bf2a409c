"""The tabletop's arm: kinematics, limits and servos. Lengths in m, angles in rad, times in s.

Three revolute joints, as on the first half of an SO-101: `shoulder_pan` turns about the vertical, `shoulder_lift`
is the upper arm's angle above the horizon, `elbow_flex` the forearm's angle against the upper arm (negative:
bent down). The world's x points away from the base, y to the left, z up; the table is z = 0.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

JOINT_NAMES = ("shoulder_pan", "shoulder_lift", "elbow_flex")
POSITION_LIMITS = ((-1.4, 1.4), (-0.2, 1.9), (-2.6, -0.1))
VELOCITY_LIMIT = 0.6  # rad/s, each joint
SHOULDER_HEIGHT, UPPER_ARM, FOREARM = 0.12, 0.22, 0.25
TIP_RADIUS = 0.012
TIME_CONSTANT = 0.5  # of the first-order servos
_SUBSTEP = 0.01
_LOW = np.array([low for low, _ in POSITION_LIMITS])
_HIGH = np.array([high for _, high in POSITION_LIMITS])


def skeleton(joints: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Base, shoulder, elbow and tip `[4, 3]` for the joint angles `[3]`."""
    pan, lift, elbow = (float(value) for value in np.asarray(joints, dtype=np.float64))
    elbow_radius = UPPER_ARM * math.cos(lift)
    elbow_height = SHOULDER_HEIGHT + UPPER_ARM * math.sin(lift)
    tip_radius = elbow_radius + FOREARM * math.cos(lift + elbow)
    tip_height = elbow_height + FOREARM * math.sin(lift + elbow)
    cos, sin = math.cos(pan), math.sin(pan)
    return np.array(
        [
            [0.0, 0.0, 0.0],
            [0.0, 0.0, SHOULDER_HEIGHT],
            [elbow_radius * cos, elbow_radius * sin, elbow_height],
            [tip_radius * cos, tip_radius * sin, tip_height],
        ]
    )


def tip_position(joints: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The tip `[3]` for the joint angles `[3]`."""
    tip: npt.NDArray[np.float64] = skeleton(joints)[3]
    return tip


def inverse(tip: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Joint angles `[3]`, elbow up, that bring the tip to `tip` `[3]`, or as near as reach and limits allow."""
    x, y, z = (float(value) for value in np.asarray(tip, dtype=np.float64))
    radius, height = math.hypot(x, y), z - SHOULDER_HEIGHT
    distance = math.hypot(radius, height)
    cos_elbow = (distance**2 - UPPER_ARM**2 - FOREARM**2) / (2 * UPPER_ARM * FOREARM)
    elbow = -math.acos(min(1.0, max(-1.0, cos_elbow)))
    lift = math.atan2(height, radius) - math.atan2(FOREARM * math.sin(elbow), UPPER_ARM + FOREARM * math.cos(elbow))
    return clip_joints([math.atan2(y, x), lift, elbow])


def clip_joints(joints: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The joint angles `[3]` inside the position limits."""
    return np.clip(np.asarray(joints, dtype=np.float64), _LOW, _HIGH)


def servo_path(joints: npt.ArrayLike, target: npt.ArrayLike, duration: float) -> list[npt.NDArray[np.float64]]:
    """Joint angles every 10 ms while the servos pull from `joints` towards `target` for `duration`.

    First-order lag with a velocity limit; the tip slides on the table instead of going through it.
    """
    here, goal = np.asarray(joints, dtype=np.float64), clip_joints(target)
    path = []
    for _ in range(round(duration / _SUBSTEP)):
        velocity = np.clip((goal - here) / TIME_CONSTANT, -VELOCITY_LIMIT, VELOCITY_LIMIT)
        here = _above_table(here + velocity * _SUBSTEP)
        path.append(here)
    return path


def _above_table(joints: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    tip = tip_position(joints)
    if tip[2] >= TIP_RADIUS:
        return joints
    lifted = inverse([tip[0], tip[1], TIP_RADIUS])
    return np.array([joints[0], lifted[1], lifted[2]])
