"""`smolpilot dataset split SRC DST --parts train=0.8 val=0.2`: one dataset as several."""

from __future__ import annotations

from dataclasses import dataclass, field

from smolpilot.cli.parsing.verbs import Verb
from smolpilot.common.option_types import Pairs, Seed
from smolpilot.common.progress import progress_bar

from .edits import CopyOptions, EditOptions, report_results, settings_of, without_of


@dataclass(kw_only=True)
class SplitOptions(EditOptions, CopyOptions):
    """Split a dataset by episodes into folders of their own: DST/train, DST/val, …

    Video packets are copied, not encoded again.
    """

    parts: Pairs = field(default_factory=dict)
    """Shares of each task, as in train=0.8 val=0.2, or lists of episodes, as in val=0,3-5 train=rest."""
    seed: Seed = 0
    """Which episodes a share takes: the same seed, the same episodes."""


def run(options: SplitOptions) -> None:
    """Write the parts."""
    from smolpilot.datasets.edit import plan_parts, split
    from smolpilot.datasets.format.meta import read_meta
    from smolpilot.datasets.splits import episode_ranges

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


VERB = Verb(SplitOptions, run)
