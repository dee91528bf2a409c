"""`smolpilot rollout BUNDLE --out DIR`: closed loop in a shipped simulation, success rate and video."""

from __future__ import annotations

import sys
from typing import Any

from smolpilot.cli.options import parse
from smolpilot.cli.progress import progress_bar
from smolpilot.evaluation.options import RolloutOptions


def main(args: list[str]) -> int:
    """Run the verb; 0 when the results are written, whatever the success rate."""
    options = parse(RolloutOptions, args, verb="rollout")
    from smolpilot.atomic import atomic_folder
    from smolpilot.evaluation import rollout, write_rollout_report
    from smolpilot.evaluation.run_by import run_by
    from smolpilot.evaluation.summary import to_json
    from smolpilot.policy import load_policy
    from smolpilot.policy.cameras import camera_text, pair_cameras, typed_camera_map
    from smolpilot.simulation.tabletop import CAMERAS

    with atomic_folder(options.out) as folder, progress_bar() as progress:
        policy = load_policy(
            options.bundle,
            device=options.device,
            stats_from=options.stats_from,
            tokenizer_dir=options.tokenizer,
        )
        paired = pair_cameras(policy, CAMERAS, typed_camera_map(options.camera_map), owner="the simulation")
        for said in (*paired.notes, *paired.warnings):
            print(f"cameras: {said}", file=sys.stderr)
        result = rollout(
            run_by(policy, options.engine, options.calibrate_on),
            options.env,
            episodes=options.episodes,
            seed=options.seed,
            swap_instruction=options.swap_instruction,
            execution_horizon=options.execution_horizon,
            untrained=options.untrained,
            video_episodes=options.video_episodes,
            env_settings={"colours": options.colours},
            progress=progress,
        )
        write_rollout_report(folder, result)
    if options.json:
        print(to_json(result.document), end="")
    else:
        print(f"cameras: {camera_text(paired.map)}")
        _print(result.document, options)
    return 0


def _print(document: dict[str, Any], options: RolloutOptions) -> None:
    from rich.table import Table

    from smolpilot.evaluation.report import interval, percent
    from smolpilot.terminal import Terminal

    console = Terminal()
    table = Table()
    table.add_column("named")
    for name in ("episodes", "success", "95 % interval", "other block", "none"):
        table.add_column(name, justify="right")
    for row in [*document["by_colour"], {"colour": "all", **document}]:
        table.add_row(
            row["colour"],
            str(row["episodes"]),
            f"{row['successes']} ({percent(row['success_rate'])})",
            interval(row["interval"]),
            str(row["reached"]["other"]),
            str(row["reached"]["none"]),
        )
    console.print(table)
    if document["bundle"]["engine"]:
        console.print("Computed by the engine, {mode} in {precision}.".format(**document["bundle"]["engine"]))
    for warning in document["warnings"]:
        console.print(f"warning: {warning}", style="yellow", soft_wrap=True)
    console.print(document["text"], style="bold", soft_wrap=True)
    console.print(f"Report: {options.out / 'report.html'}", soft_wrap=True)
