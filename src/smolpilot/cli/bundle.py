"""`smolpilot bundle PATH` shows a bundle or checkpoint; `smolpilot bundle localize DIR` prepares an offline LeRobot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from smolpilot.cli.options import parse
from smolpilot.shown import json_text


@dataclass
class ShowOptions:
    """Show what a bundle, LeRobot checkpoint, run folder or hub id holds, by loading it as a run would.

    `smolpilot bundle localize DIR` writes the absolute paths that an offline LeRobot needs.
    """

    path: tyro.conf.Positional[str]
    """Bundle, checkpoint or run folder, or hub id."""
    stats_from: Path | None = None
    """Dataset whose statistics replace the checkpoint's."""
    tokenizer: Path | None = None
    """Folder with the tokenizer, where the checkpoint carries none."""
    revision: str | None = None
    """Revision of a hub id."""
    json: bool = False
    """Print one JSON document instead."""


@dataclass
class LocalizeOptions:
    """Write the absolute paths of a bundle's own tokenizer and model config into its LeRobot files.

    Only LeRobot needs this, offline, and again after every move of the bundle.
    """

    path: tyro.conf.Positional[Path]
    """The bundle."""


def main(argv: list[str]) -> int:
    """Run the verb; returns the exit code."""
    if argv[:1] == ["localize"]:
        return _localize(parse(LocalizeOptions, argv[1:], verb="bundle localize"))
    return _show(parse(ShowOptions, argv, verb="bundle"))


def _localize(options: LocalizeOptions) -> int:
    from smolpilot.policy import localize

    folder = localize(options.path)
    print(f"LeRobot will read the tokenizer and the vision-language model's config from {folder}")
    return 0


def _show(options: ShowOptions) -> int:
    from smolpilot.policy import load_policy
    from smolpilot.policy.summary import summary, summary_text

    policy = load_policy(
        options.path,
        device="cpu",
        revision=options.revision,
        stats_from=options.stats_from,
        tokenizer_dir=options.tokenizer,
        need_statistics=False,
    )
    print(json_text(summary(policy)) if options.json else summary_text(policy))
    return 0
