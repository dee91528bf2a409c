"""The run log: what a robot was asked, told and did, one line of JSON for each tick of the control loop.

The first line is the header. A line is written whole or is the last one: a killed process loses the ticks of the last
second and leaves at most a torn last line, which readers leave out. JSON has no NaN: what is no finite number is null.
Positions are float32 in the robot's units and come back bit by bit; times are seconds on the monotonic clock of the
machine that drove the robot.
"""

from __future__ import annotations

import datetime
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from smolpilot.common.atomic import flush, refuse_existing
from smolpilot.common.errors import DeviceError, RunLogError
from smolpilot.common.json_input import MAX_LINES_BYTES, parse_json
from smolpilot.common.keys import STATE, image_key
from smolpilot.common.text import LIMIT, format_bytes, plain, shown

from .robot import SentAction, Stop, StopCategory

FORMAT = "smolpilot-run-log/1"
SOURCES = ("policy", "teleoperator", "dataset", "ramp", "park", "hold")
"""Who asked for a command: a policy, a person, a recorded episode, the way to the start, the way to rest, or nobody."""

_KIND = FORMAT.partition("/")[0]
_LINE = 16_000_000  # bytes of one line; the longest known, a header with the facts of a whole-body robot, has 10 kB
_SAME_S = 1e-6  # how far a line's ages may be from its times


@dataclass(frozen=True)
class RunLogHeader:
    """What holds for the whole log.

    robot: name of its profile. joints, units: of the action, in order [A]. cameras: names. rate: ticks per second.
    started_at: wall clock; started_monotonic: the same moment on the clock of all other times. dry_run: nothing was
    sent, and `commanded` is what would have been. facts: what else is worth keeping, as plain JSON: the bundle's
    digest, the limits in force, versions.
    """

    robot: str
    joints: tuple[str, ...]
    units: tuple[str, ...]
    rate: float
    started_at: datetime.datetime
    started_monotonic: float
    policy: str | None = None
    instruction: str | None = None
    cameras: tuple[str, ...] = ()
    dry_run: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ChunkStep:
    """Which action of which chunk was due: `step` from 0. captured_at: of the observation it was planned from."""

    id: int
    step: int
    captured_at: float


@dataclass(frozen=True, eq=False)
class Tick:
    """One turn of the control loop.

    number: which period of the loop it is, from 0; a number that is missing was skipped, because the loop was late.
    sent: the command and what became of it. captured_at: when what the tick acted on was read, as observations say it:
    `observation.state`, `observation.images.NAME` -> seconds. source: one of SOURCES. chunk: for a policy's action.
    episode: counted from 0.
    """

    number: int
    sent: SentAction
    captured_at: Mapping[str, float]
    source: str = "policy"
    chunk: ChunkStep | None = None
    episode: int = 0

    @property
    def observation_age(self) -> float | None:
        """Seconds from the oldest part of the observation to the command; None where nothing was read."""
        return self.sent.sent_at - min(self.captured_at.values()) if self.captured_at else None

    @property
    def chunk_age(self) -> float | None:
        """Seconds from the observation that the chunk was planned from to the command; None without a chunk."""
        return self.sent.sent_at - self.chunk.captured_at if self.chunk is not None else None


@dataclass(frozen=True, eq=False)
class RunLog:
    """A log that was read. torn: whether its last line was cut off, and is left out."""

    header: RunLogHeader
    ticks: tuple[Tick, ...]
    torn: bool = False

    @cached_property
    def numbers(self) -> npt.NDArray[np.int64]:
        """Which period of the loop each tick is. [T]"""
        return np.array([tick.number for tick in self.ticks], dtype=np.int64)

    @cached_property
    def sent_at(self) -> npt.NDArray[np.float64]:
        """When each command was sent, in seconds on the monotonic clock. [T]"""
        return np.array([tick.sent.sent_at for tick in self.ticks], dtype=np.float64)

    @cached_property
    def requested(self) -> npt.NDArray[np.float32]:
        """What was asked for; NaN where it was no number, or had another number of values. [T, A]"""
        return self._stacked([tick.sent.requested for tick in self.ticks])

    @cached_property
    def commanded(self) -> npt.NDArray[np.float32]:
        """What the motors were told. [T, A]"""
        return self._stacked([tick.sent.commanded for tick in self.ticks])

    @cached_property
    def measured(self) -> npt.NDArray[np.float32]:
        """Where the joints were; NaN where they were not read. [T, A]"""
        return self._stacked([tick.sent.measured for tick in self.ticks])

    @property
    def skipped(self) -> list[int]:
        """Numbers of the ticks that were not run, because the loop was late."""
        found = set(self.numbers.tolist())
        return [number for number in range(min(found), max(found)) if number not in found] if found else []

    @property
    def seams(self) -> list[int]:
        """Rows of the ticks that begin another chunk than the one acted on before, in the same episode."""
        found, newest = [], None
        for row, tick in enumerate(self.ticks):
            if tick.chunk is not None:
                if newest is not None and newest != (tick.episode, tick.chunk.id) and newest[0] == tick.episode:
                    found.append(row)
                newest = (tick.episode, tick.chunk.id)
        return found

    def flag_counts(self) -> dict[str, Counter[str]]:
        """Flag -> name of the joint or camera (`""`: the whole command) -> in how many ticks."""
        found: dict[str, Counter[str]] = {}
        for tick in self.ticks:
            for flag, names in tick.sent.flags.items():
                found.setdefault(flag, Counter()).update(names or ("",))
        return found

    def _stacked(self, rows: Sequence[npt.NDArray[np.float32] | None]) -> npt.NDArray[np.float32]:
        made = np.full((len(rows), len(self.header.joints)), np.nan, dtype=np.float32)
        for place, row in enumerate(rows):
            if row is not None and len(row) == made.shape[1]:
                made[place] = row
        return made


class RunLogWriter:
    """Writes the log `path`, which must not exist; `flush_every` seconds pass at most before ticks are in the file.

    A kill of the process loses no more than that. The file is put on the disk itself (fsync) when the log is closed:
    in between, that would keep the control loop waiting. Raises UsageError for the path, RunLogError for a tick that
    does not fit the header or the tick before it, OSError of a disk that is full or gone; what was not written then is
    kept, and written first when there is room again.
    """

    def __init__(
        self, path: Path, header: RunLogHeader, *, flush_every: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        refuse_existing(path, "run logs")
        first = _header_line(header)
        self._header, self._every, self._clock = header, flush_every, clock
        self._previous: Tick | None = None
        # Where in the file the bytes that wait belong. Replaced at once: whatever interrupts a write (Ctrl-C), the
        # next one sees by the file's position what is there already.
        self._waiting = (0, bytearray(first))
        path.parent.mkdir(parents=True, exist_ok=True)
        # Unbuffered: what is written is whole lines, and a write that takes only a part says so.
        self._file = path.open("xb", buffering=0)
        self._flushed_at = clock()
        try:
            self.flush()
        except BaseException:
            self._file.close()
            raise

    def write(self, tick: Tick) -> None:
        """Add a tick; it is in the file `flush_every` seconds later at the latest, when ticks go on being written."""
        if problem := _misfit(tick, self._header, self._previous):
            raise RunLogError(f"Tick {tick.number} does not fit the run log: {problem[0]}.", expected=problem[1])
        self._waiting[1].extend(_line(_tick_values(tick)))
        self._previous = tick
        if self._clock() - self._flushed_at >= self._every:
            self.flush()

    def flush(self) -> None:
        """Hand all ticks to the operating system."""
        begin, content = self._waiting
        while (done := self._file.tell() - begin) < len(content):
            self._file.write(content[done:])
        self._waiting = (begin + len(content), bytearray())
        self._flushed_at = self._clock()

    def close(self) -> None:
        """Put everything on the disk."""
        if self._file.closed:
            return
        try:
            self.flush()
            flush(self._file)
        finally:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_run_log(path: Path) -> RunLog:
    """Read a log; a torn last line is left out.

    Everything else that is not as it should be is a RunLogError that names file, line, what was found and expected.
    Raises OSError where the file cannot be read.
    """
    if (size := path.stat().st_size) > MAX_LINES_BYTES:
        raise RunLogError(
            f"{path} has {format_bytes(size)}.", expected=f"a run log of at most {format_bytes(MAX_LINES_BYTES)}"
        )
    ticks: list[Tick] = []
    header: RunLogHeader | None = None
    for number, line, is_whole in _lines(path):
        try:
            values = parse_json(line, most=_LINE)
        except ValueError as error:
            if not is_whole and header is not None:
                return RunLog(header, tuple(ticks), torn=True)
            if not is_whole:
                raise RunLogError(
                    f"{path} holds no whole line.",
                    expected="a run log: the run ended before its first line was written",
                ) from None
            raise _damaged(path, number, plain(error, LIMIT), "a line of JSON") from None
        if header is None:
            header = _read_header(values, path)
            continue
        tick = _read_tick(values, path, number)
        if problem := _misfit(tick, header, ticks[-1] if ticks else None):
            raise _damaged(path, number, *problem)
        ticks.append(tick)
    if header is None:
        raise RunLogError(f"{path} is empty.", expected="a run log")
    return RunLog(header, tuple(ticks))


def _lines(path: Path) -> Iterator[tuple[int, bytes, bool]]:
    """(number, content, whether it ends as a line does) of each line."""
    with path.open("rb") as file:
        number = 0
        while line := file.readline(_LINE + 1):
            number += 1
            # A longer line is refused by its length.
            yield number, line.removesuffix(b"\n"), line.endswith(b"\n") or len(line) > _LINE


def _misfit(tick: Tick, header: RunLogHeader, previous: Tick | None) -> tuple[str, str] | None:
    """What in a tick does not fit the header or the tick before it, and what would."""
    sent, joints = tick.sent, len(header.joints)
    if len(sent.commanded) != joints:
        return f"commanded has {len(sent.commanded)} values", f"{joints}, one for each joint of the header"
    known = {STATE} | {image_key(camera) for camera in header.cameras}
    for key, at in tick.captured_at.items():
        if key not in known:
            return f"captured_at names {shown(key)}", f"one of {', '.join(sorted(known))}"
        if not math.isfinite(at):
            return f"captured_at of {plain(key, 80)} is {shown(at)}", "seconds on the monotonic clock"
    named = {*header.joints, *header.cameras}
    for flag, names in sent.flags.items():
        if odd := [name for name in names if name not in named]:
            return f"flag {flag} names {shown(odd[0])}", "a joint or camera of the header"
    if tick.source not in SOURCES:
        return f"source is {shown(tick.source)}", f"one of {', '.join(SOURCES)}"
    if tick.number < 0 or tick.episode < 0:
        return f"tick {tick.number}, episode {tick.episode}", "numbers from 0"
    if tick.chunk is not None and (tick.chunk.step < 0 or not math.isfinite(tick.chunk.captured_at)):
        return f"step {tick.chunk.step} of a chunk of {shown(tick.chunk.captured_at)}", "a step from 0, a finite time"
    if previous is not None:
        if tick.number <= previous.number:
            return f"tick {tick.number} follows tick {previous.number}", "rising numbers"
        if sent.sent_at < previous.sent.sent_at:
            return f"sent_at is {sent.sent_at}, after {previous.sent.sent_at}", "times of a clock that never runs back"
        if tick.episode < previous.episode:
            return f"episode {tick.episode} follows episode {previous.episode}", "episodes in order"
    return None


def _header_line(header: RunLogHeader) -> bytes:
    """The header as a line; RunLogError where it cannot be read back."""
    from .run_log_form import in_order

    values = {"format": FORMAT, **vars(header), "started_at": header.started_at.isoformat(), "facts": {**header.facts}}
    try:
        line = _line(in_order("header", values))
        _read_header(parse_json(line, most=_LINE), Path("run log"))
    except (TypeError, ValueError, RecursionError) as error:
        raise RunLogError(
            f"The header of the run log is no plain JSON: {plain(error, LIMIT)}.",
            expected="texts, finite numbers, lists and mappings",
        ) from error
    return line


def _line(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _tick_values(tick: Tick) -> dict[str, Any]:
    sent, chunk = tick.sent, tick.chunk
    return {
        "tick": int(tick.number),
        "episode": int(tick.episode),
        "source": tick.source,
        "captured_at": {key: float(at) for key, at in tick.captured_at.items()},
        "sent_at": float(sent.sent_at),
        # For those who read the lines by eye; they follow from the times.
        "ages": {"observation": _float(tick.observation_age), "chunk": _float(tick.chunk_age)},
        "chunk": None
        if chunk is None
        else {"id": int(chunk.id), "step": int(chunk.step), "captured_at": float(chunk.captured_at)},
        "requested": _numbers(sent.requested),
        "commanded": _numbers(sent.commanded),
        "measured": None if sent.measured is None else _numbers(sent.measured),
        "flags": {flag: list(names) for flag, names in sent.flags.items()},
        "stop": None if sent.stop is None else {"category": int(sent.stop.category), "reason": sent.stop.reason},
    }


def _float(value: float | None) -> float | None:
    return None if value is None else float(value)


def _numbers(values: npt.NDArray[np.float32]) -> list[float | None]:
    """The shortest decimal numbers that are these float32 again; null for what is not finite."""
    return [float(str(value)) if math.isfinite(value) else None for value in values]


def _read_header(values: Any, path: Path) -> RunLogHeader:
    found = values.get("format") if isinstance(values, dict) else None
    if not isinstance(found, str) or not found.startswith(f"{_KIND}/"):
        raise RunLogError(f"{path}:1: this is no run log.", expected=f'a first line with "format": "{FORMAT}"')
    if found != FORMAT:
        raise RunLogError(
            f"{path}:1: the format is {shown(found)}.", expected=FORMAT, fix="read it with a newer version of smolpilot"
        )
    from .run_log_form import read_form

    form = read_form("header", values, f"{path}:1")
    joints, units = form["joints"], form["units"]
    if len(joints) != len(units) or len({*joints, *form["cameras"]}) != len(joints) + len(form["cameras"]):
        raise _damaged(
            path, 1, f"{len(joints)} joints with {len(units)} units", "each joint and camera once, with unit"
        )
    try:
        started_at = datetime.datetime.fromisoformat(form["started_at"])
        if started_at.tzinfo is None:
            raise ValueError("it has no time zone")
    except ValueError as error:
        raise _damaged(path, 1, f"started_at is {shown(form['started_at'])}: {error}", "a time with its zone") from None
    try:
        json.dumps(form["facts"], allow_nan=False)
    except ValueError:
        raise _damaged(path, 1, "facts hold NaN or infinity", "finite numbers") from None
    del form["format"]
    listed = {key: tuple(form[key]) for key in ("joints", "units", "cameras")}
    return RunLogHeader(**{**form, **listed, "started_at": started_at})


def _read_tick(values: Any, path: Path, number: int) -> Tick:
    from .run_log_form import read_form

    form = read_form("tick", values, f"{path}:{number}")
    try:
        sent = SentAction(
            requested=_vector(form["requested"]),
            commanded=_vector(form["commanded"]),
            sent_at=form["sent_at"],
            measured=None if form["measured"] is None else _vector(form["measured"]),
            flags={flag: tuple(names) for flag, names in form["flags"].items()},
            stop=None if form["stop"] is None else Stop(StopCategory(form["stop"]["category"]), form["stop"]["reason"]),
        )
    except DeviceError as error:
        found = error.found.removeprefix("A robot says of a command: ").removesuffix(".")
        raise _damaged(path, number, found, error.expected) from None
    chunk = None if form["chunk"] is None else ChunkStep(**form["chunk"])
    tick = Tick(form["tick"], sent, form["captured_at"], form["source"], chunk, form["episode"])
    for name, age in (("observation", tick.observation_age), ("chunk", tick.chunk_age)):
        told = form["ages"][name]
        if (told is None) != (age is None) or (told is not None and age is not None and abs(told - age) > _SAME_S):
            raise _damaged(path, number, f"ages.{name} is {shown(told)}", f"{age}, as its times say")
    return tick


def _vector(values: list[float | None]) -> npt.NDArray[np.float32]:
    with np.errstate(over="ignore"):  # SentAction refuses what float32 cannot hold
        return np.array([math.nan if value is None else value for value in values], dtype=np.float32)


def _damaged(path: Path, line: int, found: str, expected: str) -> RunLogError:
    return RunLogError(f"{path}:{line}: {found}.", expected=expected)
