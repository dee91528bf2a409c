"""Options and output that several dataset verbs share."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from smolpilot.common.machine import cores
from smolpilot.common.option_types import Few, Flag
from smolpilot.common.text import json_text, pluralize

if TYPE_CHECKING:
    from smolpilot.datasets.copy import CopyReport
    from smolpilot.datasets.edit import EditSettings

Place = tyro.conf.Positional[Path]
Destination = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DST")]


@dataclass(kw_only=True)
class LookOptions:
    """Base of the options of verbs that show a dataset."""

    path: Place
    """The dataset: the folder with meta/, data/ and videos/."""
    robot: str | None = None
    """Robot profile (name or YAML file) that gives the joints their units; `none`: no profile. Default: by the
    dataset's robot_type, else by its joint names."""
    json: Flag = False
    """Print one JSON document."""


@dataclass(kw_only=True)
class CopyOptions:
    """Base of the options of verbs that write a dataset as a new one."""

    src: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SRC")]
    """The dataset: the folder with meta/, data/ and videos/. It is only read."""
    dst: Destination
    """The new folder; it must not exist."""


@dataclass(kw_only=True)
class FeatureOptions:
    """Base of the options of verbs that choose features."""

    features: tuple[str, ...] = ()
    """Keep only these features (keys of meta/info.json, or cameras by name) beside state, action and index columns."""
    without: tuple[str, ...] = ()
    """Leave these features out: columns, cameras, and their statistics. They are not read, so damage in them is
    ignored."""


@dataclass(kw_only=True)
class WriteOptions:
    """Base of the options of verbs that edit: how the new folder is written."""

    to: Literal["same", "v3.0", "v2.1"] = "same"
    """LeRobot version of the new folder; `same` is the source's (v2.0 becomes v2.1)."""
    jobs: Few = 0
    """Number of processes; 0 takes one per core."""
    reencode: Flag = False
    """Decode and encode again what cannot be copied (episodes without a key frame at their start)."""
    json: Flag = False
    """Print one JSON document."""


@dataclass(kw_only=True)
class EditOptions(WriteOptions, FeatureOptions):
    """Base of the options of edits."""


def without_of(options: FeatureOptions, *paths: Path) -> frozenset[str]:
    """The keys that --features or --without leave out of these datasets; UsageError for an unknown one."""
    from smolpilot.datasets.feature_choice import FeatureChoice, dropped_features

    return dropped_features(FeatureChoice(options.features, options.without), *paths)


def settings_of(options: WriteOptions) -> EditSettings:
    """The settings that the edits take."""
    from smolpilot.datasets.edit import EditSettings

    return EditSettings(version=options.to, jobs=options.jobs or cores(), reencode=options.reencode)


def facts_of(report: CopyReport) -> dict[str, Any]:
    """What was written, for JSON."""
    return {
        "episodes": report.episodes,
        "frames": report.frames,
        "reencoded": report.reencoded,
        "statistics_computed": report.computed,
        "statistics_carried": report.carried,
        "notes": report.notes,
        "proof": report.proof.to_json(),
    }


def say_warnings(report: CopyReport) -> None:
    """The warnings of a copy, on standard error."""
    for warning in report.warnings:
        print(f"warning: {warning}", file=sys.stderr)


def report_results(reports: dict[Path, CopyReport], options: WriteOptions, **facts: Any) -> None:
    """Print what was written: each folder with its size and proof; `facts` go into the JSON document."""
    for report in reports.values():
        say_warnings(report)
    if options.json:
        results = [{"result": str(path), **facts_of(report)} for path, report in reports.items()]
        print(json_text({**facts, "results": results}))
        return
    for path, report in reports.items():
        print(f"{path}: {pluralize(report.episodes, 'episode')}, {pluralize(report.frames, 'frame')}; {_proof(report)}")
        if report.reencoded:
            print(f"  encoded again: {first_ten(report.reencoded)}")
        for note in report.notes:
            print(f"  {note}")


def first_ten(names: Sequence[str]) -> str:
    """The first ten of a list, in one line."""
    return f"{'; '.join(names[:10])}{' …' if len(names) > 10 else ''}"


def _proof(report: CopyReport) -> str:
    counts = report.proof.compared
    if not any(counts.values()):
        return "finished by an earlier run"
    shown = ", ".join(f"{row['compared']:,} {row['check']}" for row in report.proof.table() if row["compared"])
    if report.reencoded:
        again = report.proof.encoded
        return (
            f"read back and equal to the source ({shown}), but for {pluralize(again['packets'], 'packet')} that were "
            f"encoded again: first and last images differ by up to {report.image_difference:.2f} of 255"
        )
    return f"read back and equal to the source ({shown})"
