"""train_recipe: the same recipe once for each seed, run after run; resumes where it was interrupted."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from pathlib import Path

from smolpilot.common.atomic import atomic_folder
from smolpilot.common.errors import UsageError, check_seed
from smolpilot.training.options.train_options import TrainOptions, absolute_paths, check, check_resume
from smolpilot.training.run import run_folder
from smolpilot.training.run.distributed import DistributedContext
from smolpilot.training.run.interrupts import TrainingStoppedError
from smolpilot.training.run.run import resume, train
from smolpilot.training.status import run_status

from .recipe_paths import options_of_seed, recipe_options, seed_run
from .recipe_report import write_report


def train_recipe(options: TrainOptions, ranks: DistributedContext) -> Path:
    """Train `options` once for each of its seeds, into OUT/seed_K, and write OUT/recipe.json; returns OUT.

    In a folder where the same command was interrupted it goes on. Raises what `train` raises, UsageError for options
    that differ from those of the folder.
    """
    settled = ranks.run_on_all_ranks(lambda: _checked(options))
    assert settled.out is not None
    ranks.on_rank_zero(lambda: _create(settled))
    return _run(settled, settled.out, ranks)


def resume_recipe(given: TrainOptions, ranks: DistributedContext) -> Path:
    """Go on with the recipe in `given.out`."""
    options, out = ranks.run_on_all_ranks(lambda: run_folder.resumed_options(given))
    return _run(dataclasses.replace(options, out=out, resume=False), out, ranks)


def _checked(options: TrainOptions) -> TrainOptions:
    """The options with paths that hold from anywhere, with nothing that contradicts the seeds."""
    if options.seed != TrainOptions().seed:
        raise UsageError("--seed and --seeds exclude each other.", fix="name every seed in --seeds")
    if options.stages is not None:
        raise UsageError(
            "--seeds and --stages exclude each other.", fix="train the sequence again with another --seed and --out"
        )
    if len(options.seeds) < 2:
        raise UsageError(
            f"--seeds names one seed, {options.seeds[0]}.", expected="several, such as 0,1,2",
            fix=f"for a single run: --seed {options.seeds[0]}",
        )  # fmt: skip
    if len(set(options.seeds)) < len(options.seeds):
        raise UsageError(f"--seeds {','.join(map(str, options.seeds))} names a seed twice.")
    for seed in options.seeds:
        check_seed(seed)
    return absolute_paths(check(options))


def _create(options: TrainOptions) -> None:
    """Make the folder, or find that it holds the same recipe."""
    out = options.out
    assert out is not None
    saved = recipe_options(out)
    if saved is None:
        run_folder.refuse_existing(out)
        with atomic_folder(out) as beside:
            (beside / run_folder.CONFIG).write_text(run_folder.config_text(options), encoding="utf-8")
        return
    try:
        check_resume(options, saved)
    except UsageError as error:
        what = error.found.partition(": ")[2] or error.found
        raise UsageError(
            f"{out} holds another recipe; these differ: {what}", fix="give the same options again, or another --out"
        ) from error


def _run(options: TrainOptions, out: Path, ranks: DistributedContext) -> Path:
    """Train what is not finished. Rank 0 decides and writes, all ranks train."""
    try:
        with contextlib.ExitStack() as stack:
            ranks.on_rank_zero(lambda: stack.enter_context(run_folder.run_lock(out)))
            for number, seed in enumerate(options.seeds, 1):
                _train(options, out, seed, number, ranks)
            ranks.on_rank_zero(lambda: write_report(options, out))
    except BaseException:
        if ranks.is_zero:
            _clear_unbegun(out)
        raise
    return out


def _train(options: TrainOptions, out: Path, seed: int, number: int, ranks: DistributedContext) -> None:
    folder, count = seed_run(out, seed), len(options.seeds)
    stands = ranks.broadcast(lambda: _stands(folder))
    if stands == "finished":
        print(f"\n== seed {seed}, {number} of {count}: trained already ==\n", flush=True)
        return
    print(f"\n== seed {seed}, {number} of {count} ==\n", flush=True)
    own = options_of_seed(options, out, seed)
    try:
        if stands == "begun":
            resume(dataclasses.replace(run_folder.load_config(folder), resume=True, device=own.device), ranks)
        else:
            train(own, ranks)
    except TrainingStoppedError as stopped:
        raise TrainingStoppedError(
            f"Seed {seed}: {stopped.found}",
            fix=f"go on with the same command, or: smolpilot train --resume --out {out}",
        ) from stopped


def _stands(folder: Path) -> str:
    if not (folder / run_folder.CONFIG).is_file():
        return "new"
    return "finished" if run_status(folder).state == "finished" else "begun"


def _clear_unbegun(out: Path) -> None:
    """Remove a recipe of which no run has begun: what was wrong with the first one is no reason to keep a folder."""
    if {entry.name for entry in out.iterdir()} <= {run_folder.CONFIG, run_folder.PROCESS}:
        shutil.rmtree(out, ignore_errors=True)
