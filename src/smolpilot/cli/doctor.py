"""`smolpilot doctor`: check the machine, say how to fix what is wrong."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from .options import parse

if TYPE_CHECKING:
    from smolpilot.selftest.machine import Check


@dataclass
class DoctorOptions:
    """Check Python, torch, devices, video codecs, disk and hub. Exit code 1 when something is broken."""

    dataset: Path | None = None
    """A dataset folder: decode one frame of each of its cameras too."""
    as_json: Annotated[bool, tyro.conf.arg(name="json"), tyro.conf.FlagCreatePairsOff] = False
    """Print one JSON document instead of lines."""


def main(args: Sequence[str]) -> int:
    """Run the verb: 0 when nothing is broken (warnings are allowed), else 1."""
    from smolpilot.selftest.machine import run_checks, worst

    options = parse(DoctorOptions, args, verb="doctor")
    checks = []
    for check in run_checks(options.dataset):
        checks.append(check)
        if not options.as_json:
            _print(check)
    verdict = worst(checks)
    if options.as_json:
        print(json.dumps({"verdict": verdict, "checks": [dataclasses.asdict(check) for check in checks]}, indent=2))
    else:
        count = {name: sum(check.verdict == name for check in checks) for name in ("ok", "warning", "error")}
        print(f"\n{verdict}: {count['ok']} ok, {count['warning']} warnings, {count['error']} errors")
    return 1 if verdict == "error" else 0


def _print(check: Check) -> None:
    from rich.text import Text

    from smolpilot.common.terminal import Terminal

    color = {"ok": "green", "warning": "yellow", "error": "red"}[check.verdict]
    console = Terminal(soft_wrap=True)
    console.print(Text.assemble((f"{check.verdict:<8}", color), f" {check.name:<19} {check.found}"))
    if check.fix:
        console.print(f"{'':<8} {'':<19} fix: {check.fix}")
