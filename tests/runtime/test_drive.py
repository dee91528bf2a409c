"""One motion from beginning to end: what is reported, what is refused before anything moves, and how it is closed."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import numpy as np
import pytest

from smolpilot.common.errors import DeviceError, UsageError
from smolpilot.contracts import SentAction
from smolpilot.runtime.drive import MoveReport, move
from smolpilot.runtime.drivers.feetech import registers as reg
from smolpilot.runtime.limits import OperatingLimit

from .safety.helpers_rig import ELBOW, JOINTS, PAN, SPEEDS, TICK, Rig


def moved(rig: Rig, targets: dict[str, float], *, share: float = 1.0, **options: Any) -> MoveReport:
    """The motion, in the rig's time."""
    try:
        return move(rig.robot, targets, share=share, clock=rig.clock, sleep=rig.sleep, **options)
    finally:
        rig.settle()


def torques(rig: Rig) -> list[bool]:
    return [rig.bus.servos[name].torque for name in JOINTS]


def test_an_arm_arrives_holds_its_pose_and_is_closed() -> None:
    with Rig(connect=False) as rig:
        announced: list[float] = []
        report = moved(rig, {"shoulder_pan": 30.0, "elbow_flex": -20.0}, begin=announced.append)
        assert (report.stop, report.released, dict(report.clamped)) == (None, False, {})
        assert announced[0] == pytest.approx(report.ticks * TICK, rel=0.5)
        pan, elbow = report.joints[PAN], report.joints[ELBOW]
        assert (pan.joint, pan.unit, pan.target, pan.commanded) == ("shoulder_pan", "deg", 30.0, 30.0)
        assert (elbow.target, elbow.commanded) == (-20.0, -20.0)
        assert pan.start == pytest.approx(0.0, abs=0.1)
        assert pan.measured == pytest.approx(30.0, abs=0.02 * 220)
        others = [one for i, one in enumerate(report.joints) if i not in (PAN, ELBOW)]
        assert all(one.start == one.target == one.commanded for one in others)
        assert not rig.arm.bus.is_open
        rig.now += 1.0
        np.testing.assert_allclose(rig.positions()[[PAN, ELBOW]], [30, -20], atol=0.5)
        assert all(torques(rig))


def test_a_share_of_the_limits_makes_it_slower() -> None:
    fastest = []
    for share in (1.0, 0.25):
        with Rig(connect=False) as rig:
            moved(rig, {"shoulder_pan": 30.0}, share=share)
            fastest.append(np.abs(np.diff(rig.goals()[:, PAN])).max() / TICK)
    assert fastest[0] == pytest.approx(60.0, rel=0.06)
    assert fastest[1] == pytest.approx(15.0, rel=0.2)


def test_the_report_is_json() -> None:
    with Rig(connect=False) as rig:
        document = json.loads(json.dumps(moved(rig, {"gripper": 40.0}).document()))
    assert document.keys() == {"joints", "ticks", "stop", "missed", "clamped", "released"}
    assert [one["joint"] for one in document["joints"]] == list(JOINTS)
    assert document["joints"][-1]["target"] == 40.0


@pytest.mark.parametrize(
    ("targets", "words"),
    [({}, "Nothing is to be moved"), ({"shoulder_pan": 111.0}, "'shoulder_pan' cannot go to 111 deg")],
)
def test_what_cannot_be_is_refused_before_anything_moves_or_is_held(targets: dict[str, float], words: str) -> None:
    with Rig(connect=False) as rig:
        with pytest.raises(UsageError, match=words):
            moved(rig, targets)
        assert not rig.goal_writes()
        assert not any(torques(rig))
        assert not rig.arm.bus.is_open


def test_torque_goes_off_where_the_arm_has_arrived_when_that_is_asked_for() -> None:
    with Rig(connect=False) as rig:
        report = moved(rig, {"shoulder_pan": 10.0}, release=True)
        assert (report.stop, report.released) == (None, True)
        assert report.joints[PAN].measured == pytest.approx(10.0, abs=0.02 * 220)
        assert not any(torques(rig))
        off = rig.writes_of(reg.TORQUE_ENABLE)[-1][0]
        assert not rig.goal_writes(off)


def test_a_cable_that_is_pulled_before_torque_is_off_is_told() -> None:
    with Rig(connect=False) as rig:
        release = rig.arm.release

        def pulled() -> None:
            rig.bus.unplug()
            release()

        rig.arm.release = pulled  # type: ignore[method-assign]

        report = moved(rig, {"shoulder_pan": 10.0}, release=True)
        assert report.stop == "The arm is gone: torque could not be switched off."
        assert not report.released
        assert all(torques(rig))


def test_torque_stays_on_when_the_arm_was_stopped_on_the_way() -> None:
    limits = {**SPEEDS, "shoulder_pan": OperatingLimit(velocity=60.0, acceleration=200.0, tracking_error=4.0)}
    with Rig(limits=limits, connect=False) as rig:
        rig.plant.block("shoulder_pan", rig.arm.scales[PAN].steps(5.0))
        report = moved(rig, {"shoulder_pan": 60.0}, release=True)
        assert report.stop is not None
        assert report.stop.startswith("'shoulder_pan' is at 5.0 deg")
        assert not report.released
        assert report.joints[PAN].measured == pytest.approx(5.0, abs=0.5)
        assert abs(report.joints[PAN].commanded - 5.0) < 1.0, "it does not push any more"
        assert all(torques(rig))


def test_a_signal_on_the_way_is_the_reason() -> None:
    with Rig(connect=False) as rig:
        sent: list[SentAction] = []

        def on_tick(made: SentAction) -> None:
            sent.append(made)
            if len(sent) == 25:
                os.kill(os.getpid(), signal.SIGINT)

        report = moved(rig, {"shoulder_pan": 60.0}, on_tick=on_tick)
        assert report.stop == "Ctrl-C was pressed."
        assert 5 < report.joints[PAN].commanded < 50
        assert report.ticks == len(sent)
        assert all(torques(rig))


def test_a_signal_while_it_connects_leaves_torque_as_it_was() -> None:
    with Rig(connect=False) as rig:
        opened = rig.robot.open

        def interrupted() -> None:
            opened()
            os.kill(os.getpid(), signal.SIGINT)

        rig.robot.open = interrupted  # type: ignore[method-assign]
        with pytest.raises(DeviceError, match=r"Ctrl-C was pressed\. Nothing was moved, and torque is as it was"):
            moved(rig, {"shoulder_pan": 60.0})
        assert not rig.goal_writes()
        assert not any(torques(rig))
        assert not rig.arm.bus.is_open


def test_a_servo_that_falls_silent_has_no_measurement_in_the_report() -> None:
    with Rig(connect=False) as rig:
        report = moved(rig, {"shoulder_pan": 60.0}, on_tick=lambda sent: rig.bus.faults.silent.add("elbow_flex"))
        assert report.stop == "No answer from the servo of 'elbow_flex'."
        assert report.joints[ELBOW].measured is None
        assert report.joints[PAN].measured is not None


def test_an_arm_that_cannot_be_held_is_closed() -> None:
    with Rig(connect=False) as rig:
        rig.plant.place("elbow_flex", 100)
        rig.now += TICK
        with pytest.raises(DeviceError, match="'elbow_flex' stands at"):
            moved(rig, {"shoulder_pan": 10.0})
        assert not rig.arm.bus.is_open
        assert not any(torques(rig))


def test_clamped_ticks_are_counted_by_joint() -> None:
    with Rig(connect=False) as rig:
        engage = rig.robot.engage

        def held() -> None:
            engage()
            rig.robot.governor.counts.update({("velocity", "shoulder_pan"): 2, ("position", "shoulder_pan"): 1,
                                              ("starved", ""): 3, ("stall", "gripper"): 4})  # fmt: skip

        rig.robot.engage = held  # type: ignore[method-assign]
        assert moved(rig, {"shoulder_pan": 1.0}).clamped == {"shoulder_pan": 3}
