"""The process that moves an arm is interrupted, asked to end, killed; its cable is pulled out: in real time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest

from smolpilot.runtime.drivers.feetech import registers as reg
from smolpilot.runtime.emulator.bus import SO101

from .helpers_rig import JOINTS, PAN, Rig, calibration_file

DEADLINE = 60.0


@dataclass
class Moving:
    """An arm that `smolpilot robot move` moves slowly; `process` is the supervisor."""

    rig: Rig
    process: subprocess.Popen[str]

    def control(self) -> psutil.Process:
        """The control process: the supervisor's only child."""
        (child,) = psutil.Process(self.process.pid).children()
        return child

    def ended(self) -> tuple[int, str]:
        """Exit code and all that was said on standard output and error."""
        out, err = self.process.communicate(timeout=DEADLINE)
        return self.process.returncode, out + err

    def last_goal(self) -> float:
        return float(self.rig.goals()[-1][PAN])


@pytest.fixture
def moving(tmp_path: Path) -> Iterator[Moving]:
    """Once the arm is on its way from 0 to 100 degrees, at 10 degrees per second."""
    rig = Rig(connect=False, clock=time.monotonic)
    setup = tmp_path / "arm.yaml"
    driver = f"{{type: feetech, port: {rig.bus.port}, timeout: 0.2, calibration: {calibration_file(rig, tmp_path)}}}"
    setup.write_text(
        f"profile: so101\ndriver: {driver}\ngovernor: {{max_state_age: 1.0}}\n"
        "operating_limits: {shoulder_pan: {velocity: 20, acceleration: 100}}\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "smolpilot", "robot", "move", str(setup), "shoulder_pan=100"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        # A shell that runs the tests in the background has it ignored.
        preexec_fn=lambda: signal.signal(signal.SIGQUIT, signal.SIG_DFL),
    )  # fmt: skip
    until = time.monotonic() + DEADLINE
    while not (len(goals := rig.goals()) and goals[-1][PAN] > 5):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until, "it never began to move"
        time.sleep(0.05)
    try:
        yield Moving(rig, process)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        rig.bus.close()


def holds(moving: Moving) -> None:
    """The servos hold the last goal, with torque, and nobody writes another one."""
    last, packets = moving.last_goal(), len(moving.rig.bus.log)
    time.sleep(0.3)
    assert not moving.rig.goal_writes(packets)
    assert 5 < last < 99
    assert abs(moving.rig.positions()[PAN] - last) < 1.5
    assert all(servo.torque for servo in moving.rig.bus.servos.values())
    moved = np.abs(np.diff(moving.rig.goals(), axis=0))
    assert moved.max() <= 20 / 30 + 2 * moving.rig.steps[PAN], "it braked as it had moved: within the limits"


def test_ctrl_c_stops_and_holds_and_says_so(moving: Moving) -> None:
    os.killpg(moving.process.pid, signal.SIGINT)  # as a terminal sends it: to both processes
    code, said = moving.ended()
    assert code == 1
    assert "Stopped: Ctrl-C was pressed." in said
    assert "The servos hold their last goal." in said
    holds(moving)
    goals = moving.rig.goals()[:, PAN]
    assert goals[-1] - goals[-2] < goals[-8] - goals[-9], "it slowed down"


def test_sigterm_to_the_supervisor_stops_the_arm(moving: Moving) -> None:
    moving.process.terminate()
    code, said = moving.ended()
    assert code == 1
    assert "Stopped: The process was asked to end (SIGTERM)." in said
    holds(moving)


def test_a_second_ctrl_c_ends_at_once_and_says_what_torque_does(moving: Moving) -> None:
    control = moving.control()
    control.suspend()  # so that the first one cannot have been dealt with
    control.send_signal(signal.SIGINT)
    control.resume()
    control.send_signal(signal.SIGINT)
    code, said = moving.ended()
    if "Stopped: Ctrl-C" not in said:  # the second one came while it was still at work
        assert code == 130
        assert "Ended at once. Torque is left as it is: the servos hold their last goal." in said
    holds(moving)


def test_a_killed_control_process_is_named_and_nothing_is_restarted(moving: Moving) -> None:
    moving.control().kill()
    code, said = moving.ended()
    assert code == 1
    assert "error: the control process was killed by SIGKILL" in said
    assert "Nothing is restarted" in said
    assert "Traceback" not in said
    holds(moving)


def test_a_pulled_cable_is_named_and_the_rest_is_closed(moving: Moving) -> None:
    moving.rig.bus.unplug()
    code, said = moving.ended()
    assert code == 1
    assert "Stopped: The bus on" in said
    assert "is gone" in said
    assert "Traceback" not in said
    last = moving.last_goal()
    time.sleep(0.3)
    moving.rig.bus.advance()
    position = moving.rig.bus.servos["shoulder_pan"].get(reg.PRESENT_POSITION)
    assert abs(moving.rig.arm.scales[PAN].value(position) - last) < 1.5
    assert len(JOINTS) == len(SO101)


def test_ctrl_z_stops_and_holds_and_halts_nothing(moving: Moving) -> None:
    os.killpg(moving.process.pid, signal.SIGTSTP)  # as a terminal sends it: to both processes
    code, said = moving.ended()
    assert code == 1
    assert "Stopped: Ctrl-Z was pressed." in said
    holds(moving)


def test_a_process_that_was_halted_does_not_go_on_where_it_was(moving: Moving) -> None:
    control = moving.control()
    control.suspend()
    time.sleep(1.5)
    before = moving.last_goal()
    control.resume()
    code, said = moving.ended()
    assert code == 1
    assert "Stopped: The control loop stood still for 1." in said
    assert moving.last_goal() - before < 0.5
    holds(moving)


def test_a_core_dump_from_the_keyboard_is_named(moving: Moving) -> None:
    os.killpg(moving.process.pid, signal.SIGQUIT)
    code, said = moving.ended()
    assert code == 1
    assert "error: the control process was killed by SIGQUIT" in said
    holds(moving)


def test_who_kills_the_supervisor_stops_the_arm(moving: Moving) -> None:
    control = moving.control()
    moving.process.kill()
    control.wait(DEADLINE)
    _, said = moving.ended()
    assert "Stopped: The process was asked to end (SIGTERM)." in said
    holds(moving)
    goals = moving.rig.goals()[:, PAN]
    assert goals[-1] - goals[-2] < goals[-8] - goals[-9], "it slowed down"
