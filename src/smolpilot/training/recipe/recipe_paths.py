"""Where the runs of a recipe lie. Loads no torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from smolpilot.common.errors import SmolpilotError
from smolpilot.training.options.train_options import TrainOptions
from smolpilot.training.run.run_folder import CONFIG, load_config

RESULT = "recipe.json"


def recipe_options(out: Path) -> TrainOptions | None:
    """The options of the recipe in `out`; None where there is none: its config.yaml names several seeds."""
    if not (out / CONFIG).is_file():
        return None
    try:
        options = load_config(out)
    except SmolpilotError:
        return None
    return options if options.seeds else None


def seed_run(out: Path, seed: int) -> Path:
    """The run of a seed: an ordinary one."""
    return out / f"seed_{seed}"


def options_of_seed(options: TrainOptions, out: Path, seed: int) -> TrainOptions:
    """The options of the run of a seed. All hold out the same episodes, else the spread would be that of the split."""
    split = options.seeds[0] if options.split_seed is None else options.split_seed
    return replace(options, seeds=(), seed=seed, split_seed=split, out=seed_run(out, seed), resume=False)
