"""Options of `smolpilot bench`; the field docs are the help text. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from smolpilot.common.option_types import Amount, AtLeastOne, Flag, Pairs
from smolpilot.evaluation.eval_options import EngineName, Source

LEROBOT = "lerobot"


@dataclass(frozen=True)
class BenchOptions:
    """Measure how long a chunk takes: of a SmolVLA policy by engine, and how far each engine is from the plain network;
    of other policies beside it."""

    policy: Source
    """Bundle, checkpoint of LeRobot (SmolVLA, ACT ...) or export folder, hub id, or a name that `smolpilot plugins`
    lists."""
    against: tuple[str, ...] = ()
    """Also measure these, taking turns in this process: `lerobot` (LeRobot with the same weights, in float32 and as it
    builds them), and other policies, each named as POLICY is."""
    engine: tuple[EngineName, ...] = ()
    """Engines of a SmolVLA policy to measure: plain (the network without engine), exact, fast, int8. Default: all but
    int8."""
    dataset: Path | None = None
    """Dataset whose frames are used. Default: made-up frames, which take the same time."""
    camera_map: Pairs = field(default_factory=dict)
    """Which camera of the dataset fills which camera slot, as `top=camera1`; `side=none` leaves one out.
    Default: the policy's own map and equal names."""
    cameras: AtLeastOne | None = None
    """How many of the policy's cameras deliver images, the first ones; the others are masked. Default: all."""
    num_steps: AtLeastOne | None = None
    """Denoising steps. Default: the policy's own."""
    repeats: Amount = 10
    """Chunks per engine, each from another frame; two more to warm up are not counted."""
    precision: str = "auto"
    """What `fast` computes in: auto, float32, bfloat16, float16."""
    backend: str = "auto"
    """What computes: auto, or the name of one."""
    policy_stats_from: Path | None = None
    """Dataset whose statistics replace the policy's own, for a checkpoint without usable ones."""
    tokenizer: Path | None = None
    """Folder with the tokenizer, for a checkpoint that names one by hub id."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`."""
    json: Flag = False
    """Print one JSON document to standard output, and nothing else there."""
