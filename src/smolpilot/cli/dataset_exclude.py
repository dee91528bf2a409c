"""`smolpilot dataset exclude SRC DST --episodes LIST`: a copy without some episodes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from .edit_options import EditOptions, report_results, settings_of, without_of
from .options import parse


@dataclass
class ExcludeOptions(EditOptions):
    """Copy a recording without some of its episodes; the others are numbered 0, 1, … in their order.

    Video packets are copied, not encoded again; the source is only read.
    """

    src: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SRC")]
    """The recording: the folder with meta/, data/ and videos/."""
    dst: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DST")]
    """The new folder; it must not exist yet."""
    episodes: str
    """The episodes to leave out, such as 3,7-9."""


def main(args: list[str]) -> int:
    """Run `smolpilot dataset exclude …`."""
    options = parse(ExcludeOptions, args, verb="dataset exclude")
    from smolpilot.datasets.edit import exclude
    from smolpilot.datasets.format.meta import read_meta
    from smolpilot.datasets.splits import parse_episodes

    from .progress import progress_bar

    meta = read_meta(options.src, trainable=False, without=without_of(options, options.src))
    chosen = parse_episodes(options.episodes, meta)
    with progress_bar() as progress:
        report = exclude(meta, options.dst, chosen, settings_of(options), progress=progress)
    report_results({options.dst: report}, options, source=str(options.src), excluded=chosen)
    return 0
