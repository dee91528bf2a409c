"""PolicyLink: the control process's end of the policy process. Asking and looking for answers waits for nothing."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from smolpilot.common.errors import DeviceError, SmolpilotError
from smolpilot.common.text import plain
from smolpilot.contracts import Joints
from smolpilot.runtime.line_process import LineProcess
from smolpilot.runtime.scheduling import Ask, PlannedChunk
from smolpilot.runtime.setup.robot_setup import RobotSetup

from .protocol import (
    Answered,
    AskLine,
    AskNumbers,
    Blocks,
    ChunkNumbers,
    OpenPolicy,
    PolicyAbout,
    Refused,
    StateNumbers,
)

MODULE = "smolpilot.policies.policy_process"
_NONE: Mapping[str, Any] = {}
_SAID = 600  # letters of what the process said last, for messages


class ChunkSource(Protocol):
    """Who computes chunks, as a session sees it: nothing waits but the computing itself."""

    @property
    def alive(self) -> bool:
        """Whether there is anybody to answer."""
        ...

    def why_ended(self) -> str:
        """Why there is nobody, in a sentence."""
        ...

    def publish(self, read_at: float, place: float, state: Joints) -> None:
        """Show the newest reading [S], at the place of the playback that is due with it."""
        ...

    def ask(self, ask: Ask, instruction: str | None, *, seed: int, reset: bool = False) -> None:
        """Ask for a chunk; what becomes of it comes from `poll`. reset: the first one of an episode."""
        ...

    def poll(self) -> list[PlannedChunk | tuple[int, SmolpilotError]]:
        """The answers that have come: chunks, or the number of a request and why there is none."""
        ...


class PolicyLink(ChunkSource):
    """One policy process: started by `open`, asked by `ask`, its answers fetched by `poll`."""

    def __init__(self, log: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        """log: the file that takes what the process prints."""
        self._log, self._clock = log, clock
        self._process: LineProcess | None = None
        self._blocks: Blocks | None = None
        self._ended: str | None = None

    def open(
        self,
        request: OpenPolicy,
        *,
        patience: float,
        given_up: Callable[[], str | None] = lambda: None,
        command: list[str] | None = None,
    ) -> PolicyAbout:
        """Start the process and wait until the policy is there; the error that it refuses with, and DeviceError when it
        dies, is not ready in time or is `given_up`, for what that says. command: what to run instead, for tests."""
        self._blocks = Blocks.at(Path(request.folder), create=True)
        process = self._process = LineProcess(command or [sys.executable, "-m", MODULE], self._log)
        process.write(request.model_dump_json())
        deadline = self._clock() + patience
        while True:
            for line in process.lines():
                if '"kind":"refused"' in line:
                    raise Refused.model_validate_json(line).error()
                return PolicyAbout.model_validate_json(line)
            if not self.alive:
                raise DeviceError(self.why_ended(), expected="a policy that can be opened")
            if (why := given_up()) is not None:
                raise DeviceError(why)
            if (left := deadline - self._clock()) <= 0:
                raise DeviceError(f"The policy was not ready within {patience:g} s.", fix="see the policy's log")
            process.wait(min(left, 0.5))

    def publish(self, read_at: float, place: float, state: Joints) -> None:
        """Show the newest reading, at the place of the playback that is due with it."""
        assert self._blocks is not None
        self._blocks.state.write(StateNumbers(read_at, place, state).pack())

    def ask(self, ask: Ask, instruction: str | None, *, seed: int, reset: bool = False) -> None:
        """Ask for a chunk; what becomes of it comes from `poll`."""
        assert self._blocks is not None
        assert self._process is not None
        self._blocks.ask.write(AskNumbers(ask.id, ask.place, ask.delay, seed, ask.leftover).pack())
        self._process.write(AskLine(id=ask.id, instruction=instruction, reset=reset).model_dump_json())

    def poll(self) -> list[PlannedChunk | tuple[int, SmolpilotError]]:
        """The answers that have come: chunks, or the number of a request and why there is none."""
        found: list[PlannedChunk | tuple[int, SmolpilotError]] = []
        for line in () if self._process is None else self._process.lines():
            if '"kind":"refused"' in line:
                refused = Refused.model_validate_json(line)
                found.append((refused.id or 0, refused.error()))
                continue
            answered = Answered.model_validate_json(line)
            assert self._blocks is not None
            numbers = self._blocks.chunk.read()
            chunk = None if numbers is None else ChunkNumbers.unpack(numbers)
            if chunk is not None and chunk.id == answered.id:
                found.append(PlannedChunk(chunk.id, chunk.actions, chunk.state_at, chunk.captured_at, answered.at))
        return found

    def wait(self, seconds: float) -> None:
        """Until there is an answer to `poll`, the process has ended, or the time is over."""
        if self._process is not None:
            self._process.wait(seconds)

    @property
    def process(self) -> int | None:
        """The process's number, while it was not closed."""
        return None if self._process is None else self._process.number

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        if self._process is None:
            return False
        ended = self._process.ended is not None
        if ended and self._ended is None:
            self._ended = _cause(self._process, self._log)
        return not ended

    def why_ended(self) -> str:
        """Why the process ended, in a sentence."""
        return self._ended or "The policy process was closed."

    def close(self) -> None:
        """End the process; without effect where there is none."""
        process, self._process = self._process, None
        if process is not None:
            process.close()


def open_request(
    setup: RobotSetup, source: str, folder: Path, instruction: str | None = None, options: Mapping[str, Any] = _NONE
) -> OpenPolicy:
    """What to ask a policy process for, so that its policy runs on the arm of this setup. options: more fields."""
    return OpenPolicy(
        folder=str(folder),
        source=source,
        owner=f"the setup {setup.name}",
        profile=setup.profile.to_yaml(),
        cameras=tuple(setup.cameras),
        instruction=instruction,
        **options,
    )


def _cause(process: LineProcess, log: Path) -> str:
    how = process.how_it_ended
    if how.endswith("SIGKILL"):
        how += " (by hand, or by the system because memory ran out: `dmesg` tells)"
    said = "" if process.ended is None or process.ended < 0 else plain(_last(log), _SAID)
    return f"The policy process {how}{f': {said}' if said else ''}."


def _last(log: Path) -> str:
    """The last line of what the process printed."""
    with contextlib.suppress(OSError):
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else ""
    return ""
