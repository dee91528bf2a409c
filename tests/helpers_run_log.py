"""Run logs that no robot has written: a smooth motion in chunks, with the faults that a test asks for."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from smolpilot.common.keys import STATE, image_key
from smolpilot.contracts.robot import Flag, SentAction, Stop, StopCategory
from smolpilot.contracts.run_log import ChunkStep, RunLogHeader, Tick

FaultKind = Literal[
    "overrun",  # the loop is late by a period: the number of the tick after it is skipped
    "stale_camera",  # the images stay what they were for half a second
    "clamped",  # the policy asks for a jump of one joint, the governor lets through what its velocity limit allows
    "starved",  # the next chunk is late: the last command is held for three ticks
    "not_finite",  # the policy asks for NaN
    "stopped",  # from here on a stop is in force
]


@dataclass(frozen=True)
class Fault:
    """A fault at the tick of that number; `joint` is the clamped one."""

    kind: FaultKind
    at: int
    joint: int = 0


@dataclass(frozen=True)
class MadeUp:
    """What a made-up log is to hold, and what it was made with."""

    header: RunLogHeader
    ticks: tuple[Tick, ...]


def _made_up_header(
    names: tuple[str, ...], cameras: Sequence[str], rate: float, start: float, seed: int
) -> RunLogHeader:
    return RunLogHeader(
        robot="made_up", joints=names, units=("deg",) * len(names), rate=rate, cameras=tuple(cameras),
        started_at=datetime.datetime(2026, 11, 29, 12, 0, tzinfo=datetime.UTC), started_monotonic=start,
        policy="made_up_policy", instruction="wave", facts={"bundle": "0" * 32, "seed": seed},
    )  # fmt: skip


def made_up_run_log(
    *,
    ticks: int = 60,
    joints: Sequence[str] = ("pan", "lift", "gripper"),
    cameras: Sequence[str] = ("front", "wrist"),
    rate: float = 30.0,
    n_action_steps: int = 10,
    seam_step: float = 0.0,
    faults: Sequence[Fault] = (),
    seed: int = 0,
    header: Mapping[str, Any] | None = None,
) -> MadeUp:
    """`ticks` turns of a loop in which each joint follows a sine of its own, degrees, one chunk after the other.

    seam_step: how far a new chunk begins from where the last one ended. header: other values of its fields.
    """
    random = np.random.default_rng(seed)
    start = 1_000.0 + 100 * random.random()
    names, period = tuple(joints), 1 / rate
    amplitude, phase = random.uniform(10, 40, len(names)), random.uniform(0, 2 * np.pi, len(names))
    made = replace(_made_up_header(names, cameras, rate, start, seed), **(header or {}))
    at: dict[str, dict[int, int]] = {}
    for fault in faults:
        at.setdefault(fault.kind, {})[fault.at] = fault.joint
    found: list[Tick] = []
    measured: npt.NDArray[Any] | None = None
    last: npt.NDArray[Any] | None = None
    chunk, step, late, starving = 0, 0, 0.0, 0
    frozen: tuple[float, float] | None = None  # until, captured at
    stop: Stop | None = None
    for number in range(ticks):
        if number - 1 in at.get("overrun", {}):
            continue  # this period went by while the tick before it was at work
        due = start + number * period
        late = 0.6 * period + period if number in at.get("overrun", {}) else 0.02 * period * random.random()
        asked = amplitude * np.sin(2 * np.pi * 0.2 * number * period + phase) + seam_step * (chunk % 2)
        flags: dict[str, tuple[str, ...]] = {}
        source = "policy"
        if number in at.get("starved", {}):
            starving = 3
        if number in at.get("stopped", {}):
            stop = Stop(StopCategory.HOLD, "the operator pressed space")
        if starving and last is not None:
            starving -= 1
            source, asked, flags[Flag.STARVED] = "hold", last, ()
        commanded = asked.copy()
        if number in at.get("clamped", {}):
            joint = at["clamped"][number]
            asked = asked.copy()
            asked[joint] += 90.0
            commanded = asked.copy()
            commanded[joint] = (last if last is not None else asked)[joint] + 2.0
            flags[Flag.VELOCITY] = (names[joint],)
        if number in at.get("not_finite", {}):
            asked, flags[Flag.NOT_FINITE] = np.full(len(names), np.nan), ()
            commanded = last if last is not None else np.zeros(len(names))
        if stop is not None:
            commanded, flags[Flag.STOPPED] = (last if last is not None else commanded), ()
        image_at = due - 0.03
        if number in at.get("stale_camera", {}):
            frozen = (due + 0.5, image_at)
        if frozen is not None and due <= frozen[0]:
            image_at = frozen[1]
            if due + late - image_at > 0.2:
                flags[Flag.STALE_IMAGE] = tuple(cameras)
        measured = commanded if measured is None else measured + 0.3 * (commanded - measured)
        sent = SentAction(asked, commanded, due + late, measured, flags, stop)
        captured = {STATE: due - 0.002} | {image_key(camera): image_at for camera in cameras}
        planned = start + (number - step) * period - 0.1
        action = ChunkStep(chunk, step, planned) if source == "policy" else None
        found.append(Tick(number, sent, captured, source, action))
        last = commanded
        if source == "policy":
            step += 1
            if step == n_action_steps:
                chunk, step = chunk + 1, 0
    return MadeUp(made, tuple(found))
