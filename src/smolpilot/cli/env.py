"""`smolpilot env list`, `check NAME`, `install NAME DIR`: which environments work here, and interpreters for others."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from smolpilot.common.option_types import Amount, AnyAmount, AtLeastOne, Flag, Pairs, Seed
from smolpilot.common.text import json_text

from .parsing.tables import table
from .parsing.verbs import Verb


@dataclass(kw_only=True)
class EnvListOptions:
    """List the environments, whether each works here, and how to install what it needs."""

    env_python: Path | None = None
    """Ask this interpreter instead of smolpilot's: the folder of a virtual environment, or a python."""
    json: Flag = False
    """Print one JSON document."""


@dataclass(kw_only=True)
class EnvCheckOptions:
    """Replay demonstrations in an environment: if they do not succeed there, no score of a policy means anything.

    An expert's episodes succeed in 95 % (passed); recorded ones stay within 0.1 px (replay-exact). `rollout` asks the
    same once, and keeps the answer; this command measures anew."""

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")]
    """The environment, such as `aloha`, or `aloha/insertion` for one of its tasks."""
    env_settings: Pairs = field(default_factory=dict)
    """Settings of the environment, as `task=insertion`."""
    demonstrations: Path | None = None
    """Replay this LeRobot dataset's actions, which smolpilot recorded in the environment, in place of its expert or its
    own recording. Settings that are not given are those of the dataset."""
    episodes: Amount = 20
    """Episodes to play; of recorded ones so many, spread over the recording."""
    seed: Seed = 0
    """Seed of the expert's first episode."""
    jobs: AtLeastOne = 1
    """Processes."""
    env_python: Path | None = None
    """Interpreter that has the simulation, where smolpilot's has not."""
    json: Flag = False
    """Print one JSON document."""


@dataclass(kw_only=True)
class EnvReplayOptions:
    """Write a video of an episode's joints on a simulated arm, beside the recording's own images.

    Joints are set, not driven. Where the two sides differ, units, signs or the calibration are not what they are taken
    for."""

    dataset: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DATASET")]
    """LeRobot dataset folder of that arm."""
    out: Path
    """The video, mp4; it must not exist."""
    env: str = "so101"
    """The simulation that shows the arm."""
    env_settings: Pairs = field(default_factory=dict)
    """Settings of the environment."""
    episode: AnyAmount = 0
    """Which one."""
    units: Pairs = field(default_factory=dict)
    """Units of the dataset's joints where they differ from the profile's, as `all=rad`."""
    env_python: Path | None = None
    """Interpreter that has the simulation, where smolpilot's has not."""


@dataclass(kw_only=True)
class EnvInstallOptions:
    """Make an interpreter that has a simulation and nothing of smolpilot, with pinned packages, for `rollout`."""

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")]
    """The environment: `aloha`, `libero`, `metaworld`, `pusht` or `so101`."""
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """Folder of the new virtual environment; it must not exist."""


def list_environments(options: EnvListOptions) -> None:
    """Start each environment once, and say what came of it."""
    from smolpilot.common.progress import working
    from smolpilot.common.terminal import Terminal
    from smolpilot.environments.installing import try_environments
    from smolpilot.environments.worker_process import interpreter

    python = interpreter(options.env_python) if options.env_python is not None else None
    with working("starting each environment"):
        found = list(try_environments(python))
    if options.json:
        print(json_text([vars(one) for one in found]))
        return
    console = Terminal()
    rows = table("environment", "works", "what is there", "install")
    for one in found:
        rows.add_row(one.name, "yes" if one.works else "no", one.text, "" if one.works else one.install)
    console.print(rows)


def check(options: EnvCheckOptions) -> int:
    """Run the gate; 1 where it fails."""
    from smolpilot.common.progress import progress_bar
    from smolpilot.environments.gates.dataset_replays import check_demonstrations
    from smolpilot.environments.gates.gate import EPISODES, check_gate
    from smolpilot.environments.gates.gate_cache import keep_gate
    from smolpilot.environments.making import named_task
    from smolpilot.environments.worker_process import interpreter

    python = interpreter(options.env_python) if options.env_python is not None else None
    name, settings = named_task(options.name, options.env_settings)
    with progress_bar() as progress:
        if options.demonstrations is not None:
            gate = check_demonstrations(
                name, settings, options.demonstrations, episodes=options.episodes, jobs=options.jobs, python=python,
                progress=progress,
            )  # fmt: skip
        else:
            gate = check_gate(
                name, settings, episodes=options.episodes, seed=options.seed, jobs=options.jobs, python=python,
                progress=progress,
            )  # fmt: skip
            if (options.episodes, options.seed) == (EPISODES, 0):  # as `rollout` asks
                keep_gate(gate, name, settings, python)
    if options.json:
        print(json_text(vars(gate)))
    else:
        print(f"{gate.verdict}: {gate.text}")
        if gate.note:
            print(f"  {gate.note}")
        if gate.failed_seeds:
            print(f"  failed: {_what(options, name)} {', '.join(map(str, gate.failed_seeds[:20]))}")
        for part, facts in gate.simulation.items():
            if facts:
                print(f"  {part}: {', '.join(f'{key} {value}' for key, value in facts.items())}")
    return int(gate.verdict == "failed")


def replay(options: EnvReplayOptions) -> None:
    """Write the video."""
    from smolpilot.common.progress import progress_bar
    from smolpilot.environments.making import named_task
    from smolpilot.environments.replaying import replay_joints
    from smolpilot.environments.worker_process import interpreter

    name, settings = named_task(options.env, options.env_settings)
    python = interpreter(options.env_python) if options.env_python is not None else None
    with progress_bar() as progress:
        shown = replay_joints(
            options.dataset, options.out, name=name, settings=settings, episode=options.episode,
            units=dict(options.units), python=python, progress=progress,
        )  # fmt: skip
    for note in shown.notes:
        print(f"warning: {note}", file=sys.stderr)
    beside = f", beside {', '.join(shown.cameras)}" if shown.cameras else ""
    print(f"{options.out}: {shown.frames} frames of {name}{beside}: “{shown.instruction}”")


def _what(options: EnvCheckOptions, name: str) -> str:
    """What the numbers of failed episodes are."""
    from smolpilot.environments.installing import SIMULATORS, simulator

    if options.demonstrations is not None:
        return "episode"
    by_expert = name not in SIMULATORS or getattr(simulator(name), "EXPERT", False)
    return "seed" if by_expert else "recorded episode"


def install(options: EnvInstallOptions) -> None:
    """Make the virtual environment, install, and start the simulation in it once."""
    from smolpilot.common.progress import working
    from smolpilot.environments.installing import install_environment

    with working(f"installing {options.name} into {options.out}"):
        text = install_environment(options.name, options.out)
    print(f"{options.out}: {text}")
    print(f"Next: smolpilot rollout POLICY --env {options.name} --env-python {options.out} --out OUT")


REPLAY = Verb(EnvReplayOptions, replay)
CHECK = Verb(EnvCheckOptions, check)
LIST = Verb(EnvListOptions, list_environments)
INSTALL = Verb(EnvInstallOptions, install)
