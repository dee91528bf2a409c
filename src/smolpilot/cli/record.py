"""`smolpilot record --out DIR`: demonstrations of the shipped tabletop as a dataset."""

from __future__ import annotations

import json

from smolpilot.common.text import pluralize
from smolpilot.environments.tabletop.record_options import RecordOptions

from .options import parse
from .progress import progress_bar


def main(args: list[str]) -> int:
    """Run the verb; 0 when the dataset is written."""
    options = parse(RecordOptions, args, verb="record")
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
        print(json.dumps(summary.to_json(), indent=2))
        return 0
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
    return 0
