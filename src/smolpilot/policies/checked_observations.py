"""What policies other than SmolVLA take out of an observation, checked: state, cameras, instruction. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from smolpilot.common.errors import TransformError, UsageError
from smolpilot.common.keys import STATE, TASK
from smolpilot.common.text import shown
from smolpilot.contracts.observation import Floats, Observation
from smolpilot.contracts.policy import Leftover
from smolpilot.smolvla.transforms.frame_cameras import camera_key


def read_state(observation: Observation, width: int, names: Sequence[str] = ()) -> Floats:
    """The state float32 [S]; TransformError where it is missing, of another length than `width`, or not finite."""
    if STATE not in observation:
        raise TransformError(
            f"The observation has no '{STATE}'; it holds {', '.join(map(shown, sorted(map(str, observation))))}.",
            expected=f"the {width} joint values that the robot reads",
        )
    try:
        state = np.asarray(observation[STATE], dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise TransformError(f"'{STATE}' holds no numbers: {error}", expected=f"{width} joint values") from None
    if state.shape != (width,):
        said = f" ({', '.join(names)})" if names else ""
        raise TransformError(f"'{STATE}' has shape {list(state.shape)}.", expected=f"[{width}]: {width} joints{said}")
    bad = np.flatnonzero(~np.isfinite(state))
    if len(bad):
        joint = f"'{names[bad[0]]}'" if len(names) == width else str(bad[0])
        raise TransformError(
            f"The state of joint {joint} is not finite ({state[bad[0]]}).",
            expected="finite numbers",
            fix="look at where it comes from",
        )
    return state


def read_image(observation: Observation, camera: str) -> Any:
    """The image [h, w, 3] of a camera in 0..255, uint8 or (from floats [3, h, w] in [0, 1]) float32; TransformError."""
    image = np.asarray(observation[camera_key(observation, camera)])
    what = f"The image of camera '{camera}' is {image.dtype} {list(image.shape)}"
    expected = "uint8 [h, w, 3], or float [3, h, w] in [0, 1]"
    if image.dtype == np.uint8:
        if image.ndim != 3 or image.shape[2] != 3:
            raise TransformError(f"{what}.", expected=expected)
        return image
    if image.dtype.kind != "f" or image.ndim != 3 or image.shape[0] != 3:
        raise TransformError(f"{what}.", expected=expected)
    # Written so that NaN fails too.
    if not (image.min() >= 0 and image.max() <= 1):
        raise TransformError(f"{what} with values from {image.min():g} to {image.max():g}.", expected=expected)
    return image.transpose(1, 2, 0).astype(np.float32) * 255


def read_instruction(observation: Observation) -> str:
    """The instruction; TransformError where it is missing, no text, or empty."""
    text = observation.get(TASK)
    if not isinstance(text, str):
        found = "has no 'task'" if text is None else f"has the 'task' {shown(text)}"
        raise TransformError(f"The observation {found}.", expected="the instruction as text under 'task'")
    if not text.strip():
        raise TransformError("The instruction ('task') is empty.", expected="what the robot is to do, as text")
    return text


def refuse_previous(previous: Leftover | None, name: str) -> None:
    """UsageError where a chunk is to go on from the last one, for a policy that cannot (it is not GUIDED)."""
    if previous is not None:
        raise UsageError(
            f"previous is given, but {name} cannot be pulled towards the last chunk.",
            expected="a policy with the capability 'guided', such as the engine's",
        )
