"""An emulated arm in a process of its own: `python -m smolpilot.runtime.emulator.process`.

The first line of its input is an EmulatorSpec as JSON; its one line of output is EmulatorReady, or what is wrong. It
ends, and leaves nothing behind, when its input closes or at SIGTERM, SIGINT or SIGHUP.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

import pydantic

from smolpilot.common.errors import DeviceError, SmolpilotError, UsageError, explain
from smolpilot.common.text import plain
from smolpilot.runtime.calibration import write_calibration

from .links import CALIBRATION, FRAMES, PORT, linked, running
from .options import Strict
from .spec import EmulatorSpec, calibration_of, make_bus

_LOOK = 0.2  # seconds between looks at whether the plant still works
_LONGEST = 1_000_000  # bytes of a spec


class EmulatorReady(Strict):
    """Paths: the serial port, the folder of shared frames, and the arm's calibration, in LeRobot's form."""

    port: str
    frames: str
    calibration: str


class EmulatorRefusal(Strict):
    """What is said instead, when it cannot run: the parts of a SmolpilotError, and whether it was misuse."""

    found: str
    expected: str = ""
    fix: str = ""
    misuse: bool = False

    @classmethod
    def of(cls, error: SmolpilotError) -> EmulatorRefusal:
        return cls(found=error.found, expected=error.expected, fix=error.fix, misuse=isinstance(error, UsageError))

    def error(self) -> SmolpilotError:
        kind = UsageError if self.misuse else DeviceError
        return kind(self.found, expected=self.expected, fix=self.fix)


def run_emulator(
    spec: EmulatorSpec, ready: Callable[[EmulatorReady], None], *, stopped: threading.Event | None = None
) -> None:
    """Run an emulated arm until `stopped` is set, or a signal asks it to end, where this is the main thread.

    ready: called once, when the port can be opened. DeviceError when the plant breaks; whatever happens, port, folder
    and link are gone in the end.
    """
    stopped = stopped or threading.Event()
    with ExitStack() as stack:
        stack.enter_context(_until_signal(stopped))
        folder = _make_folder(spec)
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        stack.enter_context(running(folder))
        frames = folder / FRAMES
        frames.mkdir()
        write_calibration(folder / CALIBRATION, calibration_of(spec))
        bus = make_bus(spec, frames=frames, log_size=0, link=folder / PORT, wait=False)
        stack.callback(bus.close)
        bus.start()
        port = folder / PORT
        if spec.link is not None:
            port = Path(spec.link).expanduser()
            stack.enter_context(linked(port, folder / PORT))
        ready(EmulatorReady(port=str(port), frames=str(frames), calibration=str(folder / CALIBRATION)))
        while not stopped.wait(_LOOK):
            if bus.failure is not None:
                raise _broken(bus.failure)


def main() -> int:
    """The process; its exit code."""
    try:
        try:
            spec = EmulatorSpec.model_validate_json(_first_line())
        except pydantic.ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(str(part) for part in problem["loc"])
            raise UsageError(
                f"The emulator's spec is wrong at '{plain(where, 80)}': {plain(problem['msg'])}."
            ) from None
        stopped = threading.Event()
        watched = os.dup(sys.stdin.fileno())
        threading.Thread(target=_watch_input, args=(watched, stopped), daemon=True).start()
        run_emulator(spec, _say, stopped=stopped)
    except SmolpilotError as error:
        _say(EmulatorRefusal.of(error))
        return error.exit_code
    return 0


def _say(message: Strict) -> None:
    try:
        print(message.model_dump_json(), flush=True)
    except OSError:  # whoever started it is gone
        os._exit(1)


def _first_line() -> bytes:
    """Read without Python's buffers: their locks would be in the way when the process ends."""
    found = b""
    while b"\n" not in found and len(found) < _LONGEST:
        more = os.read(sys.stdin.fileno(), 65_536)
        if not more:
            break
        found += more
    return found.partition(b"\n")[0]


def _watch_input(file: int, stopped: threading.Event) -> None:
    while os.read(file, 65_536):
        pass
    stopped.set()
    os.close(file)


@contextmanager
def _until_signal(stopped: threading.Event) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _make_folder(spec: EmulatorSpec) -> Path:
    if spec.folder is None:
        return Path(tempfile.mkdtemp(prefix="smolpilot-emulator-"))
    folder = Path(spec.folder)
    try:
        folder.mkdir(mode=0o700)
    except OSError as error:
        refusal = explain(error)
        raise UsageError(f"The emulator's folder cannot be made. {refusal.found}", fix=refusal.fix) from None
    return folder


def _broken(error: Exception) -> SmolpilotError:
    if isinstance(error, SmolpilotError):
        return error
    return DeviceError(f"What the emulated arm moves has failed: {plain(f'{type(error).__name__}: {error}', 500)}.")


if __name__ == "__main__":
    sys.exit(main())
