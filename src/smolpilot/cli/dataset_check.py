"""`smolpilot dataset check PATH`: what is wrong with a recording, where, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from smolpilot.cli.options import parse
from smolpilot.cli.progress import progress_bar
from smolpilot.errors import UsageError

if TYPE_CHECKING:
    from smolpilot.datasets.audit import Audit, Finding

_STYLES = {"error": "bold red", "warning": "yellow", "info": "cyan"}
_SHOWN = 3


@dataclass
class CheckOptions:
    """Check a LeRobot v2.0, v2.1 or v3.0 dataset, damaged or not.

    Files, indices, time stamps against decoded frames, videos, statistics, joints and instructions are looked at, each
    video once. Exit code 1 when an error is found.
    """

    path: tyro.conf.Positional[Path]
    """The dataset folder: the one with meta/, data/ and videos/."""
    strict: bool = False
    """Exit code 1 for warnings, too."""
    json: bool = False
    """Print one JSON document instead of text."""
    html: Path | None = None
    """Also write a page with all findings to this file."""
    robot: str | None = None
    """Robot profile (name or YAML file) whose joint limits the data must keep."""


def main(args: list[str]) -> int:
    """Run `smolpilot dataset check …`; 0 sound, 1 errors found, 2 misuse."""
    options = parse(CheckOptions, args, verb="dataset check")
    if options.html is not None and options.html.is_dir():
        raise UsageError(f"--html {options.html} is a folder.", expected="the path of the page, such as check.html")
    from smolpilot.atomic import refuse_inside_dataset
    from smolpilot.datasets.audit import audit
    from smolpilot.robots import RobotProfile

    if options.html is not None:
        refuse_inside_dataset(options.html)
    robot = RobotProfile.load(options.robot) if options.robot is not None else None
    with progress_bar() as progress:
        result = audit(options.path, robot=robot, progress=progress)
    failed = result.failed(strict=options.strict)
    if options.html is not None:
        from smolpilot.atomic import write_text_atomic
        from smolpilot.datasets.audit.page import render

        write_text_atomic(options.html, render(result))
    if options.json:
        import json

        print(json.dumps({**result.to_json(), "failed": failed}, indent=2))
    else:
        _print(result, options)
    return 1 if failed else 0


def _print(result: Audit, options: CheckOptions) -> None:
    from rich.console import Console

    from smolpilot.datasets.audit.findings import count
    from smolpilot.datasets.audit.rules import GROUPS

    console = Console(highlight=False)
    facts = result.facts()
    console.print(f"[bold]{_escape(facts['path'])}[/bold]", soft_wrap=True)
    console.print(
        f"LeRobot {facts['version']}, {facts['episodes']} episodes, {facts['rows']:,} rows, "
        f"{len(facts['cameras'])} cameras, {facts['decoded_frames']:,} frames decoded, {facts['checks']} checks in "
        f"{facts['seconds']:.1f} s",
        soft_wrap=True,
    )
    by_kind = groupby(result.findings, key=lambda found: (found.severity, found.code))
    for (severity, code), findings in by_kind:
        console.print()
        members = list(findings)
        where = _episodes(members)
        head = f"[{_STYLES[severity]}]{severity}[/] [bold]{code}[/bold] ({GROUPS[members[0].group]}){where}"
        console.print(head, soft_wrap=True)
        for found in members[:_SHOWN]:
            console.print(f"  {_escape(found.message)}", soft_wrap=True)
        if len(members) > _SHOWN:
            console.print(f"  … and {len(members) - _SHOWN} more; --json and --html show all")
        console.print(f"  [dim]fix:[/dim] {_escape(_fix(members))}", soft_wrap=True)
    counts = count(result.findings)
    words = ", ".join(
        f"{number} {name}{'s' if number != 1 and name != 'info' else ''}" for name, number in counts.items()
    )
    verdict = "[bold red]Not sound[/]" if counts["error"] else "[bold green]Sound[/]"
    console.print()
    console.print(f"{verdict}: {words}" + ("." if not options.strict else " (--strict: warnings count)."))
    if options.html is not None:
        console.print(f"Page: {_escape(str(options.html))}", soft_wrap=True)


def _episodes(findings: list[Finding]) -> str:
    from smolpilot.datasets.audit.subject import ranges

    numbers = sorted({found.episode for found in findings if found.episode is not None})
    if not numbers:
        return ""
    return f": episode{'s' if len(numbers) > 1 else ''} {ranges(numbers)}"


def _fix(findings: list[Finding]) -> str:
    """One command for all episodes of a code."""
    numbers = sorted({found.episode for found in findings if found.episode is not None})
    fix = findings[0].fix
    if len(numbers) > 1:
        fix = fix.replace(f"--episodes {findings[0].episode}", f"--episodes {','.join(map(str, numbers))}")
    return fix


def _escape(text: str) -> Any:
    from rich.markup import escape

    return escape(text)
