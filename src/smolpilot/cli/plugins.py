"""`smolpilot plugins`: the policies, environments, robots, cameras and teleoperators that go by a name here."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from smolpilot.common.errors import SmolpilotError
from smolpilot.common.option_types import Flag
from smolpilot.common.streams import results_apart
from smolpilot.common.text import json_text
from smolpilot.contracts.registry import REGISTRIES, Registry

from .parsing.tables import table
from .parsing.verbs import Verb


@dataclass(frozen=True, kw_only=True)
class PluginsOptions:
    """List what goes by a name: what ships with smolpilot, and what installed packages add by entry points."""

    check: Flag = False
    """Import each of them and report which fail; exit code 1 where one does."""
    json: Flag = False
    """Print one JSON document."""


def run(options: PluginsOptions) -> int:
    """List them; with `--check` 1 where a plugin cannot be imported."""
    rows = []
    for registry in REGISTRIES:
        for plugin in registry.plugins():
            row = asdict(plugin)
            if options.check:
                with results_apart(options.json):
                    row["problem"] = _problem(registry, plugin.name)
            rows.append(row)
    if options.json:
        print(json_text({"plugins": rows, "groups": {one.kind: one.group for one in REGISTRIES}}))
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
    from smolpilot.common.terminal import Terminal

    console = Terminal()
    found = table("kind", "name", "from", "target")
    for row in rows:
        found.add_row(row["kind"], row["name"], row["origin"], row["target"])
    console.print(found)
    for row in rows:
        if row.get("problem"):
            console.print(f"problem: {row['problem']}", style="red", soft_wrap=True)
    groups = ", ".join(registry.group for registry in REGISTRIES)
    console.print(f"A package adds one by an entry point in one of the groups {groups}.", soft_wrap=True)


VERB = Verb(PluginsOptions, run)
