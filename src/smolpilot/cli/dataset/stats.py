"""`smolpilot dataset stats PATH`: statistics per joint, stored and computed anew."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smolpilot.cli.parsing.tables import table
from smolpilot.cli.parsing.verbs import Verb
from smolpilot.common.atomic import refuse_existing
from smolpilot.common.machine import cores
from smolpilot.common.option_types import Few, Flag
from smolpilot.common.progress import progress_bar
from smolpilot.common.text import LIMIT, json_text, plain, pluralize

from .edits import LookOptions

if TYPE_CHECKING:
    from smolpilot.common.statistics import Statistics
    from smolpilot.datasets.format.meta import DatasetMeta
    from smolpilot.datasets.statistics.recompute import Deviation

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


@dataclass
class _Result:
    meta: DatasetMeta
    units: dict[str, list[str | None]]
    data: Statistics | None
    wrong: list[Deviation]
    robot: str | None
    notes: list[str]


def run(options: StatsOptions) -> int:
    """Print the statistics; 1 when stored ones are wrong."""
    if options.out is not None:
        refuse_existing(options.out, "files", options.path.expanduser())
    result = _compute(options)
    if options.out is not None and result.data is not None:
        from smolpilot.common.atomic import write_text_atomic
        from smolpilot.common.statistics import statistics_to_json

        write_text_atomic(options.out, statistics_to_json(result.data))
    if options.json:
        print(json_text(_document(result)))
    else:
        _print(result, options.out)
    return 1 if result.wrong else 0


def _compute(options: StatsOptions) -> _Result:
    from smolpilot.datasets import read_meta
    from smolpilot.datasets.format.meta import usable
    from smolpilot.datasets.left_out import say_left_out
    from smolpilot.datasets.read.joint_units import find_profile, joint_units
    from smolpilot.datasets.read.tables import load_tables
    from smolpilot.datasets.statistics.recompute import find_deviations, recompute_statistics

    jobs, compute = options.jobs or cores(), options.recompute or options.out is not None
    meta = usable(read_meta(options.path, trainable=False, complete=compute))
    notes: list[str] = []
    profile = find_profile(meta, options.robot, notes)
    units = joint_units(meta, profile, chosen=options.robot is not None, notes=notes)
    robot = profile.name if profile is not None else None
    if not compute:
        say_left_out(meta)
        return _Result(meta, units, None, [], robot, notes)
    tables = load_tables(meta, meta.episodes, trainable=False)
    meta = usable(dataclasses.replace(meta, left_out=meta.left_out | tables.left_out))
    say_left_out(meta)
    with progress_bar() as progress:
        data = recompute_statistics(meta, tables, progress, jobs=jobs)
    return _Result(meta, units, data, find_deviations(meta, tables, data, jobs=jobs), robot, notes)


def _document(result: _Result) -> dict[str, Any]:
    from smolpilot.datasets.statistics.recompute import joint_names

    meta, data = result.meta, result.data
    features = {}
    for name in meta.features:
        stored, computed = meta.statistics.get(name), (data or {}).get(name)
        if stored is None and computed is None:
            continue
        features[name] = {
            "names": joint_names(meta, name, _size(stored or computed or {})),
            "units": result.units.get(name),
            "stored": None if stored is None else _plain(stored),
            "recomputed": None if computed is None else _plain(computed),
        }
    wrong = [
        {
            "feature": entry.feature,
            "joint": _where(meta, entry),
            "stat": entry.stat,
            "stored": entry.stored,
            "recomputed": entry.data,
            "difference": entry.difference,
        }
        for entry in result.wrong
    ]
    return {
        "path": str(meta.root),
        "frames": meta.total_frames,
        "robot": result.robot,
        "features": features,
        "correct": None if data is None else not wrong,
        "wrong": wrong,
    }


def _plain(stats: dict[str, Any]) -> dict[str, list[float]]:
    return {stat: values.ravel().tolist() for stat, values in stats.items()}


def _where(meta: DatasetMeta, entry: Deviation) -> str:
    from smolpilot.datasets.statistics.recompute import joint_names

    if entry.stat == "count":
        return "all"
    names = joint_names(meta, entry.feature, _size(meta.statistics.get(entry.feature, {})))
    return names[entry.place] if entry.place < len(names) else str(entry.place)


def _size(stats: dict[str, Any]) -> int | None:
    """How many dimensions the statistics of a feature have."""
    return next((values.size for stat, values in stats.items() if stat != "count"), None)


def _print(result: _Result, out: Path | None) -> None:
    from rich.text import Text

    from smolpilot.common.terminal import Terminal
    from smolpilot.datasets.statistics.recompute import is_index

    # Into a file or pipe tables are written as wide as they are.
    console = Terminal(width=None if sys.stdout.isatty() else 180)
    meta, data = result.meta, result.data
    console.print(
        Text.assemble(
            (str(meta.root), "bold"),
            f": {pluralize(meta.total_frames, 'frame')} of {pluralize(len(meta.episodes), 'episode')}",
        )
    )
    for note in result.notes:
        console.print(note, soft_wrap=True)
    for name in meta.features:
        if not is_index(name) and (name in meta.statistics or (data is not None and name in data)):
            console.print()
            console.print(_table(result, name))
    if data is None:
        print("\nThese are the stored statistics; --recompute compares them with the data.")
        return
    _print_verdict(result)
    if out is not None:
        print(f"{out}: the computed statistics")


def _table(result: _Result, name: str) -> Any:
    from smolpilot.datasets.statistics.recompute import joint_names

    stored, data = result.meta.statistics.get(name, {}), (result.data or {}).get(name)
    units = result.units.get(name)
    shown = [stat for stat in _SHOWN if stat in stored or (data is not None and stat in data)]
    camera = any(name == camera.key for camera in result.meta.cameras.values())
    unit_column = ["unit"] if camera or units is not None else []
    numbers = [*shown, *([] if data is None else ["largest difference"])]
    rows = table("channel" if camera else "joint", *unit_column, *numbers, numbers=numbers, title=plain(name, LIMIT))
    wrong = {(entry.place, entry.stat) for entry in result.wrong if entry.feature == name}
    for i, joint in enumerate(joint_names(result.meta, name, _size(data or stored))):
        unit = ["of 0 to 1"] if camera else [units[i] or "not stated"] if units is not None else []
        cells = [
            _cell(stored.get(stat), None if data is None else data.get(stat), i, (i, stat) in wrong) for stat in shown
        ]
        rows.add_row(plain(joint, LIMIT), *unit, *cells, *([] if data is None else [_largest(stored, data, i)]))
    return rows


def _cell(stored: Any, data: Any, i: int, wrong: bool) -> Any:
    from rich.text import Text

    value = _number(stored, i)
    if not wrong and stored is not None:
        return value
    if data is None:
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


def _print_verdict(result: _Result) -> None:
    if not result.wrong:
        print("\nThe stored statistics are those of the data (cameras: of a sample of frames).")
        return
    print(f"\n{len(result.wrong)} stored statistics are wrong or missing:")
    for entry in result.wrong[:20]:
        stored = "none" if entry.stored is None else f"{entry.stored:.6g}"
        difference = "" if entry.difference is None else f", difference {entry.difference:.3g}"
        print(
            f"  {entry.feature}, {_where(result.meta, entry)}: {entry.stat} {stored}, data {entry.data:.6g}{difference}"
        )
    if len(result.wrong) > 20:
        print(f"  … and {len(result.wrong) - 20} more (--json lists all)")
    print(f"Fix: smolpilot dataset repair {result.meta.root} DST writes a copy with correct statistics.")


VERB = Verb(StatsOptions, run)
