"""What the control process shows to the process with the terminal, some times a second, and what it is told by keys."""

from __future__ import annotations

from enum import StrEnum

import pydantic


class Phase(StrEnum):
    """What the run is doing."""

    READY = "ready"
    """The arm is held; Enter moves it to the start pose, or where there is none starts the episode."""
    APPROACH = "approach"
    """On the way to the start pose."""
    AT_START = "at start"
    """Held at the start pose; Enter starts the episode."""
    RUNNING = "running"
    STOPPED = "stopped"
    """A stop is in force: the arm is held; Enter re-arms it."""
    PARKING = "parking"
    ENDED = "ended"


class Key(StrEnum):
    """What a person says, one line each on the way to the control process."""

    STOP = "stop"
    ENTER = "enter"
    SUCCESS = "success"
    FAILURE = "failure"
    QUIT = "quit"
    HELD = "held"
    """The key of --hold-to-run was seen (again)."""
    GONE = "gone"
    """No key: the terminal was closed, and nobody can say anything any more."""


class Snapshot(pydantic.BaseModel):
    """One moment of a run. Positions are in the joints' units, times in seconds; NaN and None: not known.

    measured, commanded, low, high [A]; planned [L][A]: the actions ahead, one policy step apart. clamped: joint ->
    ticks in this episode. late_ms: 99 % of the newest ticks began at most so late. achieved: ticks per second. queued:
    playback that is left. turnaround: of the newest chunk; waiting: since the request that is not answered yet.
    """

    # NaN as null would not be read back as a number.
    model_config = pydantic.ConfigDict(frozen=True, ser_json_inf_nan="constants")

    phase: Phase
    dry_run: bool
    episode: int
    episodes: int
    seconds: float
    of_seconds: float | None
    instruction: str
    schedule: str
    rate: float
    achieved: float | None
    late_ms: float | None
    missed: int
    starved: int
    queued: float
    turnaround: float | None
    waiting: float | None
    observation_age: float | None
    chunk_age: float | None
    joints: list[str]
    units: list[str]
    low: list[float]
    high: list[float]
    measured: list[float]
    commanded: list[float]
    planned: list[list[float]]
    clamped: dict[str, int]
    temperatures: list[float | None]
    camera_ages: dict[str, float | None]
    stop: str | None
    marks: list[str | None]
    """What was said of the episodes before this one: success, failure, or nothing."""
    hold_to_run: str | None
    """The key that has to be held, None where none has to."""
    policy_alive: bool
    notice: str | None = None
    """Why nothing came of the last key, where nothing did."""
