"""What answers on a port: a real bus of emulated servos behind a pty, and ports where nothing can."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from smolpilot.robots import RobotProfile
from smolpilot.runtime.calibration import default_calibration, write_calibration
from smolpilot.runtime.drivers.feetech import registers
from smolpilot.runtime.drivers.feetech.packets import PING, READ
from smolpilot.runtime.emulator.bus import EmulatedBus
from smolpilot.runtime.setup.found_ports import FoundPort, find_ports, known_calibrations


def asked(port: str) -> FoundPort:
    return next(found for found in find_ports([port]) if found.device == port)


def test_the_servos_of_an_arm_say_who_they_are_and_nothing_is_written() -> None:
    with EmulatedBus() as bus:
        found = asked(bus.port)
        asked_for = {entry.request[4] for entry in bus.log}
    assert [servo.id for servo in found.servos] == [1, 2, 3, 4, 5, 6]
    assert {(servo.name, servo.firmware, servo.voltage) for servo in found.servos} == {("STS3215", "3.10", 12.1)}
    assert (found.problem, found.looks_like) == ("", "SO-100 or SO-101")
    assert asked_for == {PING, READ}


def test_other_servos_are_shown_but_are_no_arm() -> None:
    with EmulatedBus({"a": 1, "b": 9}) as bus:
        bus.servo("b").set(registers.MODEL_NUMBER, 2825)
        found = asked(bus.port)
    assert [(servo.id, servo.name) for servo in found.servos] == [(1, "STS3215"), (9, "STS3250")]
    assert found.looks_like == ""


def test_a_port_without_an_answer_says_so_and_what_to_do(tmp_path: Path) -> None:
    with EmulatedBus({"far": 200}) as bus:
        found = asked(bus.port)
    assert (found.servos, found.problem) == ((), "No servo answers.")
    assert "power" in found.fix
    assert "There is no port" in asked(str(tmp_path / "nothing")).problem


def test_a_port_in_use_is_named_as_such() -> None:
    import serial

    with EmulatedBus() as bus, serial.Serial(bus.port, exclusive=True):
        assert "in use" in asked(bus.port).problem


def test_arms_that_lerobot_has_calibrated_are_listed_by_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_LEROBOT_CALIBRATION", str(tmp_path))
    assert known_calibrations() == {"follower": [], "leader": []}
    calibration = default_calibration(RobotProfile.load("so101"))
    for place in ("robots/so_follower/blue", "robots/so101_follower/old", "teleoperators/so_leader/hand"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        write_calibration(tmp_path / f"{place}.json", calibration)
    assert known_calibrations() == {"follower": ["blue", "old"], "leader": ["hand"]}
    assert len(json.loads((tmp_path / "robots/so_follower/blue.json").read_text(encoding="utf-8"))) == 6
