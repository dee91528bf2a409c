"""What every environment checks of an action before it acts on it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from smolpilot.common.errors import UsageError
from smolpilot.common.text import shown


def checked_action(action: npt.ArrayLike, size: int) -> npt.NDArray[np.float64]:
    """The action [size] as float64; UsageError for another shape, for NaN and infinity, for what is no numbers."""
    try:
        values = np.asarray(action, dtype=np.float64)
    except (TypeError, ValueError):
        raise UsageError(f"The action is {shown(action)}.", expected=f"{size} numbers, one for each joint") from None
    if values.shape != (size,):
        raise UsageError(f"The action has shape {values.shape}.", expected=f"({size},): one target per joint")
    if not np.isfinite(values).all():
        raise UsageError(
            f"The action {shown(values.tolist())} is not finite.", fix="check the policy's statistics and weights"
        )
    return values
