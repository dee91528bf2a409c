"""EmulatedArm: an arm for everybody. Servos of its own in a process of its own, behind the driver of real ones."""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import pydantic

from smolpilot.common.errors import DeviceError
from smolpilot.robots import RobotProfile
from smolpilot.runtime.calibration import Calibration
from smolpilot.runtime.emulator.links import FRAMES, PORT
from smolpilot.runtime.emulator.options import FaultOptions, ServoOptions, Strict
from smolpilot.runtime.emulator.process import EmulatorReady, EmulatorRefusal
from smolpilot.runtime.emulator.spec import EmulatorSpec, calibration_of

from .feetech.arm import FeetechArm, ServoDetails
from .feetech.servos import Difference

_PATIENCE = 60.0  # seconds for a simulation to be imported on a busy machine
_ENDING = 5.0
_TIMEOUT = 0.2  # seconds of an exchange: two processes on a busy machine, not servos


class EmulatedArmOptions(Strict):
    """What a setup says of an emulated arm; the same words as in EmulatorSpec."""

    calibration: str | None = None
    calibrated: bool = True
    plant: str = "servo"
    model: str | None = None
    start: dict[str, float] = pydantic.Field(default_factory=dict)
    gravity: dict[str, float] = pydantic.Field(default_factory=dict)
    seed: Annotated[int, pydantic.Field(ge=0)] = 0
    outcomes: str | None = None
    servos: ServoOptions = ServoOptions()
    faults: FaultOptions = FaultOptions()
    timeout: Annotated[float, pydantic.Field(gt=0, le=1)] = _TIMEOUT


def spec_of(profile: RobotProfile, options: EmulatedArmOptions) -> EmulatorSpec:
    """The arm that a setup's options mean."""
    values = {name: getattr(options, name) for name in type(options).model_fields if name != "timeout"}
    return EmulatorSpec(profile=profile, **values)


class EmulatedArm(FeetechArm):
    """A FeetechArm whose servos `connect` makes and `disconnect` takes away.

    `frames`: the folder of shared frames for cameras of the type `environment`, there while the arm is connected.
    `process`: the emulator's, for those who want to see what happens when it dies; None while there is none.
    """

    Options = EmulatedArmOptions  # type: ignore[assignment]

    def __init__(
        self,
        spec: EmulatorSpec,
        calibration: Calibration,
        *,
        timeout: float = _TIMEOUT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """spec: its `folder` is chosen here."""
        self._folder = Path(tempfile.gettempdir()) / f"smolpilot-emulated-{secrets.token_hex(8)}"
        self._spec = spec.model_copy(update={"folder": str(self._folder), "link": None})
        self.frames = self._folder / FRAMES
        self.process: subprocess.Popen[bytes] | None = None
        super().__init__(spec.profile, str(self._folder / PORT), calibration, timeout=timeout, clock=clock)

    @classmethod
    def from_options(  # type: ignore[override]
        cls, profile: RobotProfile, options: EmulatedArmOptions, *, clock: Callable[[], float] = time.monotonic
    ) -> EmulatedArm:
        """The arm that a setup means; UsageError for a calibration that is not there or does not fit."""
        spec = spec_of(profile, options)
        return cls(spec, calibration_of(spec), timeout=options.timeout, clock=clock)

    def connect(self) -> None:
        """Start the emulator, and connect as to a real arm. DeviceError or UsageError that says why it cannot be."""
        if self._connected:
            return
        self._start()
        try:
            super().connect()
        except BaseException:
            self._end()
            raise

    def disconnect(self) -> None:
        """Close the port and end the emulator: its servos are gone then, with all they held. Never raises."""
        super().disconnect()
        self._end()

    def details(self) -> tuple[ServoDetails, ...]:
        """As of a real arm, of which there is none yet while not connected: one is made for the occasion."""
        with self._running():
            return super().details()

    def calibration_difference(self) -> tuple[Difference, ...]:
        with self._running():
            return super().calibration_difference()

    def write_calibration(self) -> tuple[Difference, ...]:
        with self._running():
            return super().write_calibration()

    @contextmanager
    def _running(self) -> Iterator[None]:
        if self.process is not None:
            yield
            return
        self._start()
        try:
            yield
        finally:
            self._end()

    def _start(self) -> None:
        if self.process is not None:  # one that has died, perhaps
            self._end()
        # A session of its own: Ctrl-C is for the program, which may still have something to tell the arm.
        self.process = subprocess.Popen(
            [sys.executable, "-m", "smolpilot.runtime.emulator.process"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        try:
            assert self.process.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # it has ended already: the wait says how
                self.process.stdin.write(self._spec.model_dump_json().encode() + b"\n")
                self.process.stdin.flush()
            self._wait_until_ready(self.process)
        except BaseException:
            self._end()
            raise

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        deadline, line = time.monotonic() + _PATIENCE, b""
        while not line.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
                raise DeviceError(f"The emulated arm was not ready within {_PATIENCE:g} s.")
            more = os.read(process.stdout.fileno(), 65_536)
            if not more:
                raise DeviceError(
                    f"The process of the emulated arm ended at once, with exit code {process.wait(_ENDING)}.",
                    expected="a line that names its port",
                )
            line += more
        try:
            EmulatorReady.model_validate_json(line)
        except pydantic.ValidationError:
            raise EmulatorRefusal.model_validate_json(line).error() from None

    def _end(self) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        try:
            process.wait(_ENDING)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)  # where it could not itself
