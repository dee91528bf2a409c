"""`move` from beginning to end: where torque goes off, and where it never goes on."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from smolpilot.common.errors import DeviceError
from smolpilot.runtime import drive
from smolpilot.runtime.control_loop import run_loop
from smolpilot.runtime.governor import GovernorOptions
from smolpilot.runtime.limits import OperatingLimit

from .safety.helpers_rig import JOINTS, LIFT, TICK, Rig

LOOSE = {name: OperatingLimit(velocity=60.0, acceleration=200.0, tracking_error=40.0) for name in JOINTS}


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Not connected, with limits so loose that a joint that does not follow is no reason to stop."""
    with Rig(limits=LOOSE, options=GovernorOptions(stall_time=30.0), connect=False) as rig:

        def in_its_time(*args: Any, **options: Any) -> Any:
            return run_loop(*args, **(options | {"clock": rig.clock, "sleep": rig.sleep}))

        monkeypatch.setattr(drive, "run_loop", in_its_time)
        rig.now += TICK
        yield rig


def torque(rig: Rig) -> set[bool]:
    return {servo.torque for servo in rig.bus.servos.values()}


def test_torque_goes_off_where_the_arm_has_arrived(rig: Rig) -> None:
    report = drive.move(rig.robot, {"shoulder_lift": 20.0}, share=1.0, release=True)
    assert (report.stop, report.missed, report.released) == (None, (), True)
    assert torque(rig) == {False}


def test_torque_stays_on_where_it_has_not(rig: Rig) -> None:
    rig.plant.block("shoulder_lift", rig.arm.scales[LIFT].steps(5.0))
    report = drive.move(rig.robot, {"shoulder_lift": 20.0, "elbow_flex": 5.0}, share=1.0, release=True)
    assert report.stop == "'shoulder_lift' did not arrive: torque stays on."
    assert (report.missed, report.released) == (("shoulder_lift",), False)
    assert torque(rig) == {True}


def test_without_release_a_joint_that_did_not_arrive_is_named(rig: Rig) -> None:
    rig.plant.block("shoulder_lift", rig.arm.scales[LIFT].steps(5.0))
    report = drive.move(rig.robot, {"shoulder_lift": 20.0}, share=1.0)
    assert (report.stop, report.missed) == (None, ("shoulder_lift",))
    assert report.document()["missed"] == ("shoulder_lift",)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_torque_leaves_it_off(rig: Rig, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    connect = rig.arm.connect

    def interrupted() -> None:
        connect()
        os.kill(os.getpid(), number)

    monkeypatch.setattr(rig.arm, "connect", interrupted)
    with pytest.raises(DeviceError, match=r"Nothing was moved, and torque is as it was\."):
        drive.move(rig.robot, {"shoulder_lift": 20.0}, share=1.0)
    assert torque(rig) == {False}
    assert not rig.goal_writes()


def test_a_signal_while_torque_goes_on_moves_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    engage = rig.arm.engage

    def interrupted() -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return engage()

    monkeypatch.setattr(rig.arm, "engage", interrupted)
    report = drive.move(rig.robot, {"shoulder_lift": 20.0}, share=1.0, release=True)
    assert (report.stop, report.released) == ("Ctrl-C was pressed.", False)
    assert abs(rig.positions()[LIFT]) < 0.2
    assert torque(rig) == {True}
