"""`smolpilot eval POLICY --dataset PATH --out DIR`: how close a policy stays to recorded episodes."""

from __future__ import annotations

import functools
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

from smolpilot.common.errors import UsageError
from smolpilot.common.progress import progress_bar
from smolpilot.common.streams import results_apart
from smolpilot.evaluation.eval_options import EvalOptions

from .parsing.opening import policy_options, print_end, say_cameras, say_opened
from .parsing.tables import table
from .parsing.verbs import Verb

if TYPE_CHECKING:
    from smolpilot.contracts import Embodiment, Policy, PolicyOptions
    from smolpilot.datasets import Dataset


def run(options: EvalOptions) -> int:
    """Score the policy; 0 when the report is written, whatever the errors are, 1 for a policy that predicts NaN."""
    from smolpilot.common.atomic import atomic_folder
    from smolpilot.compatibility.preflight_checks import preflight_policy
    from smolpilot.compatibility.verdict import stop_on_errors
    from smolpilot.datasets import open_dataset
    from smolpilot.evaluation import embodiment_of, evaluate, write_eval_report
    from smolpilot.evaluation.offline.metrics_document import to_json
    from smolpilot.policies import open_policy

    # Opened first: that the folder exists already should not be noticed after an hour of predictions.
    with results_apart(options.json), atomic_folder(options.out) as folder, progress_bar() as progress:
        dataset = open_dataset(options.dataset)
        dataset.check_videos()
        embodiment = embodiment_of(dataset.meta, options.robot, options.units)
        with closing(open_policy(options.policy, _policy_options(options, dataset), embodiment)) as policy:
            _check_robot(options, policy, embodiment)
            stop_on_errors(
                preflight_policy(policy, dataset, units=options.units, robot=options.robot),
                overruled=not options.preflight,
                say=functools.partial(print, file=sys.stderr),
            )
            opened = policy.spec.facts
            say_opened(opened)
            result = evaluate(
                policy,
                dataset,
                options.episodes,
                every=options.every,
                max_frames=options.max_frames,
                seed=options.seed,
                batch_size=options.batch_size,
                units=options.units,
                robot=options.robot,
                progress=progress,
            )
        write_eval_report(folder, result.scored, result.document, progress=progress)
    if options.json:
        print(to_json(result.document), end="")
    else:
        say_cameras(opened)
        _print(result.document, options)
    # Large errors are a result; numbers that are none must not reach a robot, nor pass a script.
    return 1 if result.document["verdict"]["fails"] else 0


def _policy_options(options: EvalOptions, dataset: Dataset) -> PolicyOptions:
    from smolpilot.evaluation.offline.policy_frames import calibration_frames, frames_of

    if options.calibrate_on is not None:
        return policy_options(options, frames_of(options.calibrate_on))
    own = calibration_frames(dataset, options.episodes, options.units)
    return policy_options(options, own if options.engine == "int8" else None)


def _check_robot(options: EvalOptions, policy: Policy, embodiment: Embodiment) -> None:
    own = policy.spec.profile
    # A policy without a robot of its own may have been given the dataset's.
    if options.robot is not None and own is not None and own != embodiment.profile:
        raise UsageError(
            f"--robot is given, but the policy carries its own robot profile, '{own.name}'.",
            expected="--robot for a policy without one, such as LeRobot's",
            fix="leave --robot out; --units says what differs in the dataset",
        )


def _print(document: dict[str, Any], options: EvalOptions) -> None:
    from smolpilot.common.terminal import Terminal
    from smolpilot.evaluation.rates.intervals import Interval
    from smolpilot.evaluation.rates.wording import error_span
    from smolpilot.evaluation.reports import number

    console = Terminal()
    console.print(document["split"]["text"], soft_wrap=True)
    mixed = len({joint["unit"] for joint in document["joints"]}) > 1
    title = f"Error per joint ({document['unit']}), {document['frames']} frames, chunks of {document['horizon']}"
    numbers = ("MAE", "95 % interval", "max", "hold state", "mean action")
    rows = table("joint", *numbers, numbers=numbers, title=title)
    for joint in document["joints"]:
        keys = ("max", "hold_mae", "mean_action_mae")
        name = f"{joint['name']} ({joint['unit']})" if mixed else joint["name"]
        ends = joint["mae_interval"]
        spread = "none" if ends is None else error_span(Interval(*ends))
        rows.add_row(name, number(joint["mae"]), spread, *(number(joint[key]) for key in keys))
    console.print(rows)
    for floor in (document["against_hold"], document["against_mean_action"]):
        if floor is not None:
            console.print(f"{floor['text'][0].upper()}{floor['text'][1:]}", soft_wrap=True)
    latency = document["latency"]
    if latency is not None:  # a policy that fails has none
        console.print(
            f"Latency of a chunk: p50 {number(latency['chunk']['p50_ms'])} ms, p95 "
            f"{number(latency['chunk']['p95_ms'])} ms ({latency['device']}, {latency['warm_up']} to warm up not "
            f"counted); of a queue pop, apart: p50 {number(latency['queue_pop']['p50_ms'])} ms",
            soft_wrap=True,
        )
    print_end(console, document, f"The policy {document['verdict']['text']}.", options.out)


VERB = Verb(EvalOptions, run)
