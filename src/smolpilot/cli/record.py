"""`smolpilot record --env NAME --expert --out DIR`: demonstrations of an environment's own expert as a dataset."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from smolpilot.common.progress import progress_bar
from smolpilot.common.text import json_text, pluralize
from smolpilot.environments.demonstrations.record_options import RecordOptions

from .parsing.verbs import Verb

if TYPE_CHECKING:
    from smolpilot.environments.demonstrations.summary import RecordSummary


def run(options: RecordOptions) -> None:
    """Write the dataset."""
    from smolpilot.environments.demonstrations.record import record_demonstrations

    with progress_bar() as progress:
        summary = record_demonstrations(options, progress)
    if options.json:
        print(json_text(asdict(summary)))
    else:
        _print(summary)


def _print(summary: RecordSummary) -> None:
    from smolpilot.evaluation.rates.wording import rate_text

    print(
        f"{summary.path}: LeRobot v3.0, robot {summary.robot_type}, {pluralize(summary.episodes, 'episode')} of "
        f"{summary.shortest} to {summary.longest} frames, {summary.frames} frames at {summary.rate:g} per second "
        f"({summary.seconds:.0f} s)"
    )
    for text, number in summary.instructions.items():
        print(f'  "{text}": {pluralize(number, "episode")}')
    who = "people" if summary.env == "pusht" else "the expert"
    print(f"  {who} succeeded in {rate_text(summary.succeeded, summary.tried)}")
    if summary.discarded:
        print(f"  {pluralize(summary.discarded, 'demonstration')} without success left out")
    for part, facts in summary.simulation.items():
        print(f"  {part}: {', '.join(f'{name} {value}' for name, value in facts.items())}")
    print(f"Next: smolpilot dataset info {summary.path}")
    robot = summary.profile or summary.robot_type
    print(
        f"      smolpilot train --dataset {summary.path} --robot {robot} --preset tiny --from-scratch --steps 3000 "
        "--out RUN"
    )


VERB = Verb(RecordOptions, run)
