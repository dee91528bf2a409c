"""Cameras, teleoperators and robots: what the contracts promise, on small devices that know nothing of smolpilot's."""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smolpilot.common.errors import DeviceError, UsageError
from smolpilot.contracts.camera import Camera, CameraSpec, CapturedImage
from smolpilot.contracts.robot import Flag, Robot, SentAction, Stop, StopCategory
from smolpilot.contracts.run_log import RunLogHeader, RunLogWriter, Tick, read_run_log
from smolpilot.contracts.teleoperator import Teleoperator, TeleoperatorReading

from .helpers_devices import GrayCamera, LaggingArm, WavingHand, check_camera, check_robot, check_teleoperator


class Clock:
    """Time that a test lets pass."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_the_examples_keep_the_contracts(clock: Clock) -> None:
    check_camera(GrayCamera("front", clock), clock)
    check_teleoperator(WavingHand(clock), clock)
    check_robot(LaggingArm(clock), clock)


def test_what_lacks_a_verb_is_no_device(clock: Clock) -> None:
    for device, contract in ((GrayCamera("a", clock), Robot), (LaggingArm(clock), Camera), (object(), Teleoperator)):
        assert not isinstance(device, contract)


def test_a_camera_gives_what_it_has_and_says_how_old_it_is(clock: Clock) -> None:
    camera = GrayCamera("front", clock)
    camera.connect()
    clock.now = 100.09
    found = camera.latest()
    assert found.captured_at == 100.0
    assert found.age(clock()) == pytest.approx(0.09)
    clock.now = 100.31
    assert camera.latest().captured_at == pytest.approx(100.3)


def test_a_robot_breaking_its_contract_is_found_by_the_check(clock: Clock) -> None:
    class Reckless(LaggingArm):
        """Sends whatever it is given."""

        def command(self, action: Any) -> SentAction:
            if not self._connected:
                raise DeviceError("The arm is not connected.")
            return SentAction(action, action, self._clock())

    with pytest.raises(DeviceError, match=r"commanded is \[nan, nan\]\.\nExpected: finite numbers"):
        check_robot(Reckless(clock), clock)

    class Unstoppable(LaggingArm):
        def stop(self, category: StopCategory) -> None:
            pass

    with pytest.raises(AssertionError) as caught:
        check_robot(Unstoppable(clock), clock)
    assert str(caught.traceback[-1].statement).strip() == "assert held.stop is not None"


def test_an_arm_is_driven_and_logged_through_the_contracts_alone(clock: Clock, tmp_path: Path) -> None:
    robot: Robot = LaggingArm(clock)
    hand: Teleoperator = WavingHand(clock)
    robot.connect()
    hand.connect()
    spec = robot.spec
    header = RunLogHeader(
        robot=spec.name, joints=spec.action_names, units=spec.action_units, rate=spec.rate,
        started_at=datetime.datetime.now(datetime.UTC), started_monotonic=clock(),
        cameras=tuple(camera.name for camera in spec.cameras),
    )  # fmt: skip
    with RunLogWriter(tmp_path / "run.jsonl", header, clock=clock) as log:
        for number in range(60):
            observation, reading = robot.observe(), hand.read()
            clock.now += 0.004
            action = np.array([reading.action[name] for name in spec.action_names], np.float32)
            if number == 50:
                robot.stop(StopCategory.HOLD)
            sent = robot.command(action * (10 if number == 40 else 1))
            log.write(Tick(number, sent, observation["captured_at"], "teleoperator"))
            clock.now += 1 / spec.rate - 0.004
    found = read_run_log(tmp_path / "run.jsonl")
    assert found.header == header
    assert found.flag_counts() == {Flag.POSITION: {"pan": 1, "grip": 1}, Flag.STOPPED: {"": 10}}
    assert found.ticks[49].sent.stop is None
    assert found.ticks[50].sent.stop == Stop(StopCategory.HOLD, "it was asked for")
    assert (found.commanded[50:] == found.commanded[50]).all()
    assert found.commanded[40].tolist() == [90.0, 100.0]
    # It follows with the lag of its joints: a tick of 50 ms closes 1 - 0.1^(1/6) of the way.
    pan, wanted = found.measured[:, 0], found.commanded[:, 0]
    way = (pan[11:30] - pan[10:29]) / (wanted[10:29] - pan[10:29])
    np.testing.assert_allclose(way, 1 - 0.1 ** (0.05 / 0.3), atol=1e-3)
    assert max(tick.observation_age or 0.0 for tick in found.ticks) < 0.11


def test_what_a_command_says_can_no_longer_be_changed() -> None:
    action = np.array([1.0, 2.0])
    sent = SentAction(action, action, 1.0, None, {Flag.POSITION: ["pan"]})  # type: ignore[dict-item]
    action[0] = 9
    assert sent.requested.tolist() == sent.commanded.tolist() == [1.0, 2.0]
    assert sent.requested.dtype == np.float32
    assert sent.flags == {"position": ("pan",)}
    with pytest.raises(ValueError, match="read-only"):
        sent.commanded[0] = 3.0
    with pytest.raises(dataclasses.FrozenInstanceError, match="sent_at"):
        sent.sent_at = 2.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"commanded": [1.0, math.inf]}, r"commanded is \[1\.0, inf\]"),
        ({"commanded": [1.0, 1e39]}, r"commanded is \[1\.0, inf\]"),
        ({"commanded": [[1.0, 2.0]]}, r"commanded has the shape \[1, 2\]"),
        ({"commanded": ["fast", 1.0]}, r"commanded is \['fast', 1\.0\]"),
        ({"requested": [1.0]}, "requested has 1 values, commanded 2"),
        ({"measured": [1.0]}, "measured has 1 values, commanded 2"),
        ({"sent_at": math.nan}, "sent_at is nan"),
        ({"flags": {"Too fast": ()}}, "flag 'Too fast'"),
    ],
)
def test_a_command_that_cannot_have_been_is_refused(change: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {"requested": [math.nan, 1.0], "commanded": [0.0, 1.0], "sent_at": 1.0}
    assert SentAction(**good).commanded.tolist() == [0.0, 1.0]
    with pytest.raises(DeviceError, match=message):
        SentAction(**{**good, **change})


@pytest.mark.parametrize(
    ("image", "at", "message"),
    [
        (np.zeros((4, 4), np.uint8), 1.0, r"uint8 \[4, 4\]"),
        (np.zeros((4, 4, 4), np.uint8), 1.0, r"uint8 \[4, 4, 4\]"),
        (np.zeros((1, 4, 4, 3), np.uint8), 1.0, r"uint8 \[1, 4, 4, 3\]"),
        (np.zeros((4, 4, 3), np.float32), 1.0, r"float32 \[4, 4, 3\]"),
        (None, 1.0, "gave NoneType"),
        (np.zeros((4, 4, 3), np.uint8), math.nan, "taken at nan"),
    ],
)
def test_what_is_no_image_is_refused(image: Any, at: float, message: str) -> None:
    with pytest.raises(DeviceError, match=message):
        CapturedImage(image, at)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (("", 4, 4, 30.0), "no name"),
        (("front", 0, 4, 30.0), "4x0 pixels"),
        (("front", 4, 4, 0.0), "at 0.0 fps"),
        (("front", 4, 4, math.nan), "at nan fps"),
    ],
)
def test_a_camera_of_nothing_is_refused(values: tuple[str, int, int, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        CameraSpec(*values)


def test_a_reading_of_nan_is_refused() -> None:
    assert TeleoperatorReading({"pan": 1.0}, 2.0).age(2.5) == 0.5
    with pytest.raises(DeviceError, match="nan for joint 'pan'"):
        TeleoperatorReading({"pan": math.nan}, 2.0)
    with pytest.raises(DeviceError, match="is said to be of inf"):
        TeleoperatorReading({"pan": 1.0}, math.inf)


def test_a_reason_is_one_printable_line() -> None:
    assert Stop(StopCategory.HOLD, "two\nlines \udc80").reason == "two\\nlines \\udc80"


def test_the_contracts_load_nothing_heavy() -> None:
    """A control process needs them, and no torch; pydantic only when a log is read."""
    heavy = ["torch", "lerobot", "pydantic", "av", "pyarrow", "matplotlib", "yaml", "psutil", "gymnasium"]
    code = (
        "import sys, json\n"
        "import smolpilot.contracts.camera, smolpilot.contracts.teleoperator, smolpilot.contracts.robot\n"
        "import smolpilot.contracts.run_log\n"
        f"print(json.dumps([name for name in {heavy!r} if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
