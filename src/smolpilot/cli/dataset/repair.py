"""`smolpilot dataset repair SRC DST`: a sound copy of a damaged dataset, explained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from smolpilot.cli.parsing.verbs import Verb
from smolpilot.common.option_types import Few, Flag
from smolpilot.common.progress import progress_bar
from smolpilot.common.text import json_text, pluralize

from .edits import CopyOptions, FeatureOptions

if TYPE_CHECKING:
    from smolpilot.common.terminal import Terminal
    from smolpilot.datasets.repair import RepairReport


@dataclass(kw_only=True)
class RepairOptions(FeatureOptions, CopyOptions):
    """Repair a LeRobot v2.0, v2.1 or v3.0 dataset into a new folder, losslessly.

    Time stamps, index columns, statistics, names, paths and damaged metadata are corrected; episodes that cannot be
    kept are named. The copy is checked. Exit code 1 when errors remain.
    """

    dry_run: Flag = False
    """Only print what would be done."""
    reencode: Flag = False
    """Decode and encode again what cannot be copied (episodes without a key frame at their start)."""
    jobs: Few = 0
    """Number of files that are worked on at a time; 0 takes one per core."""
    json: Flag = False
    """Print one JSON document."""


def run(options: RepairOptions) -> int:
    """Repair; 0 sound, 1 errors remain."""
    from smolpilot.datasets.repair import RepairWishes, repair

    wishes = RepairWishes(options.features, options.without, options.reencode, options.jobs or None)
    with progress_bar() as progress:
        report = repair(options.src, options.dst, wishes, dry_run=options.dry_run, progress=progress)
    if options.json:
        print(json_text(report.to_json()))
    else:
        _print(report, options)
    return 0 if report.complete else 1


def _print(report: RepairReport, options: RepairOptions) -> None:
    from smolpilot.common.terminal import Terminal
    from smolpilot.datasets.tolerant.findings import count

    console, plan = Terminal(), report.plan
    counts = count(report.before.findings)
    total = len(report.before.dataset.records)
    console.print(
        f"{options.src}: {pluralize(total, 'episode')}, {pluralize(counts['error'], 'error')}, "
        f"{pluralize(counts['warning'], 'warning')}",
        soft_wrap=True,
    )
    heads = ("Would do:", "Would leave out:") if options.dry_run else ("Done:", "Left out:")
    _list(console, heads[0], plan.actions or ["nothing: the copy has the same content."])
    _list(console, heads[1], [f"episode {index}: {reason}" for index, reason in sorted(plan.dropped.items())])
    _list(console, "Encoded again:", plan.reencoded)
    _list(console, "Not copied:", plan.aside)
    said = " ".join(plan.impossible)
    left = [f"{found.code}: {found.message} ({found.fix})" for found in report.remaining if found.message not in said]
    _list(console, "Cannot be repaired:", [*plan.impossible, *dict.fromkeys(left)])
    frames = sum(episode.length for episode in plan.episodes)
    what = (
        f"{len(plan.episodes)} of {pluralize(total, 'episode')}, {pluralize(frames, 'frame')}, LeRobot {plan.version}"
    )
    if options.dry_run:
        console.print(f"Dry run: nothing written. {options.dst} would hold {what}.", soft_wrap=True)
    else:
        verdict = f"{pluralize(len(report.remaining), 'error')} left" if report.remaining else "no errors left"
        console.print(f"{options.dst}: {what}; checked: {verdict}.", soft_wrap=True)


def _list(console: Terminal, head: str, lines: list[str]) -> None:
    if lines:
        console.print(head, style="bold")
        for line in lines:
            console.print(f"  {line}", soft_wrap=True)


VERB = Verb(RepairOptions, run)
