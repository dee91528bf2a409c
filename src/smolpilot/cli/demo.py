"""`smolpilot demo`: the main job from recording to report, each step a public command that is printed as it runs."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table
from rich.text import Text

from smolpilot.atomic import refuse_inside_dataset, write_text_atomic
from smolpilot.errors import SmolpilotError, UsageError, check_seed
from smolpilot.json_input import read_json_file
from smolpilot.option_types import Amount, Seed, Steps
from smolpilot.terminal import Terminal

from .options import parse

GOAL = 0.90  # success with the right instruction
CHANCE = 0.20  # success of untrained weights at most


@dataclass(frozen=True)
class DemoOptions:
    """Record, train, evaluate and roll out a tiny policy on the shipped tabletop; about seven minutes on two cores.

    Started again on the same folder, it skips what is finished and goes on with the rest.
    """

    out: Path = Path("demo")
    """Folder for everything the demo makes."""
    demonstrations: Amount = 500
    """Episodes that the scripted expert records."""
    steps: Steps = 1400
    """Optimiser steps."""
    rollouts: Amount = 100
    """Fresh episodes per closed-loop test."""
    seed: Seed = 0
    """Seed of recording and training."""


@dataclass(frozen=True)
class Step:
    """One command of the demo; finished when `result` exists."""

    title: str
    args: list[str]
    result: Path | None


def demo_steps(options: DemoOptions) -> list[Step]:
    """The commands, in order, with the folders they make."""
    out = options.out
    data, run, bundle = out / "recordings", out / "run", out / "run" / "checkpoints" / "best"
    n = str(options.rollouts)
    # A run that was cut off goes on from its last checkpoint.
    train = ["train", "--out", str(run), "--resume"] if (run / "config.yaml").exists() else [
        "train", "--dataset", str(data), "--robot", "tabletop", "--preset", "tiny", "--from-scratch",
        "--out", str(run), "--steps", str(options.steps), "--batch-size", "64", "--seed", str(options.seed),
    ]  # fmt: skip
    rollout = ["rollout", str(bundle), "--env", "tabletop", "--episodes", n, "--out"]
    return [
        Step(
            "Record demonstrations",
            ["record", "--out", str(data), "--episodes", str(options.demonstrations), "--seed", str(options.seed)],
            data,
        ),
        Step("What the recording holds", ["dataset", "info", str(data)], None),
        Step("Train from scratch", train, run / "checkpoints" / f"step_{options.steps:06d}"),
        Step(
            "Evaluate on held-out episodes",
            ["eval", str(bundle), "--dataset", str(data), "--out", str(out / "eval")],
            out / "eval",
        ),
        Step("Closed loop, the right instruction", [*rollout, str(out / "rollout")], out / "rollout"),
        Step(
            "Closed loop, the other block named",
            [*rollout, str(out / "swapped"), "--swap-instruction"],
            out / "swapped",
        ),
        Step("Closed loop, untrained weights", [*rollout, str(out / "untrained"), "--untrained"], out / "untrained"),
    ]


def main(args: Sequence[str]) -> int:
    """Run the demo; 0 when the trained policy reaches its goals, 1 when not."""
    from . import main as cli

    options = parse(DemoOptions, args, verb="demo")
    _same_settings(options)
    console = Terminal(stderr=True)
    started = time.monotonic()
    count = len(demo_steps(options))
    for number in range(count):
        step = demo_steps(options)[number]
        command = shlex.join(["smolpilot", *step.args])
        console.rule(Text(f"{number + 1}/{count} {step.title}", "bold"), align="left")
        if step.result is not None and step.result.exists():
            console.print(f"{step.result} is there already: skipped. Command: {command}", soft_wrap=True)
            continue
        console.print(f"$ {command}", style="bold cyan", soft_wrap=True)
        code = cli.main(step.args)
        if code != 0:
            raise_failed(command, code)
    report = _report(options)
    return _verdict(options, report, time.monotonic() - started, console)


def _same_settings(options: DemoOptions) -> None:
    """Keep the settings beside the results: a folder of other settings is not gone on with."""
    refuse_inside_dataset(options.out)
    path = options.out / "demo.json"
    wanted = {"demonstrations": options.demonstrations, "steps": options.steps, "rollouts": options.rollouts,
              "seed": options.seed}  # fmt: skip
    for name, value in wanted.items():
        if name != "seed" and value < 1:
            raise UsageError(f"--{name} is {value}.", expected="at least 1")
    check_seed(options.seed)
    if path.is_file():
        try:
            found = read_json_file(path)
        except (OSError, ValueError) as error:
            raise UsageError(f"{path} cannot be read: {error}.", fix="choose another --out") from error
        found = found if isinstance(found, dict) else {}
        other = [f"--{name} {found.get(name)}" for name in wanted if found.get(name) != wanted[name]]
        if other:
            raise UsageError(
                f"{options.out} holds a demo with {' '.join(other)}.", fix="say the same, or choose another --out"
            )
        return
    if options.out.exists() and (not options.out.is_dir() or any(options.out.iterdir())):
        raise UsageError(f"{options.out} exists already and holds no demo.", fix="choose another --out")
    write_text_atomic(path, json.dumps(wanted) + "\n")


def raise_failed(command: str, code: int) -> None:
    """Stop the demo where a command stopped."""
    if code == 130:
        raise KeyboardInterrupt
    raise SmolpilotError(f"The demo stopped: `{command}` ended with exit code {code}.", fix="see its message above")


def _report(options: DemoOptions) -> Path:
    from smolpilot.evaluation import write_demo_report

    out = options.out
    rollouts = {"right instruction": "rollout", "other block named": "swapped", "untrained weights": "untrained"}
    return write_demo_report(
        out / "report.html",
        eval_dir=out / "eval",
        rollouts={name: out / folder for name, folder in rollouts.items()},
        train_metrics_path=out / "run" / "metrics.jsonl",
    )


def _verdict(options: DemoOptions, report: Path, seconds: float, console: Terminal) -> int:
    table = Table(title="Closed loop on fresh episodes", title_justify="left")
    for column in ("policy and instruction", "success", "95 % interval", "goal"):
        table.add_column(column)
    passed = True
    goals = {
        "trained, right instruction": ("rollout", GOAL, None),
        "trained, other block named": ("swapped", GOAL, None),
        "untrained weights": ("untrained", None, CHANCE),
    }
    for name, (folder, least, most) in goals.items():
        result = read_json_file(options.out / folder / "results.json")
        rate, (low, high) = result["success_rate"], result["interval"]
        reached = (least is None or rate >= least) and (most is None or rate <= most)
        passed &= reached
        goal = f"at least {least:.0%}" if least is not None else f"at most {most:.0%}"
        table.add_row(name, f"{rate:.0%}", f"{low:.0%} to {high:.0%}", f"{goal}: {'yes' if reached else 'NO'}")
    console.print(table)
    console.print(f"Took {seconds / 60:.1f} minutes. Report, opens in a browser: {report}")
    return 0 if passed else 1
