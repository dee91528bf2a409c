"""What a recipe comes to: the held-out error of each seed's best checkpoint, and the two spreads apart; recipe.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from smolpilot.common.atomic import write_text_atomic
from smolpilot.common.json_input import to_plain
from smolpilot.evaluation.rates.intervals import episode_bootstrap
from smolpilot.evaluation.rates.power import recipe_error
from smolpilot.evaluation.rates.wording import recipe_error_text
from smolpilot.smolvla import load_policy
from smolpilot.training.data.run_datasets import RunDataset, open_datasets
from smolpilot.training.options.train_options import TrainOptions
from smolpilot.training.run.run_paths import best_checkpoint
from smolpilot.training.stages.plan import Scoring
from smolpilot.training.stages.score import Scale, score_task

from .recipe_paths import RESULT, options_of_seed, seed_run

FORMAT = "smolpilot-recipe/1"


def write_report(options: TrainOptions, out: Path) -> dict[str, Any]:
    """Score each seed's best checkpoint on the held-out episodes, which are the same for all; returns the document."""
    split = options_of_seed(options, out, options.seeds[0]).split_seed
    assert split is not None
    parts = [
        one
        for one in open_datasets(options.sources, held_out=options.held_out, seed=split, notes=[])
        if one.held_out is not None
    ]
    scored = [_score(options, best_checkpoint(seed_run(out, seed)), parts) for seed in options.seeds]
    document: dict[str, Any] = {"format": FORMAT, "seeds": options.seeds, "error": None, "runs": []}
    for seed, (errors, _) in zip(options.seeds, scored, strict=True):
        folder = seed_run(out, seed)
        document["runs"].append(
            {
                "seed": seed,
                "folder": folder.name,
                "checkpoint": best_checkpoint(folder).name,
                "error": float(errors.mean()) if len(errors) else None,
                "interval": episode_bootstrap(errors, np.ones(len(errors))) if len(errors) else None,
            }
        )
    text = "No episode is held out, so that nothing says how good the recipe is."
    if parts:
        errors = np.stack([errors for errors, _ in scored])
        found, unit = recipe_error(errors), scored[0][1]
        text = recipe_error_text(found, len(options.seeds), errors.shape[1], unit)
        document["error"] = {
            "unit": unit,
            "episodes": errors.shape[1],
            "mean": found.mean,
            "interval": found.interval,
            "between_seeds": found.between_seeds,
            "over_episodes": found.over_episodes,
        }
    document["text"] = text
    write_text_atomic(out / RESULT, json.dumps(to_plain(document), indent=2) + "\n")
    return document


def _score(
    options: TrainOptions, checkpoint: Path, parts: list[RunDataset]
) -> tuple[np.ndarray[Any, np.dtype[np.float64]], str]:
    """The error of each held-out episode [E], in the unit that validation has, and that unit."""
    if not parts:
        return np.zeros(0), ""
    policy = load_policy(checkpoint, device=options.device)
    assert policy.profile is not None
    scale = Scale(policy.profile, policy.statistics)
    scoring = Scoring(frames=max(options.eval_frames, 1))
    found = [score_task(policy, part, scoring, None, scale, seed=0, units=options.units) for part in parts]
    return np.concatenate([one.error for one in found]), found[0].unit
