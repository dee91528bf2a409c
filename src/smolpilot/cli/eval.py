"""`smolpilot eval BUNDLE --dataset PATH --out DIR`: how close a policy stays to recorded episodes."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any

from smolpilot.cli.options import parse
from smolpilot.cli.progress import progress_bar
from smolpilot.errors import TransformError, UsageError
from smolpilot.evaluation.options import EvalOptions

if TYPE_CHECKING:
    from pathlib import Path

    from smolpilot.datasets import Dataset
    from smolpilot.policy import Policy


def main(args: list[str]) -> int:
    """Run the verb; 0 when the report is written, whatever the errors are, 1 for a policy that predicts NaN."""
    options = parse(EvalOptions, args, verb="eval")
    from smolpilot.atomic import atomic_folder
    from smolpilot.datasets import open_dataset
    from smolpilot.evaluation import evaluate, write_eval_report
    from smolpilot.evaluation.run_by import run_by, unscored
    from smolpilot.evaluation.summary import to_json
    from smolpilot.training.preflight import preflight_policy, stop_on_errors

    # Opened first: that the folder exists already should not be noticed after an hour of predictions.
    with atomic_folder(options.out) as folder, progress_bar() as progress:
        dataset = open_dataset(options.dataset)
        dataset.check_videos()
        policy = _load(options)
        warn = functools.partial(print, file=sys.stderr)
        stop_on_errors(
            preflight_policy(policy, dataset, units=options.units), overruled=not options.preflight, say=warn
        )
        calibration: Path | Dataset | None = options.calibrate_on
        if options.engine == "int8" and calibration is None:
            calibration = unscored(policy, dataset, options.episodes)
        result = evaluate(
            run_by(policy, options.engine, calibration, options.units if options.calibrate_on is None else None),
            dataset,
            options.episodes,
            every=options.every,
            max_frames=options.max_frames,
            seed=options.seed,
            batch_size=options.batch_size,
            num_steps=options.num_steps,
            units=options.units,
            progress=progress,
        )
        write_eval_report(folder, result.scored, result.document, progress=progress)
    if options.json:
        print(to_json(result.document), end="")
    else:
        _print(result.document, options)
    # Large errors are a result; numbers that are none must not reach a robot, nor pass a script.
    return 1 if result.document["verdict"]["fails"] else 0


def _load(options: EvalOptions) -> Policy:
    from smolpilot.policy import load_policy

    try:
        return load_policy(
            options.bundle,
            device=options.device,
            stats_from=options.stats_from,
            tokenizer_dir=options.tokenizer,
            camera_map=_camera_map(options),
        )
    except TransformError as error:
        if not options.camera_map:
            raise
        raise UsageError(f"--camera-map: {error.found}", expected=error.expected, fix=error.fix) from error


def _camera_map(options: EvalOptions) -> dict[str, str | None] | None:
    """The given map with `none`, as in training, for a camera that is left out; None: the policy's own."""
    return {camera: None if slot == "none" else slot for camera, slot in options.camera_map.items()} or None


def _print(document: dict[str, Any], options: EvalOptions) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from smolpilot.evaluation.report import number

    console = Console(highlight=False)
    console.print(document["split"]["text"], markup=False, soft_wrap=True)
    mixed = len({joint["unit"] for joint in document["joints"]}) > 1
    table = Table(box=SIMPLE_HEAD, padding=(0, 1), title_justify="left", title=f"Error per joint ({document['unit']}), "
                  f"{document['frames']} frames, chunks of {document['horizon']}")  # fmt: skip
    table.add_column("joint", overflow="fold")
    for name in ("MAE", "RMSE", "max", "hold state", "mean action"):
        table.add_column(name, justify="right", no_wrap=True)
    for joint in document["joints"]:
        keys = ("mae", "rmse", "max", "hold_mae", "mean_action_mae")
        name = f"{joint['name']} ({joint['unit']})" if mixed else joint["name"]
        table.add_row(name, *(number(joint[key]) for key in keys))
    console.print(table)
    latency = document["latency"]
    console.print(
        f"Latency of a chunk: p50 {number(latency['chunk']['p50_ms'])} ms, p95 {number(latency['chunk']['p95_ms'])} ms "
        f"({latency['device']}, {latency['warm_up']} to warm up not counted); of a queue pop, apart: p50 "
        f"{number(latency['queue_pop']['p50_ms'])} ms",
        soft_wrap=True,
    )
    if document["bundle"]["engine"]:
        console.print("Computed by the engine, {mode} in {precision}.".format(**document["bundle"]["engine"]))
    for warning in document["warnings"]:
        console.print(f"warning: {warning}", style="yellow", markup=False, soft_wrap=True)
    console.print(f"The policy {document['verdict']['text']}.", style="bold", markup=False, soft_wrap=True)
    console.print(f"Report: {options.out / 'report.html'}", markup=False, soft_wrap=True)
