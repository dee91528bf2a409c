"""`smolpilot rollout RECIPE`: each training seed's best checkpoint on the same episodes, and what they come to."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smolpilot.cli.parsing.tables import table
from smolpilot.common.errors import UsageError
from smolpilot.common.streams import results_apart
from smolpilot.common.text import json_text

if TYPE_CHECKING:
    from smolpilot.evaluation.eval_options import RolloutOptions
    from smolpilot.training import TrainOptions

_SETTINGS = "settings.json"
_FREE = ("out", "json", "jobs", "parallel", "device", "env_python")  # they decide about no episode


def recipe_of(policy: str) -> TrainOptions | None:
    """The options of the recipe that stands in the place of a policy; None for anything else."""
    folder = Path(policy).expanduser()
    if not (folder / "config.yaml").is_file():
        return None
    from smolpilot.training.recipe.recipe_paths import recipe_options

    return recipe_options(folder)


def rollout_recipe(options: RolloutOptions, recipe: TrainOptions, rollout: Callable[[RolloutOptions], None]) -> None:
    """Roll out every seed into OUT/seed_K by `rollout`, and write OUT/results.json. The same command resumes.

    UsageError for a recipe whose training has not ended, and where OUT holds something else.
    """
    from smolpilot.common.atomic import write_text_atomic
    from smolpilot.common.json_input import to_plain
    from smolpilot.evaluation.rollout.recipe_rollouts import recipe_document
    from smolpilot.evaluation.rollout.results import RESULTS, read_results

    if options.untrained:
        raise UsageError(
            "--untrained replaces the weights that tell a recipe's seeds apart.", fix="name one seed's run"
        )
    checkpoints = _checkpoints(Path(options.policy).expanduser(), recipe)
    _claim(options, checkpoints)
    results = {}
    with results_apart(True) if options.json else nullcontext():
        for seed, checkpoint in checkpoints.items():
            folder = options.out / f"seed_{seed}"
            print(f"\n== training seed {seed}, {checkpoint.name} ==\n", file=sys.stderr, flush=True)
            if not (folder / RESULTS).is_file():
                with _unbegun(options.out):
                    rollout(dataclasses.replace(options, policy=str(checkpoint), out=folder, json=False))
            results[seed] = read_results(folder)
    _require_one_world([options.out / f"seed_{seed}" for seed in checkpoints])
    document = to_plain(recipe_document(results, {seed: f"seed_{seed}" for seed in results}))
    write_text_atomic(options.out / RESULTS, json_text(document) + "\n")
    if options.json:
        print(json_text(document))
    else:
        _print(document, options.out)


def _checkpoints(folder: Path, recipe: TrainOptions) -> dict[int, Path]:
    """Training seed -> its best checkpoint."""
    from smolpilot.training.recipe.recipe_paths import seed_run
    from smolpilot.training.run.run_paths import best_checkpoint, is_run
    from smolpilot.training.status import run_status

    for seed in recipe.seeds:
        run = seed_run(folder, seed)
        if not is_run(run) or run_status(run).state != "finished":
            raise UsageError(
                f"Seed {seed} of the recipe {folder} is not trained to its end.",
                fix=f"finish it: smolpilot train --resume --out {folder}; or roll out the run of one seed",
            )
    return {seed: best_checkpoint(seed_run(folder, seed)) for seed in recipe.seeds}


def _claim(options: RolloutOptions, checkpoints: dict[int, Path]) -> None:
    """Make OUT, or find that it holds the begun rollouts of the same command."""
    from smolpilot.common.atomic import atomic_folder
    from smolpilot.common.json_input import read_json_object, to_plain
    from smolpilot.evaluation.rollout.results import RESULTS

    chosen = {key: value for key, value in vars(options).items() if key not in _FREE}
    settings = json.loads(json.dumps(to_plain({**chosen, "checkpoints": [str(one) for one in checkpoints.values()]})))
    if not (options.out / _SETTINGS).is_file() or (options.out / RESULTS).exists():
        with atomic_folder(options.out) as beside:
            (beside / _SETTINGS).write_text(json.dumps(settings), encoding="utf-8")
        return
    try:
        before = read_json_object(options.out / _SETTINGS)
    except (OSError, ValueError):
        before = {}
    if differing := sorted(key for key in settings if before.get(key) != settings[key]):
        raise UsageError(
            f"{options.out} holds rollouts of other options; these differ: {', '.join(differing)}.",
            fix="give the same options again, or another --out",
        )


def _require_one_world(folders: Sequence[Path]) -> None:
    """UsageError where seeds were rolled out in different simulations: packages may have changed since a kill."""
    from smolpilot.evaluation.rollout.comparing import read_side, require_same_world

    first, *others = [read_side(folder) for folder in folders]
    for other in others:
        require_same_world(first, other)


@contextmanager
def _unbegun(out: Path) -> Iterator[None]:
    """Remove OUT where nothing came of the first rollout: what was wrong with it is no reason to keep a folder."""
    try:
        yield
    except BaseException:
        if {entry.name for entry in out.iterdir()} <= {_SETTINGS}:
            shutil.rmtree(out, ignore_errors=True)
        raise


def _print(document: dict[str, Any], out: Path) -> None:
    from smolpilot.common.terminal import Terminal
    from smolpilot.evaluation.reports import interval, percent

    console = Terminal()
    numbers = ("episodes", "success", "95 % interval")
    rows = table("training seed", *numbers, numbers=numbers, title="The same episodes for every seed")
    for one in document["seeds"]:
        rows.add_row(
            str(one["training_seed"]),
            str(one["episodes"]),
            f"{one['successes']} ({percent(one['success_rate'])})",
            interval(one["interval"]),
        )
    console.print(rows)
    for warning in document["warnings"]:
        console.print(f"warning: {warning}", style="yellow", soft_wrap=True)
    console.print(document["text"], style="bold", soft_wrap=True)
    console.print(f"Results: {out / 'results.json'}; a report for each seed in {out}/seed_*", soft_wrap=True)
