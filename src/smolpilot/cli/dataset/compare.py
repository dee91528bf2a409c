"""`smolpilot dataset compare A B`: whether two datasets hold the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from smolpilot.cli.parsing.verbs import Verb
from smolpilot.common.machine import cores
from smolpilot.common.option_types import AnyAmount, Few, Flag, Size
from smolpilot.common.progress import progress_bar
from smolpilot.common.text import json_text, pluralize

from .proof import print_proof

if TYPE_CHECKING:
    from smolpilot.datasets.copy.proof.comparison import Comparison


@dataclass
class CompareOptions:
    """Compare two datasets of any LeRobot version: values, video packets, boundary frames, tasks, statistics."""

    a: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="A")]
    """A dataset folder."""
    b: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="B")]
    """Another dataset folder."""
    jobs: Few = 0
    """Threads, or processes for large datasets; 0 takes one per core."""
    tolerance: Size = 1e-5
    """Relative tolerance of statistics, beside the rounding of their writers."""
    first: AnyAmount = 10
    """How many differences are printed."""
    json: Flag = False
    """Print one JSON document."""


def run(options: CompareOptions) -> int:
    """Compare; 1 when something differs."""
    from smolpilot.datasets.compare import compare

    with progress_bar() as progress:
        result = compare(
            options.a, options.b, jobs=options.jobs or cores(), tolerance=options.tolerance, progress=progress
        )
    if options.json:
        print(json_text({"a": str(options.a), "b": str(options.b), **result.to_json()}))
    else:
        _print(result, options)
    return 0 if result.equal else 1


def _print(result: Comparison, options: CompareOptions) -> None:
    print_proof(result, f"{options.a} and {options.b}")
    for note in result.notes:
        print(f"note: {note}")
    if result.equal:
        print("Equal.")
        return
    print(f"{pluralize(len(result.differences), 'difference')}:")
    for difference in result.differences[: options.first]:
        print(f"  {difference}")
    if len(result.differences) > options.first:
        print(f"  … {len(result.differences) - options.first} more (--first {len(result.differences)})")
    if result.content_equal:
        print("Equal in content (values, packets, images, instructions): only statistics differ.")


VERB = Verb(CompareOptions, run)
