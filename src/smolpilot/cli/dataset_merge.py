"""`smolpilot dataset merge DST SRC1 SRC2 …`: several recordings as one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from smolpilot.common.errors import UsageError

from .edit_options import EditOptions, report_results, settings_of, without_of
from .options import parse


@dataclass
class MergeOptions(EditOptions):
    """Join recordings of one robot: equal instructions become one task, versions may differ.

    Video packets are copied, not encoded again; the sources are only read. Other rates, robots, features or joint
    names are an error; a feature that only some of them have can be left out with --without.
    """

    dst: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DST")]
    """The new folder; it must not exist yet."""
    src: Annotated[tyro.conf.Positional[list[Path]], tyro.conf.arg(metavar="SRC")]
    """The recordings; their episodes follow one another in this order. A single one is numbered anew."""
    robot_type: str | None = None
    """The robot's name in the result, for one robot that was recorded under several names."""


def main(args: list[str]) -> int:
    """Run `smolpilot dataset merge …`."""
    options = parse(MergeOptions, args, verb="dataset merge")
    from smolpilot.datasets.edit import merge
    from smolpilot.datasets.format.meta import read_meta

    from .progress import progress_bar

    missing = next((path for path in options.src if not path.expanduser().exists()), None)
    if missing is not None and options.dst.expanduser().exists():
        raise UsageError(
            f"The recording {missing} does not exist, but {options.dst} does.",
            expected="the new folder first: smolpilot dataset merge DST SRC1 SRC2 …",
        )
    without = without_of(options, *options.src)
    sources = [read_meta(path, trainable=False, without=without) for path in options.src]
    with progress_bar() as progress:
        report = merge(sources, options.dst, settings_of(options), robot_type=options.robot_type, progress=progress)
    report_results({options.dst: report}, options, sources=[str(path) for path in options.src])
    return 0
