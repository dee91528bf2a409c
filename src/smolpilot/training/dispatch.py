"""`train` for every kind of training: a new run or one to resume; a single run, one for each seed, stages."""

from __future__ import annotations

import contextlib
from pathlib import Path

from .options.train_options import TrainOptions
from .recipe.recipe_paths import recipe_options
from .recipe.seed_runs import resume_recipe, train_recipe
from .run.distributed import DistributedContext
from .run.run import resume
from .run.run import train as train_run
from .stages.sequence import resume_stages, train_stages
from .stages.sequence_paths import is_sequence


def train(options: TrainOptions, *, ranks: DistributedContext | None = None) -> Path:
    """Train as the options say and return the run folder; its `checkpoints/best` is the bundle to use.

    With `stages` it is a sequence of runs, with `seeds` one run for each. ranks: the processes that train, where the
    caller has joined them already. Raises what `run.train` raises.
    """
    with contextlib.ExitStack() as stack:
        joined = ranks if ranks is not None else stack.enter_context(DistributedContext.from_environment())
        if options.resume and options.out is not None and is_sequence(options.out.expanduser()):
            return resume_stages(options, joined)
        if options.resume and options.out is not None and recipe_options(options.out.expanduser()) is not None:
            return resume_recipe(options, joined)
        if options.resume:
            return resume(options, joined)
        if options.seeds:
            return train_recipe(options, joined)
        return train_run(options, joined) if options.stages is None else train_stages(options, joined)
