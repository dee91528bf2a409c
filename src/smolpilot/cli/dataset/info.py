"""`smolpilot dataset info PATH`: what a dataset holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from smolpilot.cli.parsing.tables import table
from smolpilot.cli.parsing.verbs import Verb
from smolpilot.common.text import json_text, plain

from .edits import LookOptions

if TYPE_CHECKING:
    from rich.table import Table

_MOST_ROWS = 100
_MOST_LETTERS = 500


@dataclass(kw_only=True)
class InfoOptions(LookOptions):
    """Show what a LeRobot v2.0, v2.1 or v3.0 dataset holds."""


def run(options: InfoOptions) -> None:
    """Print the summary."""
    from smolpilot.datasets.summary import summarize

    summary = summarize(options.path, robot=options.robot)
    if options.json:
        print(json_text(summary))
    else:
        _print(summary)


def _print(summary: dict[str, Any]) -> None:
    from smolpilot.common.terminal import Terminal

    console = Terminal()
    console.print(summary["path"], style="bold", soft_wrap=True)
    frames = summary["episode_frames"]
    hours = summary["hours"]
    lengths = f" of {frames['min']} to {frames['max']} frames, median {frames['median']:g}" if frames else ""
    facts = [
        ("format", f"LeRobot {summary['version']}"),
        ("robot_type", summary["robot_type"] or "not stated"),
        ("episodes", f"{summary['episodes']}{lengths}"),
        ("frames", f"{summary['frames']:,} at {summary['fps']:g} per second"),
        ("duration", f"{hours:.2f} hours" if hours >= 1 else f"{60 * hours:.1f} minutes ({hours:.3f} hours)"),
        ("fingerprint", summary["fingerprint"] or "none: files are not here"),
    ]
    for name, value in facts:
        console.print(f"{name:<12} {value}")
    for note in summary["robot"]["notes"]:
        topic, _, text = note.partition(": ")
        console.print(f"{topic:<12} {text}", soft_wrap=True)
    for absent in summary["absent"]:
        console.print(f"{'absent':<12} {_absent(absent)}", soft_wrap=True)
    for found in (_features(summary), _cameras(summary), _instructions(summary), *_statistics(summary)):
        console.print()
        console.print(found)
    for note in summary["notes"]:
        console.print(f"note: {note}", soft_wrap=True)


def _absent(row: dict[str, Any]) -> str:
    states = {"missing": "not here", "empty": "empty (0 bytes)", "pointer": "Git-LFS pointers"}
    count = "" if row["of"] == 1 else f"{row['files']} of {row['of']}: "
    return f"{row['what']}: {count}{states[row['state']]} ({row['episodes']} episodes), first {row['first']}"


_NUMBERS = ("shape", "pixels", "fps", "episodes", "frames", "mean", "std", "min", "max")


def _filled(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table of the first rows; a line stands for the others, which nobody would read."""
    found = table(*columns, numbers=_NUMBERS, title=title)
    for row in rows[:_MOST_ROWS]:
        found.add_row(*(plain(cell, _MOST_LETTERS) for cell in row))
    if len(rows) > _MOST_ROWS:
        found.add_row(f"… and {len(rows) - _MOST_ROWS:,} more (--json lists all)")
    return found


def _features(summary: dict[str, Any]) -> Table:
    left_out = summary["left_out"]
    columns = ["name", "type", "shape", "names", "unit", *(["left out of samples"] if left_out else [])]
    rows = []
    for name, feature in summary["features"].items():
        vector = name in (summary["state"], summary["action"])
        named = "joints, see below" if vector else ", ".join((feature["names"] or [])[:_MOST_ROWS])
        unit = "s" if name == "timestamp" else "unknown" if feature["dtype"].startswith("float") else ""
        if any(feature.get("units") or ()):
            unit = "see below"
        reason = [left_out.get(name, "")] if left_out else []
        rows.append([name, feature["dtype"], "x".join(map(str, feature["shape"])), named, unit, *reason])
    rows += [[name, "", "", "", "", why] for name, why in left_out.items() if name not in summary["features"]]
    return _filled("Features", columns, rows)


def _cameras(summary: dict[str, Any]) -> Table:
    rows = [
        [name, f"{one['width']}x{one['height']}", f"{one['fps']:g}", f"{one['codec']} ({one['pixel_format']})"]
        for name, one in summary["cameras"].items()
    ]
    return _filled("Cameras", ("camera", "pixels", "fps", "codec"), rows)


def _instructions(summary: dict[str, Any]) -> Table:
    rows = [
        [row["text"], *("" if row[key] is None else f"{row[key]:,}" for key in ("episodes", "frames"))]
        for row in summary["instructions"]
    ]
    return _filled("Instructions", ("instruction", "episodes", "frames"), rows)


def _statistics(summary: dict[str, Any]) -> list[Table]:
    tables, keys = [], ("mean", "std", "min", "max")
    for name, title in ((summary["state"], "State"), (summary["action"], "Action")):
        if name not in summary["statistics"]:
            continue
        stats, feature = summary["statistics"][name], summary["features"][name]
        note = "" if feature["named_by_dataset"] else "; the dataset does not name its joints"
        units = feature.get("units") or []
        known = f"units of robot {summary['robot']['name']}"
        whose = known if any(units) else "in the robot's units, which the dataset does not state"
        rows = [
            [joint, *([units[i] or "unknown"] if any(units) else []), *(f"{stats[key][i]:.4g}" for key in keys)]
            for i, joint in enumerate(feature["names"] or [name])
        ]
        columns = ("joint", *(["unit"] if any(units) else []), *keys)
        tables.append(_filled(f"{title} statistics ({whose}{note})", columns, rows))
    return tables


VERB = Verb(InfoOptions, run)
