"""`smolpilot train`: parse the options, train, say what comes next."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from smolpilot.common.errors import UsageError
from smolpilot.common.json_input import read_json_file
from smolpilot.common.progress import working
from smolpilot.common.renamed import renamed_words
from smolpilot.common.safe_paths import followed
from smolpilot.common.text import pluralize
from smolpilot.training import TrainOptions

from .parsing.arguments import split_words
from .parsing.options import parse, parse_with_config
from .parsing.tables import table
from .parsing.verbs import Verb


def read(args: Sequence[str]) -> TrainOptions:
    """The options of the words, of --config FILE, or of the run that --resume continues."""
    words = _resume_words(renamed_words("train", args))
    if "--resume" in words:
        return _resumed(words)
    options = parse_with_config(TrainOptions, words, verb="train")
    if options.seeds and any(one.key == "seed" for one in split_words(words)[1]):
        raise UsageError("--seed and --seeds exclude each other.", fix="name every seed in --seeds")
    if options.resume:
        raise UsageError("`resume` is no setting of a config file.", fix="use --resume --out RUN on the command line")
    return options


def run(options: TrainOptions) -> int:
    """Train and print the next command; 1 for a failed --overfit, 130 when a signal stopped it (all is saved then)."""
    if options.overfit:
        return _overfit(options)
    with working("loading torch"):
        from smolpilot.training import TrainingStoppedError, train
    from smolpilot.common.progress import is_rank_zero

    try:
        folder = train(options)
    except TrainingStoppedError as stopped:
        if is_rank_zero():
            print(stopped, file=sys.stderr)
        return stopped.exit_code
    if not is_rank_zero():
        return 0
    if options.stages is not None:
        _print_sequence(folder)
    elif options.seeds:
        _print_recipe(folder)
    else:
        print(f"\nThe run is in {folder}. Next, see how good it is:\n  {_next_command(folder, options)}")
    return 0


def _overfit(options: TrainOptions) -> int:
    if options.seeds:
        raise UsageError("--overfit and --seeds exclude each other.", fix="leave --seeds out")
    if options.resume:
        raise UsageError("--overfit and --resume exclude each other.", fix="leave --resume out")
    from smolpilot.selftest.overfit import overfit

    result = overfit(dataclasses.replace(options, overfit=False))
    print("\n".join(result.lines()))
    return 0 if result.passed else 1


def _next_command(run: Path, options: TrainOptions) -> str:
    best = run / "checkpoints" / "best"
    if not best.exists():  # no validation gave a finite error
        best = run / "checkpoints" / "last"
    dataset = options.dataset or options.mixture[0].dataset
    facts = read_json_file(followed(best) / "smolpilot.json")
    command = ["smolpilot", "eval", str(best), "--dataset", str(dataset), "--out", str(run / "eval")]
    # Without held-out episodes there is nothing unseen to score on.
    return shlex.join(command if facts["lineage"]["held_out_episodes"] else [*command, "--episodes", "all"])


def _print_sequence(run: Path) -> None:
    """The tables of the report, and where it is."""
    from smolpilot.common.terminal import Terminal
    from smolpilot.evaluation.reports.report_page import REPORT
    from smolpilot.training.stages.stages_report import JSON, MARKDOWN, tables

    console = Terminal()
    document = read_json_file(run / JSON)
    for title, columns, rows in tables(document):
        found = table(*columns, numbers=columns[1:], title=title)
        for row in rows:
            found.add_row(*row)
        console.print(found)
    console.print(f"The sequence is in {run}; report: {run / REPORT}, as text: {run / MARKDOWN}", soft_wrap=True)


def _print_recipe(out: Path) -> None:
    """The seeds' errors, what they come to, and the next command."""
    from smolpilot.common.terminal import Terminal
    from smolpilot.evaluation.rates.intervals import Interval
    from smolpilot.evaluation.rates.wording import error_span
    from smolpilot.evaluation.reports import number
    from smolpilot.training.recipe.recipe_paths import RESULT

    console, document = Terminal(), read_json_file(out / RESULT)
    error = document["error"]
    if error is not None:
        title = f"Held-out error ({error['unit']}), {pluralize(error['episodes'], 'episode')}"
        rows = table("training seed", "checkpoint", "error", "95 % interval", numbers=("error",), title=title)
        for run in document["runs"]:
            ends = run["interval"]
            spread = "none" if None in ends else error_span(Interval(*ends))
            rows.add_row(str(run["seed"]), run["checkpoint"], number(run["error"]), spread)
        console.print(rows)
    console.print(document["text"], style="bold", soft_wrap=True)
    command = shlex.join(["smolpilot", "rollout", str(out), "--env", "NAME", "--out", str(out / "rollout")])
    console.print(f"\nThe runs are in {out}. Next, see how often they succeed:\n  {command}", soft_wrap=True)


def _resume_words(args: Sequence[str]) -> list[str]:
    """The words with `--resume` alone: `--resume=true` and `--resume RUN`, as others have it, mean the same."""
    before, given = split_words(args)
    words = list(before)
    for one in given:
        if one.key != "resume" or not one.values:
            words += one.words
            continue
        value, rest = one.values[0], one.values[1:]
        if value.lower() in ("false", "no", "0"):
            continue
        names_run = value.lower() not in ("true", "yes", "1")
        if names_run and any(other.key == "out" for other in given):
            raise UsageError(f"--resume takes no value, and {value} is one.", fix="name the run with --out alone")
        words += ["--resume", *(["--out", value] if names_run else []), *rest]
    return words


def _resumed(words: list[str]) -> TrainOptions:
    """The run's own options, with what else is on the command line; what may differ is checked by `train`."""
    if any(word == "--config" or word.startswith("--config=") for word in words):
        raise UsageError("--resume takes the run's own config.yaml, not --config.", fix="leave --config out")
    out = parse(TrainOptions, words, verb="train").out
    if out is None:
        raise UsageError("--resume needs the run folder.", fix="add --out, for example --out runs/first")
    from smolpilot.training.run.run_folder import load_config

    run = _run_to_resume(out)
    return dataclasses.replace(parse(TrainOptions, words, verb="train", default=load_config(run)), out=run)


def _run_to_resume(out: Path) -> Path:
    """The run that `out` is or lies in; a checkpoint stands for its run where it is the newest one."""
    from smolpilot.smolvla.checkpoint.locate import newest_step
    from smolpilot.training.run.run_paths import checkpoint_of, run_above, sequence_above

    run = run_above(out.expanduser())
    if run is None:
        return out
    checkpoint, newest = checkpoint_of(out.expanduser()), newest_step(followed(run / "checkpoints"))
    if checkpoint is not None and newest is not None and checkpoint != newest.resolve():
        raise UsageError(
            f"{out} is not the newest checkpoint of the run {run}; --resume continues from that ({newest.name}).",
            fix=f"resume the run: smolpilot train --resume --out {run}; or start a new run from that checkpoint: "
            f"--policy {out} --out NEW_RUN",
        )
    whole = sequence_above(run) or run
    if whole != out.expanduser():
        print(f"{out} belongs to the run {whole}: resuming that.", file=sys.stderr)
    return whole


VERB = Verb(TrainOptions, run, config=True, read=read)
