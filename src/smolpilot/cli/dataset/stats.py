"""`smolpilot dataset stats PATH`: statistics per joint, stored and computed anew."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smolpilot.cli.parsing.tables import table
from smolpilot.cli.parsing.verbs import Verb
from smolpilot.common.atomic import refuse_existing, write_text_atomic
from smolpilot.common.machine import cores
from smolpilot.common.option_types import Few, Flag
from smolpilot.common.progress import progress_bar
from smolpilot.common.text import LIMIT, json_text, plain, pluralize

from .edits import LookOptions

if TYPE_CHECKING:
    from smolpilot.datasets.statistics.report import StatisticsReport

_SHOWN = ("mean", "std", "min", "max", "q01", "q99")


@dataclass(kw_only=True)
class StatsOptions(LookOptions):
    """Show the statistics of a dataset per joint and camera, and whether they are those of its data.

    A dataset is never changed: `smolpilot dataset repair` writes a copy with correct statistics.
    """

    recompute: Flag = False
    """Compute them from the data, too, and compare: exit code 1 when stored ones are wrong beyond tolerance."""
    jobs: Few = 0
    """Threads for --recompute; 0 takes one per core. The numbers do not depend on it."""
    out: Path | None = None
    """Write the computed statistics into this new file, in the form of LeRobot's meta/stats.json."""


def run(options: StatsOptions) -> int:
    """Print the statistics; 1 when stored ones are wrong."""
    from smolpilot.datasets.statistics.report import report_statistics

    if options.out is not None:
        refuse_existing(options.out, "files", options.path.expanduser())
    compute = options.recompute or options.out is not None
    with progress_bar() as progress:
        report = report_statistics(
            options.path, robot=options.robot, recompute=compute, jobs=options.jobs or cores(), progress=progress
        )
    if options.out is not None and report.data is not None:
        from smolpilot.common.statistics import statistics_to_json

        write_text_atomic(options.out, statistics_to_json(report.data))
    if options.json:
        print(json_text(report.to_json()))
    else:
        _print(report, options.out)
    return 1 if report.wrong else 0


def _print(report: StatisticsReport, out: Path | None) -> None:
    from rich.text import Text

    from smolpilot.common.terminal import Terminal
    from smolpilot.datasets.statistics.recompute import is_index

    # Into a file or pipe tables are written as wide as they are.
    console = Terminal(width=None if sys.stdout.isatty() else 180)
    meta, data = report.meta, report.data
    console.print(
        Text.assemble(
            (str(meta.root), "bold"),
            f": {pluralize(meta.total_frames, 'frame')} of {pluralize(len(meta.episodes), 'episode')}",
        )
    )
    for note in report.notes:
        console.print(note, soft_wrap=True)
    for name in meta.features:
        if not is_index(name) and (name in meta.statistics or (data is not None and name in data)):
            console.print()
            console.print(_table(report, name))
    if data is None:
        print("\nThese are the stored statistics; --recompute compares them with the data.")
        return
    _print_verdict(report)
    if out is not None:
        print(f"{out}: the computed statistics")


def _table(report: StatisticsReport, name: str) -> Any:
    stored, data = report.meta.statistics.get(name, {}), (report.data or {}).get(name)
    units = report.units.get(name)
    shown = [stat for stat in _SHOWN if stat in stored or (data is not None and stat in data)]
    camera = any(name == camera.key for camera in report.meta.cameras.values())
    unit_column = ["unit"] if camera or units is not None else []
    numbers = [*shown, *([] if data is None else ["largest difference"])]
    rows = table("channel" if camera else "joint", *unit_column, *numbers, numbers=numbers, title=plain(name, LIMIT))
    wrong = {(entry.place, entry.stat) for entry in report.wrong if entry.feature == name}
    for i, joint in enumerate(report.joints(name)):
        unit = ["of 0 to 1"] if camera else [units[i] or "not stated"] if units is not None else []
        cells = [
            _cell(stored.get(stat), None if data is None else data.get(stat), i, (i, stat) in wrong) for stat in shown
        ]
        rows.add_row(plain(joint, LIMIT), *unit, *cells, *([] if data is None else [_largest(stored, data, i)]))
    return rows


def _cell(stored: Any, data: Any, i: int, wrong: bool) -> Any:
    from rich.text import Text

    value = _number(stored, i)
    if data is None or (not wrong and stored is not None):
        return value
    return Text.assemble((value, "red"), f" data {_number(data, i)}") if wrong else f"data {_number(data, i)}"


def _number(values: Any, i: int) -> str:
    return "none" if values is None or i >= values.size else f"{values.ravel()[i]:.4g}"


def _largest(stored: dict[str, Any], data: dict[str, Any], i: int) -> str:
    """The statistic that is furthest off, quantiles aside: they are approximate by nature."""
    off = {
        stat: abs(float(stored[stat].ravel()[i] - data[stat].ravel()[i]))
        for stat in ("mean", "std", "min", "max")
        if stat in stored and stored[stat].size == data[stat].size
    }
    worst = max(off, key=lambda stat: off[stat], default=None)
    return "" if worst is None else f"{off[worst]:.1e} ({worst})"


def _print_verdict(report: StatisticsReport) -> None:
    if not report.wrong:
        print("\nThe stored statistics are those of the data (cameras: of a sample of frames).")
        return
    print(f"\n{len(report.wrong)} stored statistics are wrong or missing:")
    for entry in report.wrong[:20]:
        stored = "none" if entry.stored is None else f"{entry.stored:.6g}"
        difference = "" if entry.difference is None else f", difference {entry.difference:.3g}"
        print(f"  {entry.feature}, {report.where(entry)}: {entry.stat} {stored}, data {entry.data:.6g}{difference}")
    if len(report.wrong) > 20:
        print(f"  … and {len(report.wrong) - 20} more (--json lists all)")
    print(f"Fix: smolpilot dataset repair {report.meta.root} DST writes a copy with correct statistics.")


VERB = Verb(StatsOptions, run)
