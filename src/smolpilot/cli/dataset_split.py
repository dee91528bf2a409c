"""`smolpilot dataset split SRC DST --parts train=0.8 val=0.2`: one recording as several."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from smolpilot.common.errors import check_seed
from smolpilot.option_types import Pairs, Seed

from .edit_options import EditOptions, report_results, settings_of, without_of
from .options import parse


@dataclass
class SplitOptions(EditOptions):
    """Split a recording by episodes into folders of their own: DST/train, DST/val, …

    Video packets are copied, not encoded again; the source is only read.
    """

    src: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SRC")]
    """The recording: the folder with meta/, data/ and videos/."""
    dst: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DST")]
    """The new folder, in which each part is a folder; it must not exist yet."""
    parts: Pairs = field(default_factory=dict)
    """Shares of each task, as in train=0.8 val=0.2, or lists of episodes, as in val=0,3-5 train=rest."""
    seed: Seed = 0
    """Which episodes a share takes: the same seed, the same episodes."""


def main(args: list[str]) -> int:
    """Run `smolpilot dataset split …`."""
    options = parse(SplitOptions, args, verb="dataset split")
    check_seed(options.seed)
    from smolpilot.datasets.edit import plan_parts, split
    from smolpilot.datasets.format.meta import read_meta
    from smolpilot.datasets.splits import episode_ranges

    from .progress import progress_bar

    meta = read_meta(options.src, trainable=False, without=without_of(options, options.src))
    parts = plan_parts(meta, options.parts, seed=options.seed)
    with progress_bar() as progress:
        reports = split(meta, options.dst, parts, settings_of(options), progress=progress)
    report_results(
        {options.dst / name: report for name, report in reports.items()},
        options,
        source=str(options.src),
        parts=parts.episodes,
        left_out=parts.left_out,
    )
    if not options.json:
        for name, episodes in parts.episodes.items():
            print(f"  {name}: episodes {episode_ranges(episodes)} of {options.src}")
        if parts.left_out:
            print(f"  in no part: episodes {episode_ranges(parts.left_out)}")
    return 0
