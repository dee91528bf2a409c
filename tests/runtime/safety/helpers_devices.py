"""Faults of devices that are half there: promises 5, 7 and 9 of docs/safety.md, tried on what a servo says."""

from __future__ import annotations

import dataclasses

import numpy as np

from smolpilot.common.errors import DeviceError
from smolpilot.contracts import Flag, StopCategory
from smolpilot.runtime.drivers.feetech import registers as reg
from smolpilot.runtime.governor import GovernorOptions, Request

from .helpers_case import away, case, stays, stopped
from .helpers_rig import ELBOW, GRIPPER, HOME, LIFT, PAN, Rig


@case(5, "readings without a time, with one that is still to come")
def odd_times() -> int:
    for time in (np.nan, np.inf, 1e9, -np.inf):
        with Rig() as rig:
            rig.reach(HOME)
            assert rig.robot.reading is not None
            odd = dataclasses.replace(rig.robot.reading, read_at=time)
            made = rig.robot.governor.tick(rig.now, Request(HOME + 1, rig.now), odd)
            assert made.stop is not None
            assert Flag.STALE_STATE in made.flags
            stays(rig)
    return 4


@case(7, "heat and a stall of a servo that answers now and then")
def flickering() -> int:
    with Rig() as rig:
        rig.reach(HOME)
        rig.bus.servos["elbow_flex"].temperature = 68.0
        made = rig.tick(HOME)
        for i in range(8):
            rig.bus.faults.silent = {"elbow_flex"} if i % 2 else set()
            made = rig.tick(HOME)
        assert made.flags.get(Flag.TEMPERATURE) == ("elbow_flex",) or made.stop is not None
        stopped(made, "'elbow_flex' is at 68")
    with Rig() as rig:
        rig.reach(HOME)
        rig.plant.block("elbow_flex", rig.arm.scales[ELBOW].steps(0.5))
        for i in range(60):
            rig.bus.faults.silent = {"elbow_flex"} if i % 4 == 3 else set()
            made = rig.tick(away(0, 0, min(20.0, i), 0, 0, 0))
        stopped(made, "'elbow_flex' pushes")
    return 2


@case(7, "a joint that gives way under a weight")
def under_a_weight() -> int:
    """It gives way once, and does not sink with every reading."""
    with Rig(gravity={"elbow_flex": -0.15}) as rig:
        rig.run(HOME, 60)
        rig.plant.block("elbow_flex", rig.arm.scales[ELBOW].steps(0.5))
        for i in range(60):
            rig.tick(away(0, 0, min(20.0, i), 0, 0, 0))
        stopped(rig.run(None, 60), "'elbow_flex' pushes")
        assert rig.robot.governor.at_rest
        rested = rig.positions()[ELBOW]
        before = len(rig.bus.log)
        rig.run(None, 120)
        assert not rig.goal_writes(before)
        assert abs(rig.positions()[ELBOW] - rested) < 0.2, "it sinks"
        rig.check_bytes()
    return 1


@case(7, "a gripper whose lower force is not acknowledged, or that closes on something under a stop")
def deaf_gripper() -> int:
    with Rig() as rig:
        rig.reach(HOME)
        rig.plant.block("gripper", rig.arm.scales[GRIPPER].steps(30.0))
        limit, tries = rig.arm.set_torque_limit, 0

        def unheard(joint: str, share: float) -> None:
            nonlocal tries
            tries += 1
            if tries < 3:
                raise DeviceError("no acknowledgement")
            limit(joint, share)

        rig.arm.set_torque_limit = unheard  # type: ignore[method-assign]
        for i in range(60):
            rig.tick(away(0, 0, 0, 0, 0, -min(45.0, 1.5 * i)))
        assert rig.sent[-1].stop is None
        assert rig.bus.servos["gripper"].get(reg.TORQUE_LIMIT) == 250
    with Rig(options=GovernorOptions(stall_time=1.2)) as rig:
        rig.reach(HOME)
        rig.plant.block("gripper", rig.arm.scales[GRIPPER].steps(30.0))
        for i in range(30):
            rig.tick(away(0, 0, 0, 0, 0, -min(45.0, 1.5 * i)))
        rig.robot.stop(StopCategory.HOLD)
        rig.run(None, 90)
        assert rig.bus.servos["gripper"].get(reg.TORQUE_LIMIT) == 250
        rig.plant.unblock("gripper")
        rig.run(None, 30)
        assert rig.bus.servos["gripper"].get(reg.TORQUE_LIMIT) == 250, "it gained force under a stop"
    return 2


@case(9, "a servo that comes back after a moment without power, or after a long silence")
def comes_back() -> int:
    with Rig(gravity={"shoulder_lift": 0.2}) as rig:  # one reading missed, and it has lost its power
        rig.reach(HOME)
        rig.bus.faults.silent.add("shoulder_lift")
        rig.bus.power_cycle("shoulder_lift")
        rig.tick(HOME)
        rig.bus.faults.silent.clear()
        before = len(rig.bus.log)
        stopped(rig.run(HOME, 6), "'shoulder_lift'", "lost power")
        ids = {servo for _, values in rig.writes_of(reg.GOAL_POSITION, before) for servo in values}
        assert rig.bus.servos["shoulder_lift"].id not in ids
        assert rig.positions()[LIFT] > 5
    with Rig() as rig:  # the arm brakes meanwhile: the goal has gone on, the joint has not
        rig.reach(HOME)
        rig.run(away(80, 0, 0, 0, 0, 0), 14)
        rig.bus.faults.silent.add("shoulder_pan")
        rig.run(away(80, 0, 0, 0, 0, 0), 9)
        assert not rig.robot.governor.at_rest
        here, before = rig.positions()[PAN], len(rig.bus.log)
        rig.bus.faults.silent.clear()
        rig.run(away(80, 0, 0, 0, 0, 0), 20)
        assert abs(rig.positions()[PAN] - here) < 0.2, "it jumped to the goal"
        ids = {servo for _, values in rig.writes_of(reg.GOAL_POSITION, before) for servo in values}
        assert rig.bus.servos["shoulder_pan"].id not in ids
        rig.robot.rearm()
        rig.reach(HOME)
    return 2
