"""The arm for everybody: the driver of real ones on servos in a process of its own."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smolpilot.common.errors import DeviceError, DeviceGoneError, UsageError
from smolpilot.contracts.driver import Driver
from smolpilot.contracts.registry import ROBOTS
from smolpilot.robots import RobotProfile
from smolpilot.runtime.cameras.environment import EnvironmentCamera, EnvironmentCameraOptions
from smolpilot.runtime.drivers.emulated import EmulatedArm, EmulatedArmOptions

SO101, TABLETOP = RobotProfile.load("so101"), RobotProfile.load("tabletop")


def arm_of(profile: RobotProfile = SO101, **options: Any) -> EmulatedArm:
    return EmulatedArm.from_options(profile, EmulatedArmOptions(**options))


def test_it_is_a_driver_that_reads_moves_and_leaves_nothing_behind() -> None:
    arm = arm_of(start={"elbow_flex": 20.0})
    assert isinstance(arm, Driver)
    assert ROBOTS.get("emulated") is EmulatedArm
    arm.connect()
    process = arm.process
    assert process is not None
    try:
        np.testing.assert_allclose(arm.read().position, [0, 0, 20, 0, 0, 50], atol=0.05)
        goals = arm.engage()
        goals[0] = 10.0
        arm.write(goals)
        end = time.monotonic() + 20
        while abs(arm.read().position[0] - 10.0) > 0.2:
            assert time.monotonic() < end
    finally:
        arm.disconnect()
    arm.disconnect()
    assert process.returncode == 0
    assert arm.process is None
    assert not arm.frames.parent.exists()
    with pytest.raises(DeviceError, match="not connected"):
        arm.read()


def test_a_killed_emulator_is_a_cable_pulled_out_and_the_next_connect_makes_another() -> None:
    arm = arm_of()
    arm.connect()
    assert arm.process is not None
    arm.process.kill()
    arm.process.wait(30)
    with pytest.raises(DeviceGoneError, match=str(arm.frames.parent)):
        arm.read()
    arm.disconnect()
    assert not arm.frames.parent.exists()
    arm.connect()
    assert np.isfinite(arm.read().position).all()
    arm.disconnect()


def test_it_can_be_asked_before_it_is_connected() -> None:
    arm = arm_of(calibrated=False)
    details = arm.details()
    assert [one.model for one in details] == [777] * 6
    assert arm.process is None
    with pytest.raises(DeviceError, match="calibrat"):
        arm.connect()
    assert arm.process is None
    assert not arm.frames.parent.exists()


def test_what_the_emulator_refuses_is_said_as_by_the_emulator() -> None:
    arm = arm_of(plant="clay")
    with pytest.raises(UsageError, match="There is no plant 'clay'"):
        arm.connect()
    assert not arm.frames.parent.exists()


def test_a_process_that_does_not_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(DeviceError, match="ended at once, with exit code 1"):
        arm_of().connect()


def test_the_tabletops_arm_is_seen_by_its_cameras() -> None:
    arm = arm_of(TABLETOP, plant="environment:tabletop")
    camera = EnvironmentCamera.from_options("top", EnvironmentCameraOptions(width=64, height=64, fps=10.0))
    arm.connect()
    try:
        assert Path(arm.frames).is_dir()
        camera.frames = arm.frames
        camera.connect()
        before, end = camera.latest(), time.monotonic() + 20
        goals = arm.engage()
        arm.write(goals + np.array([0.4, 0.0, 0.0]))
        while (camera.latest().image != before.image).mean() < 0.01:
            assert time.monotonic() < end
            time.sleep(0.01)
        assert camera.latest().age(time.monotonic()) < 5
    finally:
        camera.disconnect()
        arm.disconnect()
    assert not arm.frames.exists()
