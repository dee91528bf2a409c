"""`smolpilot dataset merge DST SRC1 SRC2 …`: several datasets as one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from smolpilot.cli.parsing.verbs import Verb
from smolpilot.common.errors import UsageError
from smolpilot.common.progress import progress_bar

from .edits import Destination, EditOptions, report_results, settings_of, without_of


@dataclass(kw_only=True)
class MergeOptions(EditOptions):
    """Merge datasets of one robot: equal instructions become one task, versions may differ.

    Video packets are copied, not encoded again; the sources are only read. Other rates, robots, features or joint
    names are an error; a feature that only some of them have can be left out with --without.
    """

    dst: Destination
    """The new folder; it must not exist."""
    src: Annotated[tyro.conf.Positional[list[Path]], tyro.conf.arg(metavar="SRC")]
    """The datasets; their episodes follow one another in this order. A single one is numbered anew."""
    robot_type: str | None = None
    """The robot's name in the result, for one robot that was recorded under several names."""


def run(options: MergeOptions) -> None:
    """Write the merged dataset."""
    from smolpilot.datasets.edit import merge
    from smolpilot.datasets.format.meta import read_meta

    missing = next((path for path in options.src if not path.expanduser().exists()), None)
    if missing is not None and options.dst.expanduser().exists():
        raise UsageError(
            f"The dataset {missing} does not exist, but {options.dst} does.",
            expected="the new folder first: smolpilot dataset merge DST SRC1 SRC2 …",
        )
    without = without_of(options, *options.src)
    sources = [read_meta(path, trainable=False, without=without) for path in options.src]
    with progress_bar() as progress:
        report = merge(sources, options.dst, settings_of(options), robot_type=options.robot_type, progress=progress)
    report_results({options.dst: report}, options, sources=[str(path) for path in options.src])


VERB = Verb(MergeOptions, run)
