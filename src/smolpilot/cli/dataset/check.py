"""`smolpilot dataset check PATH`: what is wrong with a dataset, where, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from smolpilot.cli.parsing.verbs import Verb
from smolpilot.common.option_types import Few, Flag, Pairs
from smolpilot.common.progress import progress_bar
from smolpilot.common.text import json_text, plain, pluralize

from .edits import Place

if TYPE_CHECKING:
    from smolpilot.datasets.check import CheckResult, Finding

_STYLES = {"error": "bold red", "warning": "yellow", "info": "cyan"}
_SHOWN = 3
_GENERATOR = "smolpilot dataset check"
_LONG = 2000  # letters of one finding; --json has all


@dataclass(kw_only=True)
class CheckOptions:
    """Check a LeRobot v2.0, v2.1 or v3.0 dataset, damaged or not.

    Files, indices, time stamps against decoded frames, videos, statistics, joints and instructions are checked, each
    video once; files also against meta/smolpilot_manifest.json, where there is one. "Sound" means that samples load in
    smolpilot and in LeRobot 0.6 (v2.x: once converted), with the same instructions. Exit code 1 when an error is found.
    """

    path: Place
    """The dataset: the folder with meta/, data/ and videos/."""
    strict: Flag = False
    """Exit code 1 for warnings, too."""
    json: Flag = False
    """Print one JSON document."""
    html: Path | None = None
    """Also write a page with all findings to this file; an existing file is replaced only if it is such a page."""
    robot: str | None = None
    """Robot profile (name or YAML file) whose joint limits the data must keep; `none`: no profile. Default: by the
    dataset's robot_type, else by its joint names."""
    units: Pairs = field(default_factory=dict)
    """Units of the dataset's joints where they differ from the profile's, as `all=deg` or `gripper.pos=fraction`."""
    jobs: Few = 0
    """Files that are decoded at a time; 0 takes one per core. The findings are the same for any number."""


def run(options: CheckOptions) -> int:
    """Check; 0 sound, 1 errors found."""
    from smolpilot.common.atomic import refuse_other_page, write_text_atomic
    from smolpilot.datasets.check import check_dataset

    if options.html is not None:
        refuse_other_page(options.html, _GENERATOR, options.path.expanduser())
    with progress_bar() as progress:
        result = check_dataset(
            options.path, robot=options.robot, units=options.units, progress=progress, jobs=options.jobs or None
        )
    failed = result.failed(strict=options.strict)
    if options.html is not None:
        from smolpilot.datasets.check.page import render

        page = render(result)
        # Again: a check takes its time, and others may write meanwhile.
        refuse_other_page(options.html, _GENERATOR)
        write_text_atomic(options.html, page)
    if options.json:
        print(json_text({**result.to_json(), "failed": failed}))
    else:
        _print(result, options)
    return 1 if failed else 0


def _print(result: CheckResult, options: CheckOptions) -> None:
    from rich.text import Text

    from smolpilot.common.terminal import Terminal
    from smolpilot.datasets.tolerant.findings import collapsed, count
    from smolpilot.datasets.tolerant.rules import GROUPS

    console = Terminal()
    facts = result.facts()
    robot = f"robot {facts['robot']}, " if facts["robot"] else ""
    console.print(facts["path"], style="bold", soft_wrap=True)
    console.print(
        f"LeRobot {facts['version']}, {robot}{facts['episodes']} episodes, {facts['rows']:,} rows, "
        f"{pluralize(len(facts['cameras']), 'camera')}, {facts['decoded_frames']:,} frames decoded, "
        f"{facts['checks']} checks in {facts['seconds']:.1f} s",
        soft_wrap=True,
    )
    together = collapsed(result.findings)
    by_kind = groupby(together, key=lambda one: (one[0].severity, one[0].code))
    for (severity, code), kind in by_kind:
        console.print()
        members = list(kind)
        episodes = sorted({episode for _, listed in members for episode in listed})
        where = _episodes(episodes)
        group = f" ({GROUPS[members[0][0].group]}){where}"
        console.print(Text.assemble((severity, _STYLES[severity]), " ", (code, "bold"), group), soft_wrap=True)
        for found, _ in members[:_SHOWN]:
            console.print(f"  {plain(found.message, _LONG)}", soft_wrap=True)
        if len(members) > _SHOWN:
            console.print(f"  … and {len(members) - _SHOWN} more; --json and --html show all")
        for fix in _fixes([found for found in result.findings if (found.severity, found.code) == (severity, code)]):
            console.print(Text.assemble("  ", ("fix:", "dim"), f" {plain(fix, _LONG)}"), soft_wrap=True)
    counts = count(found for found, _ in together)
    words = ", ".join(
        f"{number} {name}{'s' if number != 1 and name != 'info' else ''}" for name, number in counts.items()
    )
    verdict = ("Not sound", "bold red") if counts["error"] else ("Sound", "bold green")
    end = "." if not options.strict else " (--strict: warnings count)."
    console.print()
    console.print(Text.assemble(verdict, f": {words}{end}"))
    if result.unloadable:
        console.print(f"Samples do not load, or not as recorded, in: {', '.join(result.unloadable)}.")
    if options.html is not None:
        console.print(f"Page: {options.html}", soft_wrap=True)


def _episodes(numbers: list[int]) -> str:
    from smolpilot.datasets.check.context import ranges

    return f": episode{'s' if len(numbers) > 1 else ''} {ranges(numbers)}" if numbers else ""


def _fixes(findings: list[Finding]) -> list[str]:
    """The commands for a code, each for all of its episodes."""
    from smolpilot.datasets.tolerant.findings import one_fix

    groups: dict[str, tuple[list[Finding], list[int]]] = {}
    for found in findings:
        bare = found.fix.replace(f"--episodes {found.episode}", "--episodes")
        listed, episodes = groups.setdefault(bare, ([], []))
        listed.append(found)
        if found.episode is not None:
            episodes.append(found.episode)
    return [one_fix(listed, sorted(set(episodes))).fix for listed, episodes in groups.values()]


VERB = Verb(CheckOptions, run)
