"""Options and output that all edits of recordings share."""

from __future__ import annotations

import json as json_module
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from smolpilot.common.errors import UsageError
from smolpilot.common.text import pluralize
from smolpilot.option_types import Few, Names

if TYPE_CHECKING:
    from smolpilot.datasets.copy import RewriteReport
    from smolpilot.datasets.edit import EditSettings


@dataclass(kw_only=True)
class FeatureOptions:
    """Base of the options of verbs that copy: which features come along."""

    features: Names = ()
    """Keep only these features (keys of meta/info.json, or cameras by name) beside state, action and index columns."""
    without: Names = ()
    """Leave these features out: columns, cameras, and their statistics. Whatever is wrong with them, it is not read."""


def without_of(options: FeatureOptions, *paths: Path) -> frozenset[str]:
    """The keys that --features or --without leave out of these recordings; UsageError for an unknown one."""
    from smolpilot.datasets.feature_choice import FeatureChoice, dropped_features

    return dropped_features(FeatureChoice(options.features, options.without), *paths)


@dataclass(kw_only=True)
class EditOptions(FeatureOptions):
    """Base of the options of edits: how the new folder is written."""

    to: Literal["same", "v3.0", "v2.1"] = "same"
    """LeRobot version of the new folder; `same` is the source's (v2.0 becomes v2.1)."""
    jobs: Few = 0
    """Number of processes; 0 takes one per core."""
    reencode: bool = False
    """Decode and encode again what cannot be copied (episodes without a key frame at their start)."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print one JSON document instead of text."""


def settings_of(options: EditOptions) -> EditSettings:
    """The settings that the edits take."""
    from smolpilot.datasets.edit import EditSettings

    if options.jobs < 0:
        raise UsageError(f"--jobs is {options.jobs}.", expected="0 (one per core) or more")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return EditSettings(version=options.to, jobs=options.jobs or cores, reencode=options.reencode)


def report_results(reports: dict[Path, RewriteReport], options: EditOptions, **facts: Any) -> None:
    """Print what was written: each folder with its size and proof; `facts` go into the JSON document."""
    for report in reports.values():
        for warning in report.warnings:
            print(f"warning: {warning}", file=sys.stderr)
    if options.json:
        results = [
            {
                "result": str(path),
                "episodes": report.episodes,
                "frames": report.frames,
                "reencoded": report.reencoded,
                "statistics_computed": report.computed,
                "statistics_carried": report.carried,
                "notes": report.notes,
                "proof": report.proof.to_json(),
            }
            for path, report in reports.items()
        ]
        print(json_module.dumps({**facts, "results": results}, indent=2))
        return
    for path, report in reports.items():
        print(f"{path}: {pluralize(report.episodes, 'episode')}, {pluralize(report.frames, 'frame')}; {_proof(report)}")
        if report.reencoded:
            print(f"  encoded again: {'; '.join(report.reencoded[:10])}{' …' if len(report.reencoded) > 10 else ''}")
        for note in report.notes:
            print(f"  {note}")


def _proof(report: RewriteReport) -> str:
    counts = report.proof.compared
    if not any(counts.values()):
        return "finished by an earlier run"
    shown = ", ".join(f"{row['compared']:,} {row['check']}" for row in report.proof.table() if row["compared"])
    if report.reencoded:
        again = report.proof.encoded
        return (
            f"read back and equal to the source ({shown}), except for {pluralize(again['packets'], 'packet')} that "
            f"were encoded again: first and last pictures differ by up to {report.picture_difference:.2f} of 255"
        )
    return f"read back and equal to the source ({shown})"
