"""`smolpilot preflight`: dataset, policy, robot and instruction against each other, a verdict per line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from smolpilot.option_types import Pairs

from .options import parse

_STYLES = {"ok": "green", "warning": "yellow", "error": "bold red"}


@dataclass(frozen=True)
class Options:
    """Check that a dataset, a robot, a policy and an instruction go together, before training or running."""

    dataset: Path
    """LeRobot dataset folder."""
    robot: str | None = None
    """Robot profile: a shipped name or a YAML file."""
    policy: str | None = None
    """Policy to fine-tune or run: bundle, LeRobot checkpoint folder or hub id."""
    instruction: str | None = None
    """The text that will be said to the robot."""
    units: Pairs = field(default_factory=dict)
    """Units of the dataset's joints where they differ from the profile's, as `all=deg`."""
    stats_from: Path | None = None
    """Dataset whose statistics replace the policy's."""
    tokenizer: Path | None = None
    """Folder with the tokenizer, where the policy carries none."""
    json: bool = False
    """Print one JSON document instead."""


def main(args: Sequence[str]) -> int:
    """Run the verb; 1 when a line is an error, 0 otherwise."""
    options = parse(Options, args, verb="preflight")
    from smolpilot.training.preflight import PreflightOptions, preflight

    lines = preflight(
        PreflightOptions(
            dataset=options.dataset,
            robot=options.robot,
            policy=options.policy,
            instruction=options.instruction,
            units=options.units,
            stats_from=options.stats_from,
            tokenizer=options.tokenizer,
        )
    )
    if options.json:
        print(json.dumps([line.to_json() for line in lines], indent=2, ensure_ascii=False))
    else:
        _print([(line.topic, line.verdict, line.found, line.fix) for line in lines])
    return 1 if any(line.verdict == "error" for line in lines) else 0


def _print(lines: list[tuple[str, str, str, str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("", "", "found", "what to do"):
        table.add_column(column, overflow="fold")
    for topic, verdict, found, fix in lines:
        table.add_row(topic, Text(verdict, style=_STYLES[verdict]), Text(found), Text(fix))
    Console(highlight=False).print(table)
