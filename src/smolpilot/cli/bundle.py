"""`smolpilot bundle PATH` shows a bundle; `seal` renews its digests, `localize` is for LeRobot offline."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import tyro

from smolpilot.common.option_types import Flag
from smolpilot.common.text import json_text

from .parsing.verbs import Verb


@dataclass(kw_only=True)
class ShowOptions:
    """Show what a bundle, LeRobot checkpoint, run folder or hub id holds, by loading it as a run would.

    `smolpilot bundle seal DIR` renews its digests after a change of your own; `smolpilot bundle localize DIR` writes
    the absolute paths that LeRobot needs offline.
    """

    path: tyro.conf.Positional[str]
    """Bundle, checkpoint or run folder, or hub id."""
    policy_stats_from: Path | None = None
    """Dataset whose statistics replace the policy's own."""
    tokenizer: Path | None = None
    """Folder with the tokenizer, where the checkpoint has none."""
    revision: str | None = None
    """Revision of a hub id."""
    json: Flag = False
    """Print one JSON document."""


@dataclass(kw_only=True)
class LocalizeOptions:
    """Write the absolute paths of a bundle's own tokenizer and model config into its LeRobot files.

    Only LeRobot needs this, offline, and again after every move of the bundle.
    """

    path: tyro.conf.Positional[Path]
    """The bundle."""


@dataclass(kw_only=True)
class SealOptions:
    """Renew the digests of a bundle whose files you have changed, or add them to one of an earlier version.

    The bundle is loaded first, and must give finite actions. What differs from the old digests is printed.
    """

    path: tyro.conf.Positional[Path]
    """The bundle, or a run folder (its best checkpoint)."""


def localize_bundle(options: LocalizeOptions) -> None:
    """Write the paths."""
    from smolpilot.smolvla import localize

    folder = localize(options.path)
    print(f"LeRobot will read the tokenizer and the vision-language model's config from {folder}")


def seal(options: SealOptions) -> None:
    """Renew the digests of a policy that gives finite actions."""
    import torch

    from smolpilot.common.errors import CheckpointError
    from smolpilot.inference.example_frame import example_frame
    from smolpilot.smolvla import Policy, seal_bundle

    def finite(policy: Policy) -> None:
        if not bool(torch.isfinite(policy.predict_chunk(example_frame(policy.transforms_config))).all()):
            raise CheckpointError(f"The policy in {options.path} gives actions that are not finite.")

    folder, found = seal_bundle(options.path, finite)
    print(f"sealed: {folder}")
    print("it had no digests" if found is None else found.text() or "nothing had changed")


def show(options: ShowOptions) -> None:
    """Load the policy and print what it is."""
    from smolpilot.smolvla import load_policy
    from smolpilot.smolvla.checkpoint.sealing import NoDigestsWarning
    from smolpilot.smolvla.summary import summary, summary_text

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoDigestsWarning)  # the report has a line for it
        policy = load_policy(
            options.path,
            device="cpu",
            revision=options.revision,
            stats_from=options.policy_stats_from,
            tokenizer_dir=options.tokenizer,
            need_statistics=False,
        )
    print(json_text(summary(policy)) if options.json else summary_text(policy))


VERB = Verb(ShowOptions, show)
SEAL = Verb(SealOptions, seal)
LOCALIZE = Verb(LocalizeOptions, localize_bundle)
