"""An emulated arm in a process of its own, and what is left when it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from smolpilot.common.errors import DeviceError, UsageError
from smolpilot.robots import RobotProfile
from smolpilot.runtime.calibration import default_calibration, read_calibration
from smolpilot.runtime.drivers.feetech import packets
from smolpilot.runtime.emulator.environment_plant import EnvironmentPlant
from smolpilot.runtime.emulator.process import EmulatorReady, EmulatorRefusal, main, run_emulator
from smolpilot.runtime.emulator.spec import EmulatorSpec

from .helpers_bus import Client

SO101 = RobotProfile.load("so101")


@contextmanager
def process(**spec: Any) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """The process and the line that it says."""
    values = {"profile": "so101", **spec}
    with subprocess.Popen(
        [sys.executable, "-m", "smolpilot.runtime.emulator.process"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(os.environ),
    ) as running:  # fmt: skip
        try:
            assert running.stdin is not None
            assert running.stdout is not None
            running.stdin.write(json.dumps(values) + "\n")
            running.stdin.flush()
            yield running, json.loads(running.stdout.readline())
        finally:
            running.kill()


@pytest.mark.parametrize("how", ["input closes", signal.SIGTERM])
def test_it_says_where_it_is_and_leaves_nothing_behind(how: str | int, tmp_path: Path) -> None:
    folder, link = tmp_path / "arm", tmp_path / "tty"
    with process(folder=str(folder), link=str(link)) as (running, said):
        ready = EmulatorReady(**said)
        assert ready.port == str(link)
        with Client(ready.port) as client:
            assert len(client.replies(packets.ping(packets.BROADCAST), 6)) == 6
        assert read_calibration(Path(ready.calibration), SO101) == default_calibration(SO101)
        assert list(Path(ready.frames).iterdir()) == []
        if isinstance(how, int):
            running.send_signal(how)
        else:
            assert running.stdin is not None
            running.stdin.close()
        assert running.wait(30) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_killed_one_is_a_cable_pulled_out() -> None:
    with process() as (running, said), Client(said["port"]) as client:
        assert len(client.replies(packets.ping(1), 1)) == 1
        running.kill()
        running.wait(30)
        assert client.gone(packets.ping(1))
        folder = Path(said["port"]).parent
    for path in (*folder.glob("*/*"), *folder.glob("*")):  # a killed process cannot tidy up
        path.unlink() if path.is_symlink() or path.is_file() else path.rmdir()
    folder.rmdir()
    assert folder.parent == Path(tempfile.gettempdir())


@pytest.mark.parametrize(
    ("spec", "code", "words"),
    [
        ({"plant": "clay"}, 2, "There is no plant 'clay'."),
        ({"plnt": "servo"}, 2, "The emulator's spec is wrong at 'plnt'"),
        ({"profile": "so1001"}, 2, "There is no robot profile 'so1001'"),
        ({"folder": "/proc/none"}, 2, "The emulator's folder cannot be made."),
    ],
)
def test_what_cannot_be_is_one_line_and_an_exit_code(
    spec: dict[str, Any],
    code: int,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "spec.json"
    path.write_text(json.dumps({"profile": "so101", **spec}) + "\n")
    with path.open() as file:
        monkeypatch.setattr("sys.stdin", file)
        assert main() == code
    (line,) = capsys.readouterr().out.splitlines()
    refusal = EmulatorRefusal.model_validate_json(line)
    assert refusal.found.startswith(words)
    assert isinstance(refusal.error(), UsageError)


def test_it_runs_within_a_program_until_that_has_enough(tmp_path: Path) -> None:
    """As `smolpilot robot emulate` runs it."""
    found, stopped = list[EmulatorReady](), threading.Event()

    def ready(one: EmulatorReady) -> None:
        found.append(one)
        with Client(one.port) as client:
            assert len(client.replies(packets.ping(1), 1)) == 1
        stopped.set()

    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    run_emulator(EmulatorSpec(profile=SO101), ready, stopped=stopped)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers
    assert not Path(found[0].calibration).parent.exists()


def test_a_file_is_not_replaced_by_the_link(tmp_path: Path) -> None:
    link = tmp_path / "tty"
    link.write_text("a file of the user's")
    with pytest.raises(UsageError, match="is there already"):
        run_emulator(EmulatorSpec(profile=SO101, link=str(link)), lambda _: None)
    assert link.read_text() == "a file of the user's"


def test_a_plant_that_breaks_ends_it_with_the_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: object, dt: float, commands: object) -> None:
        if dt:
            raise RuntimeError("the physics exploded")
        return before(self, dt, commands)  # type: ignore[arg-type, return-value]

    before = EnvironmentPlant.advance
    monkeypatch.setattr(EnvironmentPlant, "advance", broken)
    spec = EmulatorSpec(profile=RobotProfile.load("tabletop"), plant="environment:tabletop")
    with pytest.raises(DeviceError, match="has failed: RuntimeError: the physics exploded"):
        run_emulator(spec, lambda _: None)
