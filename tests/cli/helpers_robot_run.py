"""`smolpilot run` in real processes, on an arm of an emulated bus; a stranger's package brings the policies."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from ..helpers_packages import install_package
from ..runtime.helpers_setups import write_setup
from ..runtime.safety.helpers_rig import JOINTS, PAN, Rig

DEADLINE = 90.0
"""Seconds for whatever has to happen at all: a busy machine is no fault."""

# A busy machine is no silent servo, and no control loop that was halted.
PATIENT = {"max_state_age": 10.0, "max_action_age": 10.0, "max_starved": 10.0, "max_chunk_age": 20.0}

# `odd:KIND` does KIND from the 7th chunk on: four are computed before the arm moves.
POLICY = '''
import math, os, time

import numpy as np

from smolpilot.contracts import Policy, PolicySpec
from smolpilot.robots import RobotProfile
from smolpilot.robots.demonstrated import Demonstrated


class Odd(Policy):
    """Swings the first joint by 20 degrees, until it does what its name says."""

    def __init__(self, source, options, embodiment):
        options.only("an odd policy", "device", "camera_map")
        self.kind, self.count, self.begun = source, 0, None
        if self.kind == "slow-open":
            time.sleep(60)
        if self.kind == "fails-to-open":
            raise ZeroDivisionError("in the loader")
        if self.kind == "exits-on-opening":
            os._exit(7)
        profile = embodiment.profile
        if self.kind == "other-robot":
            profile = RobotProfile.load("aloha")
        if self.kind == "other-units":
            profile = RobotProfile.load("so101_normalized")
        cameras = {"looks": ("front",), "blind": ("top",)}.get(self.kind.partition("-")[0], ())
        many = ("lift the cube", "drop the cube") if self.kind == "two-tasks" else ()
        size = len(profile.action_joints)
        shown = None
        if self.kind == "shown":
            with open("operating_limits.json", encoding="utf-8") as file:
                shown = Demonstrated.model_validate_json(file.read())
        self.spec = PolicySpec(
            "odd", len(profile.state_joints), size, chunk_size=30, n_action_steps=15, cameras=cameras,
            profile=profile, instructions=many, rate=30.0, n_obs_steps=2 if self.kind == "two-steps" else 1,
            demonstrated=shown,
        )

    def reset(self):
        self.begun = None

    def predict(self, observations, *, seeds=None, previous=None):
        self.count += 1
        state = np.asarray(observations[0]["observation.state"], np.float32)
        if self.begun is None:
            self.begun = time.monotonic()
        chunk = np.tile(state, (30, 1))
        since = time.monotonic() - self.begun + np.arange(30) / 30
        chunk[:, 0] = 20 * np.sin(0.6 * since)
        if self.kind == "wrong-shape":
            chunk = chunk[:, :5]
        if self.count > 6:
            if self.kind == "sleeps":
                time.sleep(1.0)
            if self.kind == "hangs":
                time.sleep(600)
            if self.kind == "raises":
                raise RuntimeError("somebody's code\\nis broken")
            if self.kind == "exits":
                os._exit(5)
            if self.kind == "nan":
                chunk[3, 2] = math.nan
            if self.kind == "allocates":
                import resource
                resource.setrlimit(resource.RLIMIT_AS, (1 << 32, 1 << 32))
                np.ones((1 << 34,))
        return chunk[None]
'''


def install_odd(folder: Path) -> Path:
    """The package of the policy `odd`; put the folder on PYTHONPATH."""
    return install_package(folder, "odd_policy", POLICY, {"smolpilot.policies": {"odd": "odd_policy:Odd"}})


def arm_setup(rig: Rig, folder: Path, **parts: Any) -> Path:
    """A setup of the rig's arm for a machine that may be busy."""
    return write_setup(rig, folder, **({"governor": PATIENT} | parts))


@dataclass
class Run:
    """One `smolpilot run`; `process` is the parent of the control process."""

    rig: Rig
    process: subprocess.Popen[bytes]
    out: Path
    terminal: int | None = None
    _said: bytes = b""
    known: dict[str, psutil.Process] = field(default_factory=dict)

    @property
    def said(self) -> str:
        """What it has printed so far, on standard error or the terminal."""
        self._listen(0.0)
        return self._said.decode(errors="replace")

    def _listen(self, seconds: float) -> None:
        source = self.terminal
        if source is None and self.process.stderr is not None and not self.process.stderr.closed:
            source = self.process.stderr.fileno()
        if source is None or source < 0:
            time.sleep(seconds)
            return
        while select.select([source], [], [], seconds)[0]:
            try:
                more = os.read(source, 65_536)
            except OSError:
                more = b""
            if not more:
                time.sleep(seconds)
                return
            self._said += more
            seconds = 0.0

    def until(self, true: Callable[[], bool], what: str, seconds: float = DEADLINE) -> None:
        """Wait for something, while the run goes on."""
        end = time.monotonic() + seconds
        while not true():
            ended = self.process.poll()
            assert ended is None or true(), f"it ended with {ended} before {what}: {self.said}"
            assert time.monotonic() < end, f"{what} never came: {self.said}"
            self._listen(0.02)

    def until_said(self, text: str) -> None:
        self.until(lambda: text in self.said, f"“{text}”")

    def until_moving(self) -> None:
        """Until the policy has moved the first joint a little; remembers all processes."""
        self.until(lambda: len(goals := self.rig.goals()) > 0 and float(np.abs(goals[:, PAN]).max()) > 2.0, "motion")
        self.look()

    def look(self) -> dict[str, psutil.Process]:
        """The processes of the run, by what they do."""
        parent = psutil.Process(self.process.pid)
        self.known["parent"] = parent
        for one in parent.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                words = " ".join(one.cmdline())
                role = "policy" if "policy_process" in words else "camera" if "camera_process" in words else "control"
                self.known[role] = one
        return self.known

    def press(self, keys: str) -> None:
        """Keys on the terminal."""
        assert self.terminal is not None
        os.write(self.terminal, keys.encode())

    def close_terminal(self) -> None:
        assert self.terminal is not None
        os.close(self.terminal)
        self.terminal = -1

    def ended(self) -> int:
        """Its exit code, once it has ended."""
        end = time.monotonic() + DEADLINE
        while self.process.poll() is None:
            self._listen(0.02)
            assert time.monotonic() < end, f"it did not end: {self.said}"
        self._listen(0.05)
        return self.process.returncode

    def left_behind(self) -> list[str]:
        """The known processes that are still there after a while."""
        _, alive = psutil.wait_procs([one for role, one in self.known.items() if role != "parent"], timeout=10.0)
        return [role for role, one in self.known.items() if one in alive]


def shared_folders(run: Run) -> list[str]:
    """The folders in shared memory that are left of a run."""
    return [path.name for path in Path("/dev/shm").glob(f"smolpilot-run-{run.process.pid}-*")]


@contextmanager
def running(
    rig: Rig,
    site: Path,
    folder: Path,
    *words: str,
    on_terminal: bool = False,
    env: Mapping[str, str] | None = None,
    **popen: Any,
) -> Iterator[Run]:
    """`smolpilot run WORDS --out FOLDER/run`, which is killed with all that belongs to it when the block ends."""
    out = folder / "run"
    values = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]),
              "HF_HUB_OFFLINE": "1", "TERM": "xterm", "COLUMNS": "100", "LINES": "40", **(env or {})}  # fmt: skip
    command = [sys.executable, "-m", "smolpilot", "run", *words]
    if "--out" not in words:
        command += ["--out", str(out)]
    terminal: int | None = None
    if on_terminal:
        terminal, slave = pty.openpty()
        # Its controlling terminal: Ctrl-C and closing it are signals.
        streams: dict[str, Any] = {"stdin": slave, "stdout": slave, "stderr": slave,
                                   "preexec_fn": lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0)}  # fmt: skip
    else:
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, env=values, cwd=folder, start_new_session=True, **(streams | popen))
    if on_terminal:
        os.close(slave)
    run = Run(rig, process, out, terminal)
    try:
        yield run
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            run.look()
        for one in run.known.values():
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()
        if run.terminal is not None and run.terminal >= 0:
            os.close(run.terminal)


def check_holds(run: Run) -> None:
    """The servos hold the last goal, with torque, nobody writes another one, and nothing of the run is left."""
    rig = run.rig
    assert run.left_behind() == []
    assert shared_folders(run) == []
    assert "Traceback" not in run.said
    last, packets = rig.goals()[-1][PAN], len(rig.bus.log)
    time.sleep(0.3)
    assert not rig.goal_writes(packets)
    assert abs(rig.positions()[PAN] - last) < 1.5
    assert all(rig.bus.servos[name].torque for name in JOINTS)


def check_refused(run: Run, code: int, *words: str) -> None:
    """It ended with one clear error, before torque went on, and left nothing but its logs."""
    assert run.ended() == code, run.said
    assert all(word in run.said for word in words), run.said
    assert run.said.count("error: ") == 1
    assert "Traceback" not in run.said
    assert not run.rig.goal_writes()
    assert not any(run.rig.bus.servos[name].torque for name in JOINTS)
    assert {path.name for path in run.out.glob("*")} <= {"policy.log", "cameras.log"}
    assert shared_folders(run) == []
