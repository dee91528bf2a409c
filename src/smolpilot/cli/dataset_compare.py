"""`smolpilot dataset compare A B`: whether two recordings hold the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from smolpilot.common.text import pluralize
from smolpilot.option_types import Amount, Few, Size

from .options import parse

if TYPE_CHECKING:
    from smolpilot.datasets.copy.proof.comparison import Comparison


@dataclass
class CompareOptions:
    """Compare two recordings of any LeRobot version: values, video packets, boundary frames, tasks, statistics."""

    a: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="A")]
    """A dataset folder."""
    b: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="B")]
    """Another dataset folder."""
    jobs: Few = 0
    """Threads, or processes for large recordings; 0 takes one per core."""
    tolerance: Size = 1e-5
    """Relative tolerance of statistics, beside the rounding of their writers."""
    first: Amount = 10
    """How many differences are printed."""
    json: bool = False
    """Print one JSON document instead of a table."""


def main(args: list[str]) -> int:
    """Run `smolpilot dataset compare`; 1 when something differs."""
    return _compare(parse(CompareOptions, args, verb="dataset compare"))


def _compare(options: CompareOptions) -> int:
    from smolpilot.common.errors import UsageError
    from smolpilot.datasets.compare import compare

    from .dataset_convert import cores
    from .progress import progress_bar

    if options.jobs < 0:
        raise UsageError(f"--jobs is {options.jobs}.", expected="0 (one per core) or more")
    if not options.tolerance >= 0:
        raise UsageError(f"--tolerance is {options.tolerance}.", expected="0 or more")
    if options.first < 0:
        raise UsageError(f"--first is {options.first}.", expected="0 or more")
    with progress_bar() as progress:
        result = compare(
            options.a, options.b, jobs=options.jobs or cores(), tolerance=options.tolerance, progress=progress
        )
    if options.json:
        import json

        print(json.dumps({"a": str(options.a), "b": str(options.b), **result.to_json()}, indent=2))
        return 0 if result.equal else 1
    print_table(result, f"{options.a} and {options.b}")
    for note in result.notes:
        print(f"note: {note}")
    if result.equal:
        print("Equal.")
        return 0
    print(f"{pluralize(len(result.differences), 'difference')}:")
    for difference in result.differences[: options.first]:
        print(f"  {difference}")
    if len(result.differences) > options.first:
        print(f"  … {len(result.differences) - options.first} more (--first {len(result.differences)})")
    if result.content_equal:
        print("Equal in content (values, packets, pictures, instructions): only statistics differ.")
    return 1


def print_table(result: Comparison, title: str) -> None:
    """The table of checks."""
    rows = [("check", "compared", "differ", "what")]
    for row in result.table():
        again = f" ({row['encoded_again']:,} more encoded again, not equal)" if row["encoded_again"] else ""
        rows.append((row["check"], f"{row['compared']:,}", f"{row['differences']:,}", row["what"] + again))
    print(f"\n{title}")
    for name, compared, differences, what in rows:
        print(f"  {name:<12} {compared:>12} {differences:>7}  {what}")
    if result.not_compared:
        print("Not compared:")
    for text in result.not_compared:
        print(f"  {text}")
    print()
