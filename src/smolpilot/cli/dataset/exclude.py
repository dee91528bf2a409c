"""`smolpilot dataset exclude SRC DST --episodes LIST`: a copy without some episodes."""

from __future__ import annotations

from dataclasses import dataclass

from smolpilot.cli.parsing.verbs import Verb
from smolpilot.common.progress import progress_bar

from .edits import CopyOptions, EditOptions, report_results, settings_of, without_of


@dataclass(kw_only=True)
class ExcludeOptions(EditOptions, CopyOptions):
    """Copy a dataset without some of its episodes; the others are numbered 0, 1, … in their order.

    Video packets are copied, not encoded again.
    """

    episodes: str
    """The episodes to leave out, such as 3,7-9."""


def run(options: ExcludeOptions) -> None:
    """Write the copy."""
    from smolpilot.datasets.edit import exclude
    from smolpilot.datasets.format.meta import read_meta
    from smolpilot.datasets.splits import parse_episodes

    meta = read_meta(options.src, trainable=False, without=without_of(options, options.src))
    chosen = parse_episodes(options.episodes, meta)
    with progress_bar() as progress:
        report = exclude(meta, options.dst, chosen, settings_of(options), progress=progress)
    report_results({options.dst: report}, options, source=str(options.src), excluded=chosen)


VERB = Verb(ExcludeOptions, run)
