"""`smolpilot dataset convert SRC DST`: LeRobot versions into one another, verified."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from smolpilot.cli.parsing.verbs import Verb
from smolpilot.common.machine import cores
from smolpilot.common.option_types import Amount, Few, Flag
from smolpilot.common.progress import progress_bar
from smolpilot.common.text import json_text, pluralize

from .edits import CopyOptions, FeatureOptions, facts_of, first_ten, say_warnings, without_of
from .proof import print_proof

if TYPE_CHECKING:
    from smolpilot.datasets.copy import CopyReport


@dataclass(kw_only=True)
class ConvertOptions(FeatureOptions, CopyOptions):
    """Convert a LeRobot v2.0, v2.1 or v3.0 dataset into a new folder. Nothing is lost, and the result is verified.

    Video packets are copied, not encoded again. A command that was stopped continues when it is run again.
    """

    to: Literal["v3.0", "v2.1"] = "v3.0"
    """Version of the new folder."""
    jobs: Few = 0
    """Threads, or processes for large datasets; 0 takes one per core."""
    data_file_mb: Amount = 100
    """Largest size of a data file, in MB (v3.0)."""
    video_file_mb: Amount = 200
    """Largest size of a video file, in MB (v3.0); an episode is never split."""
    chunk_files: Amount = 1000
    """Largest number of files in a folder."""
    reencode: Flag = False
    """Decode and encode again what cannot be copied (episodes without a key frame at their start)."""
    keep_times: Flag = False
    """Convert also when time stamps do not fit the videos, so that samples would not load."""
    json: Flag = False
    """Print one JSON document."""


def run(options: ConvertOptions) -> None:
    """Convert and print the proof."""
    from smolpilot.datasets.convert import convert
    from smolpilot.datasets.copy import CopyOptions

    settings = CopyOptions(
        version=options.to,
        data_file_mb=options.data_file_mb,
        video_file_mb=options.video_file_mb,
        chunk_files=options.chunk_files,
        reencode=options.reencode,
        jobs=options.jobs or cores(),
        misaligned=options.keep_times,
    )
    without = without_of(options, options.src)
    with progress_bar() as progress:
        report = convert(options.src, options.dst, settings, without=without, progress=progress)
    say_warnings(report)
    if not options.json:
        _print(options, report)
        return
    document = {
        "source": str(options.src),
        "result": str(options.dst),
        "version": options.to,
        **facts_of(report),
        "parts": report.parts,
        "parts_resumed": report.resumed,
        "picture_difference": report.image_difference if report.reencoded else None,
        "warnings": report.warnings,
    }
    print(json_text(document))


def _print(options: ConvertOptions, report: CopyReport) -> None:
    resumed = f", {report.resumed} of {report.parts} parts from an earlier run" if report.resumed else ""
    print(
        f"{options.dst}: LeRobot {options.to}, {pluralize(report.episodes, 'episode')}, "
        f"{pluralize(report.frames, 'frame')}{resumed}"
    )
    carried = [name for name in report.carried if name not in report.computed]
    for how, names in (("computed", report.computed), ("carried over", carried)):
        if names:
            print(f"Statistics {how}: {', '.join(names)}")
    for note in report.notes:
        print(note)
    if report.reencoded:
        print(f"Encoded again: {first_ten(report.reencoded)}")
    print_proof(report.proof, "Proof: the source against the new folder, read back")
    verdict = "Equal."
    if report.reencoded:
        print(
            f"Equal, except for {report.proof.encoded['packets']:,} packets that were encoded again: the first and "
            "last images of these episodes differ from the source by up to "
            f"{report.image_difference:.2f} of 255 (mean absolute)."
        )
        verdict = ""
    print(f"{verdict} Content hashes of every file: meta/smolpilot_manifest.json".lstrip())


VERB = Verb(ConvertOptions, run)
