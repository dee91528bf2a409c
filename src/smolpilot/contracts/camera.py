"""Camera: gives its newest image and when it was taken. A missing image is an age, never a black image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from smolpilot.common.errors import DeviceError, UsageError
from smolpilot.common.text import shown

if TYPE_CHECKING:
    from .observation import Image


@dataclass(frozen=True)
class CameraSpec:
    """What a camera gives: images `height` x `width` pixels, `fps` of them per second, known as `name`.

    UsageError for sizes and rates that are not above 0.
    """

    name: str
    height: int
    width: int
    fps: float

    def __post_init__(self) -> None:
        if not self.name:
            raise UsageError("A camera has no name.", expected="the NAME of observation.images.NAME")
        if not (self.height > 0 and self.width > 0 and 0 < self.fps < math.inf):
            raise UsageError(
                f"Camera '{self.name}' is said to give {self.width}x{self.height} pixels at {self.fps} fps.",
                expected="numbers above 0",
            )


@dataclass(frozen=True, eq=False)
class CapturedImage:
    """An image uint8 [h, w, 3], RGB, and when its light fell on the sensor, as nearly as the driver knows.

    captured_at: seconds on the monotonic clock (time.monotonic). DeviceError for another dtype or shape, or a time that
    is not a finite number.
    """

    image: Image
    captured_at: float

    def __post_init__(self) -> None:
        if not isinstance(self.image, np.ndarray) or self.image.dtype != np.uint8 or self.image.shape[2:] != (3,):
            found = (
                f"{self.image.dtype} {list(self.image.shape)}"
                if isinstance(self.image, np.ndarray)
                else type(self.image).__name__
            )
            raise DeviceError(f"A camera gave {found}.", expected="an image, uint8 [height, width, 3]")
        if not math.isfinite(self.captured_at):
            raise DeviceError(
                f"A camera's image is said to be taken at {shown(self.captured_at)}.",
                expected="seconds on the monotonic clock",
            )

    def age(self, now: float) -> float:
        """Seconds that have passed since, at `now` on the monotonic clock."""
        return now - self.captured_at


@runtime_checkable
class Camera(Protocol):
    """A camera that runs by itself: `latest` waits for nothing, so that a slow camera never slows the control loop."""

    if TYPE_CHECKING:
        # A plain attribute will do: at run time nothing is in the way of `self.spec = ...`.
        @property
        def spec(self) -> CameraSpec: ...

    def connect(self) -> None:
        """Open the camera and return when its first image is there; DeviceError when none comes."""
        ...

    def latest(self) -> CapturedImage:
        """The newest image, of the size in `spec`, however old it is: who asks decides what is too old.

        The image is not written to afterwards. DeviceError while not connected.
        """
        ...

    def disconnect(self) -> None:
        """Close the camera; without effect where it is closed."""
        ...
