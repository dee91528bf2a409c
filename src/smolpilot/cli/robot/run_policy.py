"""`smolpilot run BUNDLE --robot SETUP`: a policy drives an arm."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from smolpilot.common.option_types import Amount, AtLeastOne, Flag, Pairs, Part, PositiveRate, PositiveSize, Seed

from ..parsing.outcome import exit_code_of
from ..parsing.verbs import Verb

if TYPE_CHECKING:
    from smolpilot.runtime.robot_run.driving import RunPlan


@dataclass(kw_only=True)
class RunOptions:
    """Let a policy drive an arm, every command through the governor. A dry run unless --go is given.

    The dry run does everything with real observations, sends nothing, and shows what would have been clamped. Keys:
    space stops, Enter goes on (to the start pose, then the episode; after a stop it re-arms), s and f mark the episode
    as success or failure, q parks and ends. The first Ctrl-C stops and holds, a second one ends at once.
    """

    policy: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="BUNDLE")]
    """A bundle, a training run, an ONNX export, a hub id, or a policy by name."""
    robot: str
    """A setup: shipped (smolpilot robot list), or a YAML file."""
    go: Flag = False
    """Move the arm."""
    unattended: Flag = False
    """Without a terminal, or without a person: episodes follow each other, and a stop ends the run."""
    instruction: str | None = None
    """What to do; without it the one that the policy was trained with."""
    episodes: Amount = 1
    """How many."""
    seconds: PositiveSize | None = None
    """Length of an episode; without it a key ends it. Needed with --unattended."""
    schedule: Literal["sync", "async", "rtc"] = "sync"
    """sync: the arm waits while a chunk is computed. async: it goes on with the last one meanwhile. rtc: and the new
    chunk is computed to go on from it (real-time chunking)."""
    merge: Literal["aligned", "blended", "append"] = "aligned"
    """What async does with a new chunk: leave out what is past (aligned), fade over to it (blended), or play it after
    the last one (append)."""
    refill: PositiveSize | None = None
    """Seconds of remaining playback under which async and rtc ask for the next chunk; without it what one takes."""
    n_action_steps: Amount | None = None
    """Execution horizon: how many actions of a chunk are executed; without it as the policy says."""
    rate: PositiveRate | None = None
    """Ticks of the control loop per second; between the policy's actions it takes a smooth curve. Without it the
    policy's rate."""
    speed: Part = 1.0
    """Share of the policy's own speed, and of the limits of velocity and acceleration: slow motion on the same way.
    0.25 is a good first one."""
    start_pose: Literal["auto", "demonstrations", "setup", "here"] = "auto"
    """Where episodes begin. auto: where the demonstrations began; where nobody knows, the setup's start pose."""
    hold_to_run: Annotated[str | None, tyro.conf.arg(metavar="KEY")] = None
    """The arm moves only while this key is held: one letter, or space."""
    realtime: Flag = False
    """Ask the system to run the control loop before everything else (SCHED_FIFO)."""
    device: str = "auto"
    """Where the policy runs: auto, cpu, cuda, mps."""
    engine: Literal["plain", "exact", "fast", "int8"] = "plain"
    """How the policy computes (smolpilot bench compares them)."""
    num_steps: AtLeastOne | None = None
    """Denoising steps; without it as the policy says."""
    camera_map: Pairs = field(default_factory=dict)
    """Which camera of the robot fills which slot of the policy: NAME=SLOT; NAME=none leaves it out."""
    policy_stats_from: Path | None = None
    """Dataset whose statistics normalize the policy, where it keeps none."""
    tokenizer: Path | None = None
    """Tokenizer folder, where the policy brings none."""
    seed: Seed = 0
    """Seed of what the policy draws."""
    log_only: Flag = False
    """Write neither dataset nor report; `smolpilot robot report DIR` does so later."""
    out: Path | None = None
    """Folder for log, dataset and report. Without it runs/robot/TIME."""


def run(options: RunOptions) -> int:
    """Drive, then write dataset and report; 1 when a stop ended it."""
    from smolpilot.common.errors import UsageError
    from smolpilot.runtime.robot_run.keys import hold_byte
    from smolpilot.runtime.robot_run.run_record import private_folder

    interactive = sys.stdin.isatty() and not options.unattended
    if options.go and not interactive and not options.unattended:
        raise UsageError(
            "--go without a terminal: nobody could stop the arm by a key.",
            expected="a terminal, or --unattended",
            fix="--unattended, when the power switch is within somebody's reach",
        )
    if not interactive and options.seconds is None:
        why = "--unattended without --seconds" if options.unattended else "No terminal, and no --seconds"
        raise UsageError(f"{why}: nobody would end the episode.", fix="say --seconds")
    if options.hold_to_run is not None and not interactive:
        raise UsageError("--hold-to-run needs a terminal, and somebody who holds the key.", fix="leave it out")
    hold_byte(options.hold_to_run)
    with private_folder() as shared:
        plan = _plan(options, interactive, shared)
        code = _driven(plan, options.hold_to_run, interactive)
    _tidy(plan.out)
    return code if options.log_only else max(code, finish(plan.out))


def _tidy(out: Path) -> None:
    """A run that was refused before it began leaves nothing but what its processes have said."""
    from smolpilot.contracts.run_folder import RUN

    if not (out / RUN).exists():
        with contextlib.suppress(OSError):
            for log in _BEFORE_A_RUN:
                if (out / log).is_file() and not (out / log).stat().st_size:
                    (out / log).unlink()
            out.rmdir()  # only where it is empty


def _driven(plan: RunPlan, hold_key: str | None, interactive: bool) -> int:
    """Drive in a process of its own, shown and told keys by this one."""
    from smolpilot.runtime.robot_run.attending import attend
    from smolpilot.runtime.robot_run.channel import Channel
    from smolpilot.runtime.robot_run.driving import drive
    from smolpilot.runtime.supervisor import supervised

    keys, snapshots = os.pipe(), os.pipe()

    def control() -> int:
        os.close(keys[1])
        os.close(snapshots[0])
        return exit_code_of(lambda: drive(plan, Channel(keys[0], snapshots[1]), _say))

    def watch(ended: Callable[[], bool]) -> None:
        os.close(keys[0])
        os.close(snapshots[1])
        attend(snapshots[0], keys[1], ended, hold_key=hold_key, interactive=interactive)

    return supervised(control, attend=watch)


def finish(folder: Path) -> int:
    """Dataset and report of a run, from its log; 1 where one of them cannot be written. Nothing where nothing ran."""
    from smolpilot.contracts.run_folder import LOG, is_run_folder

    if not is_run_folder(folder) or not (folder / LOG).is_file():
        return 0
    return max(exit_code_of(lambda: _dataset(folder)), exit_code_of(lambda: _report(folder)))


def _dataset(folder: Path) -> int:
    from smolpilot.common.progress import working
    from smolpilot.contracts.run_folder import DATASET
    from smolpilot.evaluation.robot_runs.recorded_episodes import write_run_dataset

    if (folder / DATASET).exists():
        return 0
    with working("writing the episodes as a dataset"):
        made = write_run_dataset(folder)
    for note in made.notes:
        _say(note)
    if made.path is not None:
        _say(f"Dataset: {made.path} ({made.episodes} episodes, {made.frames} frames)")
    return 0


def _report(folder: Path) -> int:
    from smolpilot.common.progress import working
    from smolpilot.evaluation.robot_runs import write_run_report

    with working("writing the report"):
        page = write_run_report(folder)
    _say(f"Report: {page}")
    return 0


def _plan(options: RunOptions, interactive: bool, shared: Path) -> RunPlan:
    """The options as the control process takes them; makes the folder."""
    from smolpilot.common.errors import UsageError
    from smolpilot.runtime.robot_run.driving import RunPlan
    from smolpilot.runtime.scheduling import Merge, Mode, ScheduleOptions
    from smolpilot.runtime.setup.robot_setup import RobotSetup

    if options.merge != "aligned" and options.schedule != "async":
        raise UsageError(f"--merge {options.merge} is of --schedule async.", fix="leave it out")
    if options.refill is not None and options.schedule == "sync":
        raise UsageError("--refill is of --schedule async and rtc.", fix="leave it out")
    setup = RobotSetup.load(options.robot)
    schedule = ScheduleOptions(
        mode=Mode(options.schedule), merge=Merge(options.merge), refill=options.refill,
        n_action_steps=options.n_action_steps,
    )  # fmt: skip
    same = ("instruction", "episodes", "seconds", "rate", "speed", "go", "realtime", "seed", "start_pose")
    return RunPlan(
        setup=setup,
        source=options.policy,
        out=_folder(options.out),
        shared=shared,
        unattended=not interactive,
        hold_key=options.hold_to_run,
        schedule=schedule,
        policy=_policy_options(options),
        **{name: getattr(options, name) for name in same},
    )


def _policy_options(options: RunOptions) -> dict[str, Any]:
    from smolpilot.smolvla.transforms.camera_slots import typed_camera_map

    return {
        "device": options.device,
        "engine": options.engine,
        "camera_map": dict(typed_camera_map(options.camera_map)),
        "num_steps": options.num_steps,
        "tokenizer": None if options.tokenizer is None else str(options.tokenizer),
        "stats_from": None if options.policy_stats_from is None else str(options.policy_stats_from),
    }


def _folder(out: Path | None) -> Path:
    """A new folder for the run."""
    import datetime

    from smolpilot.common.errors import UsageError

    if out is None:
        out = Path("runs", "robot", datetime.datetime.now().strftime("%Y-%m-%dT%H-%M-%S"))
    if out.exists() and (not out.is_dir() or {path.name for path in out.iterdir()} - _BEFORE_A_RUN):
        raise UsageError(f"{out} exists already.", expected="a new folder for the run", fix="choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    return out


_BEFORE_A_RUN = {"policy.log", "cameras.log"}
"""What is left where a run was refused before it began: the same folder may be said again."""


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # nobody may be there to read it: the arm, the dataset and the report go on
        print(text, file=sys.stderr, flush=True)


@dataclass(kw_only=True)
class ReportOptions:
    """Write report.html of a robot run, and its episodes as a dataset where there is none yet, from its log.

    `smolpilot run` does so itself when it ends. This is for a run that was cut off.
    """

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """Folder of the run."""


def report(options: ReportOptions) -> int:
    """1 where one of them cannot be written."""
    from smolpilot.evaluation.robot_runs.standing import run_standing

    if run_standing(options.run).state == "running":
        _say("The run goes on: its dataset is written when it has ended.")
        return _report(options.run)
    return finish(options.run)


VERB = Verb(RunOptions, run)
REPORT = Verb(ReportOptions, report)
