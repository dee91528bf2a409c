"""Which environments work in an interpreter, and new interpreters for those that do not."""

from __future__ import annotations

import importlib
import importlib.metadata
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smolpilot.common.atomic import refuse_existing
from smolpilot.common.errors import SimulationError, SmolpilotError, UsageError, did_you_mean
from smolpilot.common.text import LIMIT, plain
from smolpilot.contracts import ENVIRONMENTS

from .making import environment_maker
from .where import HERE
from .worker_process import WorkerProcess, interpreter

SIMULATORS = ("aloha", "libero", "metaworld", "pusht", "so101")
"""The files of `simulators` that are an environment each."""


@dataclass(frozen=True)
class Trial:
    """What came of starting an environment once: versions where it works, else what is missing."""

    name: str
    works: bool
    text: str
    install: str  # the line that installs what it needs
    installed: bool = True  # its package is there, where that can be told without starting anything


def try_environments(python: Path | None = None) -> Iterator[Trial]:
    """Start each environment that needs no settings, one by one; in another interpreter the simulations alone.

    Only a start shows whether it can draw here (EGL, OSMesa). What is not installed is not started.
    """
    names = SIMULATORS if python is not None else [name for name in ENVIRONMENTS.names() if name != "gymnasium"]
    for name in names:
        yield _missing(name) if python is None and not _is_installed(name) else _tried(name, python)


def _is_installed(name: str) -> bool:
    if name not in SIMULATORS:
        return True
    try:
        importlib.metadata.version(simulator(name).NEEDS)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _missing(name: str) -> Trial:
    return Trial(name, False, f"{simulator(name).NEEDS} is not installed", _install_line(name, None), installed=False)


def _install_line(name: str, python: Path | None) -> str:
    if name not in SIMULATORS:
        return ""
    return install_line(name) if python is None else f"smolpilot env install {name} DIR"


def install_line(name: str) -> str:
    """What installs a simulation: beside smolpilot, or, where its packages do not suit smolpilot's, elsewhere."""
    if not getattr(simulator(name), "EXTRA", True):
        return f"smolpilot env install {name} DIR"
    return f"pip install 'smolpilot[{name}]'"


def install_environment(name: str, folder: Path) -> str:
    """A new virtual environment with the pinned packages of a simulation; its versions in words.

    UsageError for an unknown name and an existing folder, SmolpilotError where pip or the simulation fails; the folder
    is gone then.
    """
    if name not in SIMULATORS:
        raise UsageError(
            f"There is no simulation '{plain(name, LIMIT)}' to install.", expected=f"one of {', '.join(SIMULATORS)}",
            fix=did_you_mean(name, SIMULATORS),
        )  # fmt: skip
    refuse_existing(folder)
    try:
        _call([sys.executable, "-m", "venv", str(folder)], "The virtual environment cannot be made")
        python = interpreter(folder)
        _call([str(python), "-m", "pip", "install", "-q", *simulator(name).PINS], "pip cannot install the packages")
        found = _tried(name, python)
        if not found.works:
            raise SmolpilotError(f"The simulation does not start: {found.text}", fix="see docs/simulations.md")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return found.text


def _tried(name: str, python: Path | None) -> Trial:
    install = _install_line(name, python)
    try:
        if name in SIMULATORS:
            # In a process of its own: what a simulation loads, or takes down, is not ours.
            with closing(WorkerProcess.of(name, python)) as worker:
                header, _ = worker.ask("make", slot=0, name=name, settings={})
                worker.ask("reset", slot=0, seed=0)
            return Trial(name, True, _versions(header["facts"]), install)
        with closing(environment_maker(name)(HERE)) as environment:
            environment.reset(0)
        return Trial(name, True, environment.spec.goal, install)
    except (UsageError, SimulationError, SmolpilotError) as error:
        fix = str(error.fix)
        return Trial(name, False, plain(error.found, 2 * LIMIT), fix if fix.startswith("apt ") else install)


def _versions(facts: Mapping[str, Any]) -> str:
    gl = facts["render"].get("gl")
    packages = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    return packages + (f"; draws by {gl}" if gl else "")


def simulator(name: str) -> Any:
    """The module of a simulation; what it simulates with is imported where one is made."""
    return importlib.import_module(f"smolpilot.environments.simulators.{name}")


def _call(command: list[str], failed: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in (done.stderr or done.stdout).strip().splitlines() if line.strip()]
        raise SmolpilotError(f"{failed}: {plain(lines[-1] if lines else done.returncode, 2 * LIMIT)}")
