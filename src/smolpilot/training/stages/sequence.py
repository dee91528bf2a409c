"""train_stages: run after run, each judged on every task so far; resumes where it was interrupted."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from smolpilot.common.atomic import write_text_atomic
from smolpilot.common.errors import TrainingError, UsageError, check_seed
from smolpilot.common.json_input import read_json_file, read_json_object
from smolpilot.common.machine import run_environment
from smolpilot.common.progress import track
from smolpilot.common.safe_paths import point
from smolpilot.robots.layout import to_policy_order
from smolpilot.smolvla import load_policy
from smolpilot.training.data.run_statistics import save_statistics
from smolpilot.training.options.train_options import TrainOptions, absolute_paths
from smolpilot.training.run import run_folder
from smolpilot.training.run.distributed import DistributedContext
from smolpilot.training.run.interrupts import TrainingStoppedError
from smolpilot.training.run.run import resume, train
from smolpilot.training.run.run_paths import best_checkpoint

from .plan import Gate, Plan, absolute, load_plan, plan_text
from .score import Scale, TaskScore, check_references, check_simulation, open_reference, score_task, simulation_of
from .sequence_paths import RESULT, SequencePaths
from .stage_options import OpenedStages, check_stages, merge_defaults, open_stages, shared_statistics, stage_options
from .stages_report import write_report


def train_stages(options: TrainOptions, ranks: DistributedContext) -> Path:
    """Train all stages of `options.stages` into the new folder `options.out`; returns it.

    Each stage is an ordinary run below `stages/`; `checkpoints` points at the last finished one, so that the folder
    stands for its best policy. Raises what `train` raises, TrainingError when a stage fails its gate.
    """
    plan, defaults = ranks.run_on_all_ranks(lambda: _checked(options))
    with contextlib.ExitStack() as stack:
        ranks.on_rank_zero(lambda: stack.enter_context(run_folder.preparing(_out(defaults), None)))
        sequence = ranks.run_on_all_ranks(lambda: _opened(plan, defaults, ranks))
        ranks.on_rank_zero(sequence.create)
    return sequence.run()


def resume_stages(given: TrainOptions, ranks: DistributedContext) -> Path:
    """Resume the sequence in `given.out` in the stage where it was interrupted.

    Its own stages.yaml holds: gates and stages that have not begun may be edited there.
    """

    def reopened() -> _Sequence:
        options, out = run_folder.resumed_options(given)
        defaults = dataclasses.replace(options, resume=False, stages=SequencePaths(out).plan, out=out)
        return _opened(load_plan(SequencePaths(out).plan), defaults, ranks)

    return ranks.run_on_all_ranks(reopened).run()


def _opened(plan: Plan, defaults: TrainOptions, ranks: DistributedContext) -> _Sequence:
    opened = open_stages(plan, defaults, SequencePaths(_out(defaults)))
    check_stages(opened)
    if ranks.is_zero:
        _check_judges(opened)
    return _Sequence(opened, ranks)


def _checked(options: TrainOptions) -> tuple[Plan, TrainOptions]:
    """The plan with its options, with nothing that contradicts it."""
    assert options.stages is not None
    if options.out is None:
        raise UsageError("--out is missing.", fix="name the folder of the sequence, for example --out runs/sequence")
    for name in ("dataset", "mixture", "episodes", "steps", "norm_stats_file"):
        if getattr(options, name) not in (None, ()):
            raise UsageError(
                f"--{name} and --stages exclude each other.", fix=f"each stage of {options.stages} says its own"
            )
    check_seed(options.seed)
    plan = load_plan(options.stages)
    return absolute(plan), absolute_paths(merge_defaults(plan, options))


def _check_judges(opened: OpenedStages) -> None:
    """Find now what would stop the judging after hours of training."""
    profile = opened.profile
    for stage, dataset in zip(opened.plan.stages, opened.datasets, strict=True):
        check_simulation(stage, dataset, profile)
    first = opened.datasets[0]
    own = to_policy_order(first.meta.statistics, first.layout, profile)
    check_references(opened.plan, first, Scale(profile, own))


def _out(options: TrainOptions) -> Path:
    assert options.out is not None
    return options.out.expanduser().absolute()


class _Sequence:
    """A sequence on disk: what is finished there is not done again."""

    def __init__(self, opened: OpenedStages, ranks: DistributedContext) -> None:
        self.opened, self.ranks = opened, ranks
        self.plan, self.defaults, self.paths = opened.plan, opened.defaults, opened.paths

    def create(self) -> None:
        """Settle what all stages share and put the folder in place."""
        paths = self.paths
        statistics, origin = shared_statistics(self.opened)
        with run_folder.filled(paths.out) as beside:
            settled = dataclasses.replace(self.defaults, stages=paths.plan)
            (beside / run_folder.CONFIG).write_text(run_folder.config_text(settled), encoding="utf-8")
            (beside / paths.plan.name).write_text(plan_text(self.plan), encoding="utf-8")
            (beside / paths.robot.name).write_text(self.opened.profile.to_yaml(), encoding="utf-8")
            save_statistics(beside / paths.statistics.name, statistics, self.opened.profile, origin)
            about = json.dumps(run_environment(torch.device("cpu")) | {"processes": self.ranks.size}, indent=2)
            (beside / "environment.json").write_text(about + "\n", encoding="utf-8")
            (beside / "stages").mkdir()
        print(f"statistics: {origin}, the same in every stage")

    def run(self) -> Path:
        """Train what is not finished. Rank 0 decides, judges and writes, all ranks train."""
        with contextlib.ExitStack() as stack:
            self.ranks.on_rank_zero(lambda: stack.enter_context(run_folder.run_lock(self.paths.out)))
            for note in self.opened.notes:
                print(f"note: {note}")
            for number in range(1, len(self.plan.stages) + 1):
                self._stage(number)
        return self.paths.out

    def _stage(self, number: int) -> None:
        """Train and judge a stage until it passes its gate, or may not be tried again."""
        stage, folder, broadcast = self.plan.stages[number - 1], self._folder(number), self.ranks.broadcast
        while True:
            attempt = broadcast(lambda: self._attempt(number))
            if not broadcast(lambda: (folder / RESULT).exists()):
                self._train(number, attempt)
                broadcast(partial(self._judge, number, attempt))
            failed = broadcast(lambda: self._report(number))
            if failed is None:
                break
            gate = stage.gate
            assert gate is not None
            if attempt <= gate.retries:
                print(f"stage {stage.name}: {failed} Attempt {attempt + 1} of {gate.retries + 1} follows.", flush=True)
                broadcast(partial(folder.rename, self.paths.failed(number, stage, attempt)))
                continue
            if gate.otherwise == "continue":
                print(f"WARNING: stage {stage.name}: {failed} The sequence continues all the same.", flush=True)
                break
            broadcast(partial(self._stop, number, attempt, failed))
        # `checkpoints` of the sequence is that of its newest finished stage.
        broadcast(partial(point, self.paths.out / "checkpoints", f"stages/{folder.name}/checkpoints"))

    def _stop(self, number: int, attempt: int, failed: str) -> None:
        stage, folder = self.plan.stages[number - 1], self._folder(number)
        raise TrainingError(
            f"Stage {stage.name} did not pass its gate: {failed}",
            expected=f"within its gate after {attempt} {'attempt' if attempt == 1 else 'attempts'}; everything is "
            f"saved in {self.paths.out}",
            fix=f"change the gate or the stage in {self.paths.plan} (to train it anew, remove {folder}), then: "
            f"smolpilot train --resume --out {self.paths.out}",
        )

    def _train(self, number: int, attempt: int) -> None:
        stage, folder = self.plan.stages[number - 1], self._folder(number)
        again = self.ranks.broadcast(lambda: (folder / run_folder.CONFIG).is_file())
        options = stage_options(self.opened, number, attempt)
        count = len(self.plan.stages)
        print(f"\n== stage {number} of {count}: {stage.name}{f', attempt {attempt}' if attempt > 1 else ''} ==\n")
        lineage = {"stages": self._lineage(number, attempt)}
        try:
            if again:
                resume(TrainOptions(out=folder, resume=True), self.ranks, lineage)
            else:
                train(options, self.ranks, lineage)
        except TrainingStoppedError as stopped:
            raise TrainingStoppedError(
                f"Stage {stage.name}: {stopped.found}",
                fix=f"resume with: smolpilot train --resume --out {self.paths.out}",
            ) from stopped

    def _judge(self, number: int, attempt: int) -> None:
        """Score the stage's best policy on every task so far, and on its own task the policies it is compared with."""
        folder = self._folder(number)
        best = best_checkpoint(folder)
        policy = load_policy(best, device=self.defaults.device)
        scale = Scale(self.opened.profile, policy.statistics)
        scores = []
        tasks = list(zip(self.plan.stages[:number], self.opened.datasets, strict=False))
        for stage, part in track(tasks, len(tasks), "evaluating every task so far", stream=sys.stderr):
            simulation = simulation_of(stage, part)
            scores.append(score_task(policy, part, self.plan.evaluation, simulation, scale, seed=self.defaults.seed))
        document = {
            "stage": self._lineage(number, attempt)[-1],
            "policy": best.name,
            "tasks": [score.to_json() for score in scores],
            "references": self._references(number, attempt, scale),
        }
        write_text_atomic(folder / RESULT, json.dumps(document) + "\n")

    def _references(self, number: int, attempt: int, scale: Scale) -> dict[str, Any]:
        """Policy of `evaluation.against` -> its score on the stage's own task; what an earlier attempt scored stays."""
        stage, part = self.plan.stages[number - 1], self.opened.datasets[number - 1]
        known: dict[str, Any] = {}
        if attempt > 1:
            known = dict(read_json_file(self.paths.failed(number, stage, attempt - 1) / RESULT).get("references", {}))
        found = {}
        for name in self.plan.evaluation.against:
            if name not in known:
                with contextlib.closing(open_reference(name, part, scale, self.defaults.device)) as policy:
                    score = score_task(
                        policy, part, self.plan.evaluation, simulation_of(stage, part), scale,
                        seed=self.defaults.seed, units=None if policy.spec.profile is None else self.defaults.units,
                    )  # fmt: skip
                known[name] = score.to_json()
            found[name] = known[name]
        return found

    def _report(self, number: int) -> str | None:
        """Write the report of the stages so far; what the newest misses of its gate, unless the next one has begun."""
        results = [self._result(one) for one in range(1, number + 1)]
        scores = [[TaskScore.from_json(task) for task in result["tasks"]] for result in results]
        references = [
            {name: TaskScore.from_json(task) for name, task in result.get("references", {}).items()}
            for result in results
        ]
        document = write_report(
            self.paths.out, scores, [result["stage"] for result in results], self.plan.evaluation.resamples, references
        )
        for line in _last_row(document):
            print(line, flush=True)
        gate = self.plan.stages[number - 1].gate
        return None if gate is None or self._begun(number + 1) else _missed(gate, scores[-1])

    def _lineage(self, number: int, attempt: int) -> list[dict[str, Any]]:
        """What every bundle of stage `number` says of the stages up to it."""
        done = [self._result(one)["stage"] for one in range(1, number)]
        stage, part = self.plan.stages[number - 1], self.opened.datasets[number - 1]
        options = stage_options(self.opened, number, attempt)
        own = {
            "name": stage.name,
            "dataset": part.meta.root.name,
            "dataset_fingerprint": part.meta.fingerprint,
            "trained_episodes": part.train.episodes,
            "held_out_episodes": part.held_out_episodes,
            "instruction": stage.instruction,
            "init": stage.init or ("previous" if number > 1 else options.policy or f"preset {options.preset}"),
            "steps": options.steps,
            "lr": options.lr,
            "replay": list(stage.shares),
            "attempt": attempt,
        }
        return [*done, own]

    def _attempt(self, number: int) -> int:
        """Number of the present attempt at a stage; failed ones are kept beside it."""
        stage, attempt = self.plan.stages[number - 1], 1
        while self.paths.failed(number, stage, attempt).exists():
            attempt += 1
        return attempt

    def _begun(self, number: int) -> bool:
        return number <= len(self.plan.stages) and (self._folder(number) / run_folder.CONFIG).is_file()

    def _folder(self, number: int) -> Path:
        return self.paths.stage(number, self.plan.stages[number - 1])

    def _result(self, number: int) -> Mapping[str, Any]:
        path = self._folder(number) / RESULT
        try:
            return read_json_object(path)
        except (OSError, ValueError) as error:
            raise TrainingError(
                f"The result of an earlier stage, {path}, cannot be read: {error}",
                fix="remove the file: the stage is evaluated anew on --resume",
            ) from error


def _missed(gate: Gate, tasks: Sequence[TaskScore]) -> str | None:
    """What a stage misses of its gate on the tasks so far, its own last; None when it passes."""
    limits = [gate.old] * (len(tasks) - 1) + [gate.new]
    missed = [
        f"the error on {task.name} is {task.error.mean():.4g} {task.unit}, its gate {limit:g}"
        for task, limit in zip(tasks, limits, strict=True)
        # A policy that predicts NaN passes no gate.
        if limit is not None and not task.error.mean() <= limit
    ]
    return "; ".join(missed) + "." if missed else None


def _last_row(document: dict[str, Any]) -> list[str]:
    """The results after the newest stage, a line for each task."""
    lines = []
    for task, name in enumerate(document["tasks"]):
        text = f"after {document['tasks'][-1]}: {name} {document['error']['matrix'][-1][task]['value']:.4g} "
        text += str(document["unit"])
        if document["success"] is not None:
            text += f", success {100 * document['success']['matrix'][-1][task]['value']:.0f} %"
        lines.append(text)
    return lines
