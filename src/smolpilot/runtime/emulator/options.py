"""What can be said of emulated servos and of the faults of their bus: strict models, for specs, setups and tests."""

from __future__ import annotations

from typing import Annotated, Any

import pydantic

Share = Annotated[float, pydantic.Field(ge=0, le=1)]


class Strict(pydantic.BaseModel):
    """Frozen; unknown keys, other types, NaN and infinity are refused."""

    model_config = pydantic.ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


def _tuple(value: Any) -> Any:
    """YAML has lists."""
    return tuple(value) if isinstance(value, list) else value


class ServoOptions(Strict):
    """How the firmware of every servo behaves, where servos differ or nobody is sure."""

    goal_enables_torque: bool = True
    """Writing a goal switches torque on."""
    torque_at_power_up: bool = False
    """Torque is on as soon as there is power: the servo holds where it stands."""
    locked_eeprom_is_ram: bool = False
    """Writing the EEPROM while LOCK is set takes effect until power goes; else it is ignored."""
    phase: Annotated[int, pydantic.Field(ge=0, le=255)] = 0x0C
    """Register PHASE as it comes from the factory: unit and meaning of speeds, multi-turn."""
    voltage: Annotated[float, pydantic.Field(ge=0, le=25.5)] = 12.1
    """Of the supply, V."""
    ambient: float = 30.0
    """Degrees Celsius to which a servo cools down."""


class FaultOptions(Strict):
    """What goes wrong on the bus. Drawn from `seed`, so that the same requests meet the same faults."""

    corrupt: Share = 0.0
    """Share of the replies of which one byte is changed."""
    drop: Share = 0.0
    """Share of the requests whose reply is lost; what they ask for is done."""
    noise: Annotated[int, pydantic.Field(ge=0, le=4096)] = 0
    """Random bytes before each reply."""
    delay: Annotated[float, pydantic.Field(ge=0, le=60)] = 0.0
    """Seconds before each reply."""
    silent: Annotated[tuple[str, ...], pydantic.BeforeValidator(_tuple)] = ()
    """Joints whose servo neither hears nor answers."""
    seed: Annotated[int, pydantic.Field(ge=0)] = 0
