"""Options of `smolpilot record`; the field docs are the help text."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from smolpilot.common.option_types import Amount, AtLeastOne, Flag, Limit, Pairs, Seed


@dataclass(frozen=True)
class RecordOptions:
    """Record demonstrations of an environment's own expert as a LeRobot v3.0 dataset."""

    out: Path
    """Folder of the new dataset; it must not exist."""
    env: str = "tabletop"
    """Environment with an expert, or NAME/TASK for one of its tasks: `tabletop`, which needs nothing, `aloha` and
    `so101` (inverse kinematics), `metaworld/TASK` (its scripted policies, see --env-python), `pusht` (its 206 recorded
    episodes of people, drawn again)."""
    env_settings: Pairs = field(default_factory=dict)
    """Settings of the environment, as `task=insertion shadows=false`; the dataset keeps them."""
    expert: Flag = False
    """Let the environment's own expert demonstrate: said for clarity, since nobody else does."""
    episodes: Amount | None = None
    """Demonstrations to record. Default: 300 of the tabletop, where each scene is shown twice, once for each of its
    blocks, so that only the instruction tells what to do; PushT's 206 (from --seed on); 50 elsewhere."""
    seed: Seed = 0
    """Seed of scenes and noise: the same seed gives the same demonstrations. Of PushT: the first recorded episode."""
    noise: Annotated[float, Limit(0.5, least=0)] | None = None
    """Push on the executed actions in their own unit (standard deviation per frame), so that demonstrations show
    recoveries; the dataset holds the clean action. 0 records undisturbed ones. Default: 0.03 rad for the tabletop,
    0.005 rad for ALOHA, 0.3 degrees for SO-101, else 0."""
    vary_timing: Annotated[float, Limit(0.5, least=0)] | None = None
    """How much an expert's pace varies between episodes, as 0.1 for up to 10 % faster or slower. Default: 0.1 for
    ALOHA and SO-101; the experts of the tabletop and of Meta-World have no pace."""
    keep_failures: Flag = False
    """Keep the demonstrations that did not succeed, too."""
    colors: tuple[str, ...] | None = None
    """Colors from which each scene of the tabletop draws its two blocks: red, green, blue, yellow. Default: red and
    blue."""
    target: str | None = None
    """Keep only the demonstrations that go to this color of the tabletop: a single task, in the scenes that other
    targets of the same seed and colors are recorded in. Default: each scene is shown once for each of its blocks."""
    jobs: AtLeastOne = 1
    """Processes; the dataset is the same for any number of them."""
    env_python: Path | None = None
    """Interpreter that has the simulation, where smolpilot's has not: see `smolpilot env install`."""
    codec: Literal["h264", "hevc", "av1"] = "h264"
    """Video codec."""
    json: Flag = False
    """Print one JSON document."""
