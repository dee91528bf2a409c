"""A control loop without time, devices or processes: a schedule, a policy that takes a while, an arm that lags."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from smolpilot.runtime.scheduling import Ask, Due, Mode, PlannedChunk, Schedule, ScheduleOptions

type Chunk = npt.NDArray[np.float64]
type Plan = Callable[[float, float, Ask], Chunk]
"""(position at the capture, seconds at the capture, request) -> chunk [H, 1]."""


@dataclass
class Run:
    """What happened: per tick the command (NaN where none was given) and what was due; the requests made."""

    commands: list[float] = field(default_factory=list)
    due: list[Due] = field(default_factory=list)
    asked: list[tuple[int, Ask]] = field(default_factory=list)
    used: list[tuple[int, int]] = field(default_factory=list)  # tick, id

    @property
    def played(self) -> npt.NDArray[np.float64]:
        values = np.array(self.commands)
        return values[np.isfinite(values)]

    @property
    def steps(self) -> list[tuple[int, int]]:
        """(chunk, step) of each action that was played."""
        return [(one.knot.chunk, one.knot.step) for one in self.due if one.knot is not None]


def schedule(
    *, chunk: int = 20, horizon: int = 10, rate: float = 10.0, control: float | None = None, grippers: Any = (),
    **options: Any,
) -> Schedule:  # fmt: skip
    options = {"mode": Mode.ASYNC} | options
    return Schedule(
        ScheduleOptions(**options), chunk_size=chunk, n_action_steps=horizon, policy_rate=rate,
        control_rate=control or rate, grippers=grippers,
    )  # fmt: skip


def play(
    made: Schedule,
    plan: Plan,
    *,
    ticks: int,
    turnaround: float | Callable[[int], float],
    control: float = 10.0,
    lag: float = 0.0,
) -> Run:
    """turnaround: seconds, or request number -> seconds. lag: share of its way that the arm stays behind each tick."""
    run, position = Run(), 0.0
    busy: list[tuple[float, int, Chunk, float]] = []
    takes = turnaround if callable(turnaround) else lambda _: turnaround
    for tick in range(ticks):
        now = tick / control
        for one in [one for one in busy if one[0] <= now + 1e-9]:
            busy.remove(one)
            arrived = PlannedChunk(one[1], one[2], one[3], one[3], now)
            if made.arrived(arrived):
                run.used.append((tick, one[1]))
        due = made.tick(now)
        ask = made.wanted(now)
        if ask is not None:
            run.asked.append((tick, ask))
            busy.append((now + takes(len(run.asked) - 1), ask.id, plan(position, now, ask), now))
        command = float("nan") if due.knot is None else float(due.knot.action[0])
        run.commands.append(command)
        run.due.append(due)
        if due.knot is not None:
            position = lag * position + (1 - lag) * command
    return run


def onward(speed: float = 1.0, size: int = 20) -> Plan:
    """A policy that moves on from where it sees the arm, at a constant speed per step."""
    return lambda position, now, ask: _column(position + speed * np.arange(1, size + 1))


def along(curve: Callable[[Chunk], Chunk], size: int = 20) -> Plan:
    """A policy that knows where in its motion it is: `curve` of steps, which begins with its first action."""
    return lambda position, now, ask: _column(curve(_column(ask.place + np.arange(size))[:, 0]))


def _column(values: npt.NDArray[np.floating[Any]]) -> Chunk:
    return np.asarray(values, dtype=np.float64).reshape(-1, 1)
