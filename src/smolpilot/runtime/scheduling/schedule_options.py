"""How chunks follow each other."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

import pydantic


class Mode(StrEnum):
    """What the arm does while a chunk is computed."""

    SYNC = "sync"
    """It waits: the policy sees an arm that stands."""
    ASYNC = "async"
    """It goes on with the last chunk; the new one replaces what is left of it."""
    RTC = "rtc"
    """The same, and the new chunk is computed so that it goes on from the last one (real-time chunking)."""


class Merge(StrEnum):
    """What becomes of a chunk's first actions, whose time has passed while it was computed, and of the rest of the
    last one."""

    ALIGNED = "aligned"
    """Those whose time has passed are left out; the others replace the last chunk's."""
    BLENDED = "blended"
    """The same, and over the next steps the last chunk fades into it; not for grippers, which half-way would let go."""
    APPEND = "append"
    """All of it comes after the last chunk: for policies whose actions do not depend on when they begin. Asked for
    early, it takes the arm back to where it was asked for."""


class ScheduleOptions(pydantic.BaseModel):
    """Times in seconds; None: found by measurement, or as the policy says."""

    model_config = pydantic.ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)

    mode: Mode = Mode.SYNC
    merge: Merge = Merge.ALIGNED
    refill: Annotated[float, pydantic.Field(gt=0, le=60)] | None = None
    """Remaining playback under which the next chunk is asked for. None: what a turnaround takes, and two ticks."""
    n_action_steps: Annotated[int, pydantic.Field(ge=1, le=1_000)] | None = None
    """Execution horizon: how many actions of a chunk are meant to be executed; the rest is a reserve, which is played
    while the next chunk is late. None: as the policy says."""
    follow_through: Annotated[float, pydantic.Field(ge=0, le=1)] = 0.5
    """Share of the execution horizon that is executed before another chunk is asked for, however large `refill` is:
    who plans again and again begins each motion and ends none."""
    blend: Annotated[float, pydantic.Field(gt=0, le=5)] = 0.2
    """Over which a blended chunk fades in."""

    @pydantic.model_validator(mode="after")
    def _merges_only_async(self) -> Self:
        if self.merge is not Merge.ALIGNED and self.mode is not Mode.ASYNC:
            raise ValueError(f"merge '{self.merge}' is of mode 'async'; in '{self.mode}' chunks are aligned")
        return self
