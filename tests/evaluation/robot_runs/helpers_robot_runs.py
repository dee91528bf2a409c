"""Folders of robot runs that no robot has left: logs of given motions, with the facts and episodes beside them."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from smolpilot.common.keys import STATE
from smolpilot.contracts.robot import Flag, SentAction, Stop, StopCategory
from smolpilot.contracts.run_folder import EPISODES, LOG, EpisodeEnd, LimitFacts, RunFacts, write_facts
from smolpilot.contracts.run_log import ChunkStep, RunLog, RunLogHeader, RunLogWriter, Tick

START = 500.0  # of the clock
ARM = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")


def header(joints: Sequence[str] = ("pan", "lift"), *, rate: float = 10.0, **changes: Any) -> RunLogHeader:
    """Of an arm in degrees."""
    started = datetime.datetime(2026, 11, 30, 12, 0, tzinfo=datetime.UTC)
    values: dict[str, Any] = {
        "robot": "made_up", "joints": tuple(joints), "units": ("deg",) * len(joints), "rate": rate,
        "started_at": started, "started_monotonic": START, **changes,
    }  # fmt: skip
    return RunLogHeader(**values)


def facts(*, rate: float = 10.0, joints: Sequence[str] = ("pan", "lift"), **changes: Any) -> RunFacts:
    """What such a run says of itself."""
    limits = tuple(
        LimitFacts(
            joint=name, unit="deg", low=(-90.0, "profile"), high=(90.0, "calibration"), velocity=(60.0, "setup"),
            acceleration=(200.0, "demonstrations"),
        )
        for name in joints
    )  # fmt: skip
    values: dict[str, Any] = {
        "policy": "runs/first/checkpoints/best", "kind": "smolvla", "digest": "0" * 32, "engine": "fast",
        "setup": "desk", "profile": "made_up", "instruction": "wave", "rate": rate, "policy_rate": rate,
        "chunk_size": 50, "n_action_steps": 10, "speed": 0.5, "dry_run": False,
        "schedule": {"mode": "async", "merge": "aligned", "refill": None}, "limits": limits, "cameras": ("front",),
        "started_at": "2026-11-30T12:00:00+00:00", "host": "desk-pc", "process": 42, "smolpilot": "0.3.0",
        "ended": "all episodes were run", **changes,
    }  # fmt: skip
    return RunFacts(**values)


def end(episode: int = 0, **changes: Any) -> EpisodeEnd:
    """An episode that the operator marked as a success."""
    values: dict[str, Any] = {
        "episode": episode, "instruction": "wave", "first_tick": None, "last_tick": None, "seconds": 2.0,
        "mark": "success", "ended": "mark", "stop": None, "chunks": 0, "late": 0, "trimmed": 0, "blended": 0,
        "starved": 0, "waited": 0, "turnarounds": (), **changes,
    }  # fmt: skip
    return EpisodeEnd(**values)


def ticks(
    commanded: npt.ArrayLike,
    *,
    rate: float = 10.0,
    first: int = 0,
    episode: int = 0,
    chunks: Sequence[int | None] | int = 0,
    captured: Mapping[int, float] | None = None,
    measured: npt.ArrayLike | None = None,
    late: Mapping[int, float] | None = None,
    skip: Sequence[int] = (),
    source: Mapping[int, str] | None = None,
    flags: Mapping[int, Mapping[str, tuple[str, ...]]] | None = None,
    stops: Mapping[int, str] | None = None,
) -> list[Tick]:
    """A tick for each row of `commanded` [T, A], numbered from `first`; all mappings are by row.

    chunks: id of the chunk of each row. captured: id of a chunk -> seconds since START when what it was planned from
    was read, 0 unless given. late: seconds after the period's begin. skip: rows that were not run. stops: from that
    row on a stop for this reason is in force.
    """
    rows = np.asarray(commanded, dtype=np.float32)
    seen = rows if measured is None else np.asarray(measured, dtype=np.float32)
    ids = [chunks] * len(rows) if isinstance(chunks, int) else list(chunks)
    found: list[Tick] = []
    begun: dict[int | None, int] = {}
    stop: Stop | None = None
    for row, values in enumerate(rows):
        begun.setdefault(ids[row], row)
        if row in (stops or {}):
            stop = Stop(StopCategory.HOLD, (stops or {})[row])
        if row in skip:
            continue
        number = first + row
        due = START + number / rate
        sent = SentAction(values, values, due + (late or {}).get(row, 0.0), seen[row], (flags or {}).get(row, {}), stop)
        id_ = ids[row]
        chunk = None if id_ is None else ChunkStep(id_, row - begun[id_], START + (captured or {}).get(id_, 0.0))
        found.append(Tick(number, sent, {STATE: due - 0.01}, (source or {}).get(row, "policy"), chunk, episode))
    return found


def log_of(made: Sequence[Tick], head: RunLogHeader | None = None, *, torn: bool = False) -> RunLog:
    """A log with these ticks, as reading one gives it."""
    return RunLog(head or header(), tuple(made), torn)


def write_run(
    folder: Path, made: Sequence[Tick], ends: Sequence[EpisodeEnd], said: RunFacts, head: RunLogHeader
) -> Path:
    """The folder of a run, as `smolpilot run` leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    write_facts(folder, said)
    with RunLogWriter(folder / LOG, head) as log:
        for tick in made:
            log.write(tick)
    text = "".join(f"{one.model_dump_json()}\n" for one in ends)
    (folder / EPISODES).write_text(text, encoding="utf-8")
    return folder


def example_run(folder: Path, *, rate: float = 60.0, seconds: float = 20.0, joints: Sequence[str] = ARM) -> Path:
    """Four episodes of an arm: a success, a failure with clamps, a stop, one without a mark; chunks of a second."""
    random = np.random.default_rng(7)
    head = header(joints, rate=rate, cameras=("front",))
    count, chunk_ticks, number = round(seconds * rate), round(rate), 0
    made: list[Tick] = []
    ends: list[EpisodeEnd] = []
    speed, phase = random.uniform(0.1, 0.35, len(joints)), random.uniform(0, 6, len(joints))
    for episode in range(4):
        time = np.arange(count) / rate
        ids = np.arange(count) // chunk_ticks
        offset = random.normal(0, 0.6, (ids[-1] + 1, len(joints)))
        commanded = 40 * np.sin(2 * np.pi * speed * time[:, None] + phase + episode) + offset[ids]
        measured = np.concatenate([commanded[:1].repeat(4, axis=0), commanded[:-4]]) + random.normal(
            0, 0.05, commanded.shape
        )
        flags: dict[int, Mapping[str, tuple[str, ...]]] = {}
        if episode == 1:
            flags |= {row: {Flag.VELOCITY: (joints[1], joints[2])} for row in range(count // 3, count // 3 + 90)}
            flags |= {row: {Flag.POSITION: (joints[3],)} for row in range(count // 2, count // 2 + 240, 2)}
        starved = range(count // 4, count // 4 + 9) if episode == 1 else ()
        flags |= {row: {Flag.STARVED: ()} for row in starved}
        late = dict(enumerate(random.gamma(1.5, 0.0004, count).tolist()))
        late[count // 5] = 0.9 / rate
        rows = ticks(
            commanded, rate=rate, first=number, episode=episode, measured=measured, flags=flags, late=late,
            chunks=[None if row in starved else 100 * episode + int(ids[row]) for row in range(count)],
            captured={100 * episode + int(one): (number + int(one) * chunk_ticks) / rate - random.uniform(0.11, 0.19)
                      for one in range(ids[-1] + 1)},
            source=dict.fromkeys(starved, "hold"), skip=[count // 2 + 7] if episode == 0 else (),
            stops={count - 60: "joint elbow_flex was 16.2 deg from its command for 0.3 s."} if episode == 2 else {},
        )  # fmt: skip
        made += rows
        ends.append(
            end(
                episode, first_tick=number, last_tick=number + count - 1, seconds=seconds,
                instruction="put the red block into the box", mark=("success", "failure", None, None)[episode],
                ended=("mark", "mark", "stop", "time")[episode],
                stop="joint elbow_flex was 16.2 deg from its command for 0.3 s." if episode == 2 else None,
                chunks=int(ids[-1]) + 1, trimmed=int(9 * ids[-1]), starved=len(starved),
                turnarounds=tuple(random.uniform(0.1, 0.18, int(ids[-1]) + 1).tolist()),
            )
        )  # fmt: skip
        number += count
    said = facts(
        rate=rate, joints=joints, policy_rate=30.0, demonstrated_jerk=dict.fromkeys(joints[:-1], 310.0),
        instruction="put the red block into the box",
    )  # fmt: skip
    return write_run(folder, made, ends, said, head)
