"""A simulator in a process of its own, here or in another interpreter: started, asked, timed, and ended."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from smolpilot.common.errors import PROCESS_GONE, SimulationError, UsageError
from smolpilot.common.text import LIMIT, plain

from .simulators import worker
from .simulators.worker import PROTOCOL, Disconnected, receive, send

WORKER = Path(worker.__file__)
START_S, ANSWER_S = 120.0, 300.0  # MuJoCo's first context on a busy machine takes tens of seconds

type Answer = tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]


def interpreter(folder_or_file: Path) -> Path:
    """The Python of `--env-python`: a file, or the folder of a virtual environment. UsageError for anything else."""
    for path in (folder_or_file, folder_or_file / "bin" / "python", folder_or_file / "Scripts" / "python.exe"):
        if path.is_file() and os.access(path, os.X_OK):
            return path.absolute()  # not resolved: a virtual environment is known by where its link lies
    raise UsageError(
        f"There is no Python interpreter at {folder_or_file}.",
        expected="a virtual environment's folder, or a python",
        fix="make one: smolpilot env install NAME DIR",
    )


class WorkerProcess:
    """One process with the worker's protocol. Requests are sent and answers taken apart, so that many work at once."""

    def __init__(self, command: list[str], name: str) -> None:
        """command: what to run, an interpreter first; name: of the environment, for messages. UsageError where it does
        not start."""
        self._name, self._command = name, command
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        # What is found by PYTHONPATH is this interpreter's, and may not suit another one.
        foreign = () if command[0] == sys.executable else ("PYTHONPATH", "PYTHONHOME")
        environment = {key: value for key, value in os.environ.items() if key not in foreign}
        # One core each: there are as many workers as there are cores to use.
        environment |= {"OMP_NUM_THREADS": "1", "LP_NUM_THREADS": "0"}
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, env=environment, bufsize=0
            )
        except OSError as error:
            self._said.close()
            raise UsageError(f"{command[0]} does not start: {error}.") from error
        try:
            self.about, _ = self.take(START_S)
        except SimulationError as error:
            self.close()
            raise UsageError(f"The worker of the environment {name} does not start: {error.found}") from error
        if self.about.get("protocol") != PROTOCOL:
            self.close()
            raise UsageError(
                f"The worker in {command[0]} speaks protocol {plain(self.about.get('protocol'), LIMIT)}.",
                expected=f"protocol {PROTOCOL}",
                fix="let smolpilot start its own worker file",
            )

    @classmethod
    def of(cls, name: str, python: Path | None = None) -> WorkerProcess:
        """A worker for simulators beside the worker file, in that interpreter, by default this one."""
        return cls([str(python or sys.executable), str(WORKER)], name)

    def ask(self, op: str, arrays: Mapping[str, npt.NDArray[Any]] | None = None, **fields: Any) -> Answer:
        """Send a request and wait for its answer."""
        self.put(op, arrays, **fields)
        return self.take()

    def put(self, op: str, arrays: Mapping[str, npt.NDArray[Any]] | None = None, **fields: Any) -> None:
        """Send a request; `take` gives its answer."""
        assert self._process.stdin is not None
        try:
            send(self._process.stdin, {"op": op, **fields}, arrays or {})
        except (BrokenPipeError, ValueError) as error:
            raise self._gone("has ended") from error

    def take(self, timeout_s: float = ANSWER_S) -> Answer:
        """The answer to the oldest request.

        UsageError for what the user can put right; SimulationError for a simulation that raised (its process goes on),
        and for a process that died or does not answer (it is ended).
        """
        assert self._process.stdout is not None
        try:
            header, arrays = receive(_Timed(self._process.stdout, time.monotonic() + timeout_s))
        except TimeoutError as error:
            self._process.kill()
            raise self._gone(f"has not answered for {timeout_s:.0f} s, and was ended") from error
        except Disconnected as error:
            raise self._gone("has ended") from error
        if "failed" in header:
            found, expected, fix = header["failed"]
            raise UsageError(found, expected=expected, fix=fix)
        if "crashed" in header:
            raise SimulationError(f"The environment {self._name} broke: {plain(header['crashed'], 2 * LIMIT)}.")
        return header, arrays

    @property
    def alive(self) -> bool:
        """Whether the process still runs; one that died or hung takes the episodes of all its slots along."""
        return self._process.poll() is None

    def close(self) -> None:
        """End the process: politely, then by force."""
        with contextlib.suppress(OSError), self._process:  # which closes the pipes
            assert self._process.stdin is not None
            self._process.stdin.close()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._said.close()

    def _gone(self, how: str) -> SimulationError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        code = self._process.poll()
        lines = []
        if not self._said.closed:
            self._said.seek(0, os.SEEK_END)
            self._said.seek(max(0, self._said.tell() - 2_000))
            lines = self._said.read().decode(errors="replace").strip().splitlines()
        last = f" Its last words: {plain(lines[-1], LIMIT)}" if lines else ""
        ended = "" if code is None else f" (exit code {code})"
        return SimulationError(f"{PROCESS_GONE} {self._name} {how}{ended}.{last}")


class _Timed:
    """A pipe that is read with a deadline."""

    def __init__(self, pipe: IO[bytes], until: float) -> None:
        self._pipe, self._until = pipe, until

    def read(self, size: int) -> bytes:
        left = self._until - time.monotonic()
        ready, _, _ = select.select([self._pipe], [], [], max(0.0, left))
        if not ready:
            raise TimeoutError
        return os.read(self._pipe.fileno(), min(size, 1 << 20))


def state_and_images(
    arrays: Mapping[str, npt.NDArray[Any]],
) -> tuple[npt.NDArray[np.float32], dict[str, npt.NDArray[np.uint8]]]:
    """What an answer shows: the state [S], and the image [h, w, 3] of each camera that was asked for."""
    prefix = "images."
    images = {key.removeprefix(prefix): array for key, array in arrays.items() if key.startswith(prefix)}
    return np.asarray(arrays["state"], np.float32), images
