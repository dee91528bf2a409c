"""`smolpilot bundle PATH` shows a bundle or checkpoint; `seal` renews its digests after a change, `localize` is for an
offline LeRobot."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import tyro

from smolpilot.common.safe_text import json_text

from .options import parse


@dataclass
class ShowOptions:
    """Show what a bundle, LeRobot checkpoint, run folder or hub id holds, by loading it as a run would.

    `smolpilot bundle seal DIR` renews its digests after a change of your own; `smolpilot bundle localize DIR` writes
    the absolute paths that an offline LeRobot needs.
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


@dataclass
class SealOptions:
    """Renew the digests of a bundle whose files you have changed, or add them to one of an earlier version.

    The bundle is loaded first, and must give finite actions. What differs from the old digests is said.
    """

    path: tyro.conf.Positional[Path]
    """The bundle, or a run folder (its best checkpoint)."""


def main(argv: list[str]) -> int:
    """Run the verb; returns the exit code."""
    if argv[:1] == ["localize"]:
        return _localize(parse(LocalizeOptions, argv[1:], verb="bundle localize"))
    if argv[:1] == ["seal"]:
        return _seal(parse(SealOptions, argv[1:], verb="bundle seal"))
    return _show(parse(ShowOptions, argv, verb="bundle"))


def _localize(options: LocalizeOptions) -> int:
    from smolpilot.smolvla import localize

    folder = localize(options.path)
    print(f"LeRobot will read the tokenizer and the vision-language model's config from {folder}")
    return 0


def _seal(options: SealOptions) -> int:
    import torch

    from smolpilot.common.errors import CheckpointError
    from smolpilot.inference.example_frame import made_up_frame
    from smolpilot.smolvla import Policy, seal_bundle

    def finite(policy: Policy) -> None:
        if not bool(torch.isfinite(policy.predict_chunk(made_up_frame(policy.recipe))).all()):
            raise CheckpointError(f"The policy in {options.path} gives actions that are not finite.")

    folder, found = seal_bundle(options.path, finite)
    print(f"sealed: {folder}")
    print("it had no digests" if found is None else found.text() or "nothing had changed")
    return 0


def _show(options: ShowOptions) -> int:
    from smolpilot.smolvla import load_policy
    from smolpilot.smolvla.checkpoint.sealing import NoDigestsWarning
    from smolpilot.smolvla.summary import summary, summary_text

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoDigestsWarning)  # the report has a line for it
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
