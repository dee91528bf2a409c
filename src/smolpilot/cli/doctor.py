"""`smolpilot doctor`: check the machine, say how to fix what is wrong."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from smolpilot.common.option_types import Flag
from smolpilot.common.text import json_text

from .parsing.verbs import Verb

if TYPE_CHECKING:
    from smolpilot.selftest.machine_checks import Check


@dataclass(kw_only=True)
class DoctorOptions:
    """Check Python, torch, devices, video codecs, disk, hub and simulations. Exit code 1 when something is broken."""

    dataset: Path | None = None
    """A dataset folder: decode one frame of each of its cameras too."""
    json: Flag = False
    """Print one JSON document."""


def run(options: DoctorOptions) -> int:
    """Check: 0 when nothing is broken (warnings are allowed), else 1."""
    from smolpilot.selftest.machine_checks import run_checks, worst

    checks = []
    for check in itertools.chain(run_checks(options.dataset), _environments()):
        checks.append(check)
        if not options.json:
            _print(check)
    verdict = worst(checks)
    if options.json:
        print(json_text({"verdict": verdict, "checks": [dataclasses.asdict(check) for check in checks]}))
    else:
        count = {name: sum(check.verdict == name for check in checks) for name in ("ok", "warning", "error")}
        print(f"\n{verdict}: {count['ok']} ok, {count['warning']} warnings, {count['error']} errors")
    return 1 if verdict == "error" else 0


def _environments() -> Iterator[Check]:
    """Which environments work here: those that are installed are started, since only that shows whether they draw."""
    from smolpilot.common.progress import working
    from smolpilot.environments.installing import try_environments
    from smolpilot.selftest.machine_checks import Check

    trials = try_environments()
    while True:
        with working("starting the installed environments"):
            one = next(trials, None)
        if one is None:
            return
        name = f"env {one.name}"
        if one.works:
            yield Check(name, "ok", one.text)
        elif not one.installed:
            yield Check(name, "ok", f"{one.text} (needed only for its rollouts: {one.install})")
        else:
            yield Check(name, "warning", one.text, one.install)


def _print(check: Check) -> None:
    from rich.text import Text

    from smolpilot.common.terminal import Terminal

    color = {"ok": "green", "warning": "yellow", "error": "red"}[check.verdict]
    console = Terminal(soft_wrap=True)
    console.print(Text.assemble((f"{check.verdict:<8}", color), f" {check.name:<19} {check.found}"))
    if check.fix:
        console.print(f"{'':<8} {'':<19} fix: {check.fix}")


VERB = Verb(DoctorOptions, run)
