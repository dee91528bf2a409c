"""`Transform`: one entry of the transform list, with the forms that it may have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal

from torch import Tensor

from smolpilot.common.errors import TransformError
from smolpilot.common.statistics import Statistics

Form = Literal["numbers", "images", "instruction"]
Size = tuple[int, int]  # width, height


class Transform:
    """What every transform may do; what it leaves out it leaves as it is. Picklable, without state of its own.

    A form is whole arrays of one kind, so that a frame, a batch and a whole dataset go through the same code:
    `numbers` (and `backward`), `images` of one camera slot, `instruction`. `spec` is the transform as plain data.
    """

    name: ClassVar[str] = "transform"
    per_row: ClassVar[bool] = True
    """Whether `numbers` changes each action row by itself: not by the state, nor by the other rows of its chunk."""
    needs_state: ClassVar[bool] = False
    """Whether `numbers` and `backward` of actions cannot do without the state at the chunk's start."""
    in_processors: ClassVar[bool] = False
    """Whether LeRobot's processors of a bundle do the same to states, actions and text (see `processed`)."""

    def describe(self) -> str:
        """What it does, in a line."""
        return ""

    def numbers(self, states: Tensor, actions: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """States [B, S] and the action chunks that begin there [B, H, A], towards the network; H may be smaller."""
        return states, actions

    def backward(self, actions: Tensor, states: Tensor | None) -> Tensor:
        """Chunks [..., H, A] towards the robot. states [..., S]: as `numbers` was given them; None unless needed."""
        return actions

    def statistics(self, statistics: Statistics) -> Statistics:
        """Statistics of states and actions in robot units -> of what `numbers` makes of them, for normalization.

        TransformError where `numbers` was written and this was not: wrong statistics would be no error later.
        """
        if self.has("numbers"):
            raise TransformError(
                f"The transform '{self.name}' changes states or actions, and does not say what becomes of their "
                "statistics.",
                expected="the statistics of the changed numbers, which normalization reads",
                fix=f"implement {type(self).__name__}.statistics",
            )
        return statistics

    def images(self, images: Tensor, slot: str) -> Tensor:
        """Images of one camera slot, float32 [n, 3, h, w]; in [0, 1] before the `cameras` transform."""
        return images

    def image_size(self, size: Size) -> Size:
        """(width, height) of what `images` makes of images of this size."""
        return size

    def instruction(self, instruction: str) -> str:
        """An instruction before it becomes tokens."""
        return instruction

    def spec(self) -> dict[str, Any] | None:
        """All that it depends on, as JSON has it; None where that is not said: then nothing is exported or cached."""
        return None

    def has(self, form: Form) -> bool:
        """Whether this transform has the form, or leaves such data as it is."""
        own: Callable[..., Any] = getattr(type(self), form)
        return own is not getattr(Transform, form)
