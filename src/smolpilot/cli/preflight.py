"""`smolpilot preflight`: dataset, policy, robot and instruction against each other, a verdict per line."""

from __future__ import annotations

import json
from collections.abc import Sequence

from smolpilot.training.preflight_options import PreflightOptions

from .options import parse

_STYLES = {"ok": "green", "warning": "yellow", "error": "bold red"}


def main(args: Sequence[str]) -> int:
    """Run the verb; 1 when a line is an error, 0 otherwise."""
    options = parse(PreflightOptions, args, verb="preflight")
    from smolpilot.training.preflight import preflight

    lines = preflight(options)
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
