"""What a setup says of an arm on a servo bus."""

from __future__ import annotations

from typing import Annotated

import pydantic

from .bus import TIMEOUT


class BusOptions(pydantic.BaseModel):
    """port: as /dev/ttyACM0. calibration: the arm's id in LeRobot's folder, or the path of a .json file. timeout:
    seconds that an exchange with the servos may take at most."""

    model_config = pydantic.ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)

    port: Annotated[str, pydantic.Field(min_length=1)]
    calibration: Annotated[str, pydantic.Field(min_length=1)]
    timeout: Annotated[float, pydantic.Field(gt=0, le=1)] = TIMEOUT
