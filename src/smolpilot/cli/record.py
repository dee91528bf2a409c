"""`smolpilot record --out DIR`: demonstrations of the shipped tabletop as a dataset."""

from __future__ import annotations

from dataclasses import asdict

from smolpilot.common.progress import progress_bar
from smolpilot.common.text import json_text, pluralize
from smolpilot.environments.tabletop.record_options import RecordOptions

from .parsing.verbs import Verb


def run(options: RecordOptions) -> None:
    """Write the dataset."""
    from smolpilot.environments.tabletop.recording import record

    with progress_bar() as progress:
        summary = record(
            options.out,
            options.episodes,
            options.seed,
            noise=options.noise,
            colors=options.colors,
            target=options.target,
            codec=options.codec,
            progress=progress,
        )
    if options.json:
        print(json_text(asdict(summary)))
        return
    print(
        f"{summary.path}: LeRobot v3.0, robot {summary.robot_type}, {pluralize(summary.episodes, 'episode')} of "
        f"{summary.shortest} "
        f"to {summary.longest} frames, {summary.frames} frames at {summary.rate} per second ({summary.seconds:.0f} s)"
    )
    for text, number in summary.instructions.items():
        print(f'  "{text}": {pluralize(number, "episode")}')
    if summary.discarded:
        print(f"  {summary.discarded} demonstrations missed their block and were left out")
    print(f"Next: smolpilot dataset info {summary.path}")
    print(
        f"      smolpilot train --dataset {summary.path} --robot {summary.robot_type} --preset tiny --from-scratch "
        "--steps 3000 --out RUN"
    )


VERB = Verb(RecordOptions, run)
