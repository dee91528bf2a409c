"""`smolpilot dataset convert SRC DST`: LeRobot versions into one another, proven."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from smolpilot.common.text import pluralize
from smolpilot.option_types import Amount, Few

from .edit_options import FeatureOptions, without_of
from .options import parse

if TYPE_CHECKING:
    from smolpilot.datasets.copy import RewriteReport


@dataclass
class ConvertOptions(FeatureOptions):
    """Convert a LeRobot v2.0, v2.1 or v3.0 recording into a new folder; nothing is lost, and that is proven.

    Video packets are copied, not encoded again; the source is only read. A command that was stopped goes on where it
    was when it is run again.
    """

    src: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SRC")]
    """The recording: the folder with meta/, data/ and videos/."""
    dst: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DST")]
    """The new folder; it must not exist yet."""
    to: Literal["v3.0", "v2.1"] = "v3.0"
    """Version of the new folder."""
    jobs: Few = 0
    """Threads, or processes for large recordings; 0 takes one per core."""
    data_file_mb: Amount = 100
    """Largest size of a data file, in MB (v3.0)."""
    video_file_mb: Amount = 200
    """Largest size of a video file, in MB (v3.0); an episode is never split."""
    chunk_files: Amount = 1000
    """Largest number of files in a folder."""
    reencode: bool = False
    """Decode and encode again what cannot be copied (episodes without a key frame at their start)."""
    keep_times: bool = False
    """Convert also when time stamps do not fit the videos, so that samples would not load."""
    json: bool = False
    """Print one JSON document instead of text."""


def main(args: list[str]) -> int:
    """Run `smolpilot dataset convert`."""
    return _convert(parse(ConvertOptions, args, verb="dataset convert"))


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _convert(options: ConvertOptions) -> int:
    from smolpilot.common.errors import UsageError
    from smolpilot.datasets.convert import convert
    from smolpilot.datasets.copy import RewriteOptions

    from .progress import progress_bar

    if options.jobs < 0:
        raise UsageError(f"--jobs is {options.jobs}.", expected="0 (one per core) or more")
    settings = RewriteOptions(
        version=options.to,
        data_file_mb=options.data_file_mb,
        video_file_mb=options.video_file_mb,
        chunk_files=options.chunk_files,
        reencode=options.reencode,
        jobs=options.jobs or cores(),
        misaligned=options.keep_times,
    )
    with progress_bar() as progress:
        report = convert(
            options.src, options.dst, settings, without=without_of(options, options.src), progress=progress
        )
    for warning in report.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if options.json:
        import json

        print(json.dumps(_document(options, report), indent=2))
    else:
        _print(options, report)
    return 0


def _document(options: ConvertOptions, report: RewriteReport) -> dict[str, Any]:
    return {
        "source": str(options.src),
        "result": str(options.dst),
        "version": options.to,
        "episodes": report.episodes,
        "frames": report.frames,
        "parts": report.parts,
        "parts_resumed": report.resumed,
        "reencoded": report.reencoded,
        "picture_difference": report.picture_difference if report.reencoded else None,
        "statistics_computed": report.computed,
        "statistics_carried": report.carried,
        "notes": report.notes,
        "warnings": report.warnings,
        "proof": report.proof.to_json(),
    }


def _print(options: ConvertOptions, report: RewriteReport) -> None:
    from .dataset_compare import print_table

    resumed = f", {report.resumed} of {report.parts} parts from an earlier run" if report.resumed else ""
    print(
        f"{options.dst}: LeRobot {options.to}, {pluralize(report.episodes, 'episode')}, "
        f"{pluralize(report.frames, 'frame')}{resumed}"
    )
    if report.computed:
        print(f"Statistics computed: {', '.join(report.computed)}")
    carried = [name for name in report.carried if name not in report.computed]
    if carried:
        print(f"Statistics carried over: {', '.join(carried)}")
    for note in report.notes:
        print(note)
    if report.reencoded:
        print(f"Encoded again: {'; '.join(report.reencoded[:10])}{' …' if len(report.reencoded) > 10 else ''}")
    print_table(report.proof, "Proof: the source against the new folder, read back")
    if report.reencoded:
        again = report.proof.encoded
        print(
            f"Equal, except for {again['packets']:,} packets that were encoded again: the first and last pictures of "
            f"these episodes differ from the source by up to {report.picture_difference:.2f} of 255 (mean absolute)."
        )
        print("Content hashes of every file: meta/smolpilot_manifest.json")
        return
    print("Equal. Content hashes of every file: meta/smolpilot_manifest.json")
