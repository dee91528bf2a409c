"""How eval and rollout open a policy by their options, and what they report of the opened one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smolpilot.common.terminal import Terminal
    from smolpilot.contracts import PolicyFacts, PolicyOptions
    from smolpilot.evaluation import EvalOptions, RolloutOptions
    from smolpilot.evaluation.offline.policy_frames import Calibration


def policy_options(
    options: EvalOptions | RolloutOptions,
    calibration: Calibration | None,
    *,
    untrained: int | None = None,
) -> PolicyOptions:
    """The options of a verb as those of a policy."""
    from smolpilot.contracts import PolicyOptions
    from smolpilot.smolvla.transforms.camera_slots import typed_camera_map

    return PolicyOptions(
        device=options.device,
        engine=options.engine,
        camera_map=typed_camera_map(options.camera_map),
        stats_from=options.policy_stats_from,
        tokenizer=options.tokenizer,
        num_steps=options.num_steps,
        untrained=untrained,
        calibration=calibration,
    )


def say_cameras(facts: PolicyFacts) -> None:
    """Which camera fills which slot, on standard output."""
    from smolpilot.smolvla.transforms.camera_slots import camera_text

    if facts.camera_map:
        print(f"cameras: {camera_text(facts.camera_map)}")


def say_opened(facts: PolicyFacts) -> None:
    """What was decided when the policy was opened, of its cameras and else, on standard error."""
    for kind, said in (("note", facts.notes), ("warning", facts.warnings)):
        for text in said:
            print(f"{kind}: {text}", file=sys.stderr)


def print_end(console: Terminal, document: dict[str, Any], verdict: str, out: Path) -> None:
    """What a printed result ends with: the engine, the warnings, the verdict, where the report is."""
    if document["bundle"]["engine"]:
        console.print("Computed by the engine, {mode} in {precision}.".format(**document["bundle"]["engine"]))
    for warning in document["warnings"]:
        console.print(f"warning: {warning}", style="yellow", soft_wrap=True)
    console.print(verdict, style="bold", soft_wrap=True)
    console.print(f"Report: {out / 'report.html'}", soft_wrap=True)
