"""`smolpilot dataset view PATH`: a page with synchronized videos, curves and findings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from smolpilot.cli.parsing.verbs import Verb
from smolpilot.common.errors import UsageError
from smolpilot.common.option_types import Flag
from smolpilot.common.progress import progress_bar
from smolpilot.common.text import json_text, pluralize

from .edits import LookOptions

if TYPE_CHECKING:
    from smolpilot.datasets.view import PageSummary


@dataclass(kw_only=True)
class ViewOptions(LookOptions):
    """Make a page that shows a dataset in the browser: a folder that opens from the disk, without a network."""

    out: Path | None = None
    """The new folder for the page. Default: NAME_view in the current directory."""
    episodes: str = "all"
    """Which episodes: `all`, or a list such as 0,3,7-9."""
    check: bool = True
    """Check the dataset and show the findings; this decodes every frame."""
    findings: Path | None = None
    """Show these findings instead: a file with the output of `smolpilot dataset check PATH --json`."""
    open: Flag = False
    """Open the page in the browser."""


def run(options: ViewOptions) -> None:
    """Write the page."""
    from smolpilot.datasets import parse_episodes, read_meta
    from smolpilot.datasets.format.meta import usable
    from smolpilot.datasets.left_out import say_left_out
    from smolpilot.datasets.read.joint_units import find_profile, joint_units
    from smolpilot.datasets.view import read_findings, write_page

    meta = usable(read_meta(options.path, trainable=False, complete=False))
    if not meta.episodes:
        read_meta(options.path, trainable=False)  # says what is missing
    say_left_out(meta)
    chosen = [episode.index for episode in meta.episodes]
    if options.episodes != "all":
        chosen = parse_episodes(options.episodes, meta, words="all, or ")
    notes: list[str] = []
    profile = find_profile(meta, options.robot, notes)
    named = options.robot is not None
    joint_units(meta, profile, chosen=named, notes=notes)  # a profile of another robot is refused before the work
    out = options.out or Path(f"{meta.root.name}_view")
    if out.exists():
        raise UsageError(f"The output {out} exists already.", fix="Choose another path, or remove the old page.")
    findings = read_findings(options.findings) if options.findings is not None else None
    with progress_bar() as progress:
        if findings is None and options.check:
            from smolpilot.datasets.check import check_dataset

            findings = check_dataset(options.path, robot=options.robot, progress=progress).findings
        summary = write_page(meta, out, episodes=chosen, findings=findings, profile=profile, progress=progress)
    _report(summary, options.json, None if findings is None else len(findings), notes)
    if options.open:
        import webbrowser

        webbrowser.open(summary.page.resolve().as_uri())


def _report(summary: PageSummary, as_json: bool, findings: int | None, notes: Sequence[str]) -> None:
    if as_json:
        print(json_text({**asdict(summary), "page": str(summary.page), "findings": findings}))
        return
    print(
        f"{summary.page}: {pluralize(summary.episodes, 'episode')}, {pluralize(summary.videos, 'video')}, "
        f"{summary.bytes / 1e6:.1f} MB"
    )
    for note in notes:
        print(f"  {note}")
    if findings is not None:
        print(f"  {findings} findings on the time line and in the lists")
    for reason, count in summary.encoded.items():
        print(f"  {count} videos encoded as h264 for the page: {reason}")
    for text in _some(summary.problems):
        print(f"  {text}")
    print(f"Open it in a browser: {summary.page.resolve().as_uri()}")


def _some(lines: Sequence[str], limit: int = 10) -> list[str]:
    rest = len(lines) - limit
    return [*lines[:limit], f"… and {rest} more"] if rest > 0 else list(lines)


VERB = Verb(ViewOptions, run)
