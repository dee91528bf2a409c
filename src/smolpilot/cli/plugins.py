"""`smolpilot plugins`: the policies, environments, robots, cameras and teleoperators that go by a name here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated

import tyro

from smolpilot.common.errors import SmolpilotError
from smolpilot.common.streams import results_apart
from smolpilot.contracts.registry import REGISTRIES, Registry

from .options import parse


@dataclass(frozen=True)
class PluginsOptions:
    """List what goes by a name: what ships with smolpilot, and what installed packages add by entry points."""

    check: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Import each of them and say which fail; exit code 1 where one does."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print one JSON document instead of a table."""


def main(args: Sequence[str]) -> int:
    """Run the verb; with `--check` 1 where a plugin cannot be imported."""
    options = parse(PluginsOptions, args, verb="plugins")
    rows = []
    for registry in REGISTRIES:
        for plugin in registry.plugins():
            row = asdict(plugin)
            if options.check:
                with results_apart(options.json):
                    row["problem"] = _problem(registry, plugin.name)
            rows.append(row)
    if options.json:
        print(json.dumps({"plugins": rows, "groups": {one.kind: one.group for one in REGISTRIES}}))
    else:
        _print(rows)
    return 1 if any(row.get("problem") for row in rows) else 0


def _problem(registry: Registry, name: str) -> str:
    try:
        registry.get(name)
    except SmolpilotError as error:
        return error.found
    return ""


def _print(rows: list[dict[str, str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from smolpilot.common.terminal import Terminal

    console = Terminal()
    table = Table(box=SIMPLE_HEAD, padding=(0, 1))
    for name in ("kind", "name", "from", "target"):
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(row["kind"], row["name"], row["origin"], row["target"])
    console.print(table)
    for row in rows:
        if row.get("problem"):
            console.print(f"problem: {row['problem']}", style="red", soft_wrap=True)
    groups = ", ".join(registry.group for registry in REGISTRIES)
    console.print(f"A package adds one by an entry point in one of the groups {groups}.", soft_wrap=True)
