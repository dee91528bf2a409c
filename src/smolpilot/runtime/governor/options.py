"""When the governor holds, clamps or stops: ages, bands and times, each with a default."""

from __future__ import annotations

from typing import Annotated

import pydantic

_Seconds = Annotated[float, pydantic.Field(gt=0, le=60)]
_Share = Annotated[float, pydantic.Field(gt=0, le=1)]
_Count = Annotated[int, pydantic.Field(ge=1, le=1_000)]


class GovernorOptions(pydantic.BaseModel):
    """`governor:` of a setup. Times in seconds, shares of 1; what is beyond a maximum stops the arm."""

    model_config = pydantic.ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)

    max_state_age: _Seconds = 0.15
    """Of the joints' reading."""
    max_image_age: _Seconds = 0.5
    """Of the newest image of each camera, while a source sees them."""
    max_chunk_age: _Seconds = 3.0
    """Of the observation that an action was planned from."""
    max_action_age: _Seconds = 0.25
    """Of what a person or a program asks for."""
    max_starved: _Seconds = 0.5
    """Without any action; the arm slows down at once, and the stop is latched after this time."""
    ramp_share: _Share = 0.25
    """Of velocity and acceleration on the way to the first action."""
    max_rejected: _Count = 3
    """Requests in a row that are not finite or of the wrong length."""
    position_stop: _Share = 0.25
    """Of a joint's range: a request that is farther outside is no small error (wrong unit, wrong joint)."""
    position_tolerated: _Share = 0.05
    """Of a joint's range: a request that is no farther outside is clamped, and does not count as clamped."""
    clamp_window: _Seconds = 2.0
    """Over which clamped ticks are counted; longer for a joint that takes longer to cross its range."""
    max_clamped: _Share = 0.9
    """Of the ticks in that window."""
    repeated: _Count = 3
    """Readings in a row that must show a fault, so that one disturbed reading stops nothing."""
    temperature_margin: Annotated[float, pydantic.Field(ge=0, le=50)] = 5.0
    """Degrees below the limit at which the servo switches itself off."""
    stall_error: _Share = 0.03
    """Of the range between command and measurement."""
    stall_speed: _Share = 0.02
    """Of the range per second: slower is standing."""
    stall_current: Annotated[float, pydantic.Field(gt=0, le=100)] = 0.8
    """A: more is pushing."""
    stall_load: _Share = 0.6
    """Of what the motor can give: pushing, where the bus tells no current."""
    stall_time: _Seconds = 0.5
    """That all of this lasts."""
    gripper_hold: _Share = 0.5
    """Of a gripper's torque limit, once it has closed on something."""
