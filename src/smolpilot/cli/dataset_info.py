"""`smolpilot dataset info PATH`: what a recording holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from smolpilot.common.text import plain

from .options import parse

_MOST_ROWS = 100
_MOST_LETTERS = 500


@dataclass
class InfoOptions:
    """Show what a LeRobot v2.0, v2.1 or v3.0 dataset holds."""

    path: tyro.conf.Positional[Path]
    """The dataset folder: the one with meta/, data/ and videos/."""
    json: bool = False
    """Print one JSON document instead of tables."""
    robot: str | None = None
    """A robot profile (name or YAML file): gives the joints their units; `none`: none. Open: by the dataset's
    robot_type, else by its joint names."""


def main(args: list[str]) -> int:
    """Run `smolpilot dataset info`."""
    return _info(parse(InfoOptions, args, verb="dataset info"))


def _info(options: InfoOptions) -> int:
    from smolpilot.datasets.summary import summarize

    summary = summarize(options.path, robot=options.robot)
    if options.json:
        import json

        print(json.dumps(summary, indent=2))
    else:
        _print(summary)
    return 0


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
    for table in (_features(summary), _cameras(summary), _instructions(summary), *_statistics(summary)):
        console.print()
        console.print(table)
    for note in summary["notes"]:
        console.print(f"note: {note}", soft_wrap=True)


def _absent(row: dict[str, Any]) -> str:
    states = {"missing": "not here", "empty": "empty (0 bytes)", "pointer": "Git-LFS pointers"}
    count = "" if row["of"] == 1 else f"{row['files']} of {row['of']}: "
    return f"{row['what']}: {count}{states[row['state']]} ({row['episodes']} episodes), first {row['first']}"


def _table(title: str, *columns: str) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        words = column in ("name", "joint", "instruction", "names", "camera", "codec", "type", "unit")
        words = words or column == "left out of samples"
        table.add_column(column, justify="left" if words else "right", overflow="fold")
    return table


def _features(summary: dict[str, Any]) -> Any:
    columns = ["name", "type", "shape", "names", "unit", *(["left out of samples"] if summary["left_out"] else [])]
    table = _table("Features", *columns)
    for name, feature in list(summary["features"].items())[:_MOST_ROWS]:
        vector = name in (summary["state"], summary["action"])
        named = "joints, see below" if vector else ", ".join((feature["names"] or [])[:_MOST_ROWS])
        unit = "s" if name == "timestamp" else "unknown" if feature["dtype"].startswith("float") else ""
        if any(feature.get("units") or ()):
            unit = "see below"
        shape = "x".join(map(str, feature["shape"]))
        reason = [plain(summary["left_out"].get(name, ""))] if summary["left_out"] else []
        table.add_row(
            plain(name, _MOST_LETTERS),
            plain(feature["dtype"], _MOST_LETTERS),
            shape,
            plain(named, _MOST_LETTERS),
            unit,
            *reason,
        )
    undescribed = [name for name in summary["left_out"] if name not in summary["features"]]
    for name in undescribed[:_MOST_ROWS]:
        table.add_row(plain(name, _MOST_LETTERS), "", "", "", "", plain(summary["left_out"][name]))
    _add_rest(table, max(len(summary["features"]) - _MOST_ROWS, 0) + max(len(undescribed) - _MOST_ROWS, 0))
    return table


def _add_rest(table: Any, rest: int) -> None:
    """The line that stands for rows which nobody would read."""
    if rest > 0:
        table.add_row(f"… and {rest:,} more (--json lists all)")


def _cameras(summary: dict[str, Any]) -> Any:
    table = _table("Cameras", "camera", "pixels", "fps", "codec")
    for name, camera in list(summary["cameras"].items())[:_MOST_ROWS]:
        pixels = f"{camera['width']}x{camera['height']}"
        coded = plain(f"{camera['codec']} ({camera['pixel_format']})", _MOST_LETTERS)
        table.add_row(plain(name, _MOST_LETTERS), pixels, f"{camera['fps']:g}", coded)
    _add_rest(table, len(summary["cameras"]) - _MOST_ROWS)
    return table


def _instructions(summary: dict[str, Any]) -> Any:
    table = _table("Instructions", "instruction", "episodes", "frames")
    for row in summary["instructions"][:_MOST_ROWS]:
        frames = "" if row["frames"] is None else f"{row['frames']:,}"
        table.add_row(
            plain(row["text"], _MOST_LETTERS), "" if row["episodes"] is None else str(row["episodes"]), frames
        )
    _add_rest(table, len(summary["instructions"]) - _MOST_ROWS)
    return table


def _statistics(summary: dict[str, Any]) -> list[Any]:
    tables = []
    for name, title in ((summary["state"], "State"), (summary["action"], "Action")):
        if name not in summary["statistics"]:
            continue
        stats, keys = summary["statistics"][name], ("mean", "std", "min", "max")
        note = "" if summary["features"][name]["named_by_dataset"] else "; the dataset does not name its joints"
        units = summary["features"][name].get("units") or []
        robot = summary["robot"]["name"]
        whose = f"units of robot {robot}" if any(units) else "in the robot's units, which the dataset does not state"
        table = _table(f"{title} statistics ({whose}{note})", "joint", *(["unit"] if any(units) else []), *keys)
        joints = summary["features"][name]["names"] or [name]
        for i, joint in enumerate(joints[:_MOST_ROWS]):
            unit = [units[i] or "unknown"] if any(units) else []
            table.add_row(plain(joint, _MOST_LETTERS), *unit, *(f"{stats[key][i]:.4g}" for key in keys))
        _add_rest(table, len(joints) - _MOST_ROWS)
        tables.append(table)
    return tables
