"""Options of `smolpilot record` and `smolpilot demo`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from smolpilot.common.option_types import Amount, Flag, Limit, Seed, Steps

from .colors import DEFAULT_COLORS


@dataclass(frozen=True)
class RecordOptions:
    """Record demonstrations of the shipped tabletop as a LeRobot v3.0 dataset."""

    out: Path
    """Folder of the new dataset; it must not exist."""
    episodes: Amount = 300
    """Demonstrations to record. Each scene is shown twice, once for each of its blocks, so that only the
    instruction tells what to do."""
    seed: Seed = 0
    """Seed of scenes and noise: the same seed gives the same demonstrations."""
    noise: Annotated[float, Limit(0.5, least=0)] = 0.03
    """Push on the executed joint targets in rad (standard deviation per frame), so that demonstrations show
    recoveries; the dataset holds the clean action. 0 records undisturbed ones."""
    colors: tuple[str, ...] = DEFAULT_COLORS
    """Colors from which each scene draws its two blocks: red, green, blue, yellow."""
    target: str | None = None
    """Keep only the demonstrations that go to this color: a single task, in the scenes that other targets of the same
    seed and colors are recorded in. Default: each scene is shown once for each of its blocks."""
    codec: Literal["h264", "hevc", "av1"] = "h264"
    """Video codec."""
    json: Flag = False
    """Print one JSON document."""


@dataclass(frozen=True)
class DemoOptions:
    """Record, train, evaluate and roll out a tiny policy on the shipped tabletop; about seven minutes on two cores.

    Started again on the same folder, it skips finished steps and continues with the others.
    """

    out: Path = Path("demo")
    """Folder for everything the demo makes."""
    demonstrations: Amount = 500
    """Episodes that the scripted expert records."""
    steps: Steps = 1400
    """Optimizer steps."""
    rollouts: Amount = 100
    """Fresh episodes per closed-loop test."""
    seed: Seed = 0
    """Seed of recording and training."""
