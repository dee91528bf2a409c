"""`smolpilot demo`: the whole way from recording to report, each step a public command that is printed first."""

from __future__ import annotations

import json
import shlex
import time
from pathlib import Path

from rich.text import Text

from smolpilot.common.atomic import refuse_inside_dataset, write_text_atomic
from smolpilot.common.errors import SmolpilotError, UsageError
from smolpilot.common.json_input import read_json_file
from smolpilot.common.terminal import Terminal
from smolpilot.environments.tabletop.demo import LOOPS, demo_steps
from smolpilot.environments.tabletop.demo_options import DemoOptions

from .parsing.tables import table
from .parsing.verbs import Verb


def run(options: DemoOptions) -> int:
    """Run the demo; 0 when the trained policy reaches its goals, 1 when not."""
    from . import main as cli

    options = options.resolved()
    _same_settings(options)
    console = Terminal(stderr=True)
    started = time.monotonic()
    count = len(demo_steps(options))
    total = count + (options.robot_episodes > 0)
    for number in range(count):
        step = demo_steps(options)[number]
        command = shlex.join(["smolpilot", *step.args])
        console.rule(Text(f"{number + 1}/{total} {step.title}", "bold"), align="left")
        if step.result is not None and step.result.exists():
            console.print(f"{step.result} exists: skipped. Command: {command}", soft_wrap=True)
            continue
        console.print(f"$ {command}", style="bold cyan", soft_wrap=True)
        code = cli.main(step.args)
        if code != 0:
            raise_failed(command, code)
    report = _report(options)
    held = _last_act(options, total, console)
    code = _verdict(options, report, time.monotonic() - started, console)
    return max(code, int(not held))


def _last_act(options: DemoOptions, number: int, console: Terminal) -> bool:
    """The emulated arm in real time; whether it held when its policy was killed."""
    from .robot.realtime_act import last_act

    if not options.robot_episodes:
        return True
    console.rule(Text(f"{number}/{number} The emulated arm, in real time", "bold"), align="left")
    out, best = options.out, options.out / "run" / "checkpoints" / "best"
    return last_act(best, out / "robot", out / "rollout", options.robot_episodes, console)


def _same_settings(options: DemoOptions) -> None:
    """Keep the settings beside the results: a folder of other settings is not continued."""
    refuse_inside_dataset(options.out)
    path = options.out / "demo.json"
    wanted = {"demonstrations": options.demonstrations, "steps": options.steps, "rollouts": options.rollouts,
              "seed": options.seed}  # fmt: skip
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
    return write_demo_report(
        out / "report.html",
        eval_dir=out / "eval",
        rollouts={loop.name: out / loop.folder for loop in LOOPS},
        train_metrics_path=out / "run" / "metrics.jsonl",
        chinese={loop.name: loop.chinese for loop in LOOPS},
    )


def _verdict(options: DemoOptions, report: Path, seconds: float, console: Terminal) -> int:
    columns = ("policy and instruction", "success", "95 % interval", "goal")
    rows = table(*columns, title="Closed loop on fresh episodes")
    all_passed = True
    for loop in LOOPS:
        result = read_json_file(options.out / loop.folder / "results.json")
        rate, (low, high) = result["success_rate"], result["interval"]
        passed = loop.passed(rate)
        all_passed &= passed or options.quick
        goal = "not judged (--quick)" if options.quick else f"{loop.goal}: {'yes' if passed else 'NO'}"
        rows.add_row(loop.title, f"{rate:.0%}", f"{low:.0%} to {high:.0%}", goal)
    console.print(rows)
    console.print(f"Took {seconds / 60:.1f} minutes. Report, opens in a browser: {report}")
    return 0 if all_passed else 1


VERB = Verb(DemoOptions, run)
