"""What a copy of a dataset did, and its proof."""

from __future__ import annotations

from dataclasses import dataclass, field

from .comparison import Comparison


@dataclass
class CopyReport:
    """What was done: `proof` compares the sources with the result; `off_video` is in seconds.

    `carried` and `computed` are features whose statistics are the source's or were computed from the content (of some
    episodes or of all); `notes` say what is otherwise in the result than in the source, and why. `image_difference`
    is the largest mean absolute difference, of 255, that encoding again made to the first or last image of an
    episode.
    """

    episodes: int = 0
    frames: int = 0
    resumed: int = 0
    parts: int = 0
    reencoded: list[str] = field(default_factory=list)
    image_difference: float = 0.0
    computed: list[str] = field(default_factory=list)
    carried: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    off_video: float = 0.0
    not_finite: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    proof: Comparison = field(default_factory=Comparison)
