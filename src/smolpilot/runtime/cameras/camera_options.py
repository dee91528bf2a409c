"""What a setup says of every camera."""

from __future__ import annotations

from typing import Annotated

import pydantic

from smolpilot.contracts.camera import CameraSpec


class CameraOptions(pydantic.BaseModel):
    """Width and height in pixels, images per second; strict."""

    model_config = pydantic.ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)

    width: Annotated[int, pydantic.Field(gt=0, le=65_536)]
    height: Annotated[int, pydantic.Field(gt=0, le=65_536)]
    fps: Annotated[float, pydantic.Field(gt=0, le=10_000)]

    def spec(self, name: str) -> CameraSpec:
        """The camera's spec under the name that it has in the setup."""
        return CameraSpec(name, height=self.height, width=self.width, fps=self.fps)
