"""What realtime.py starts: `smolpilot run` with policies of its own, those policies, and what keeps all cores busy.

Policies by name: `free` (no work), `sleep-MS`, `busy` (as many threads as there are cores multiply matrices without
pause). All of them plan the same sine of the first joint from the place of the playback, so that chunks agree.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partialmethod
from pathlib import Path
from typing import Any

RATE, CHUNK, HORIZON = 30.0, 50, 25
SINE_HZ, SINE_DEGREES = 0.3, 15.0
LATE = "REALTIME_LATE"
"""Environment variable: the file that gets how late each tick was."""


def command(call: str, *words: str) -> list[str]:
    """The command line that runs a function of this file."""
    here = str(Path(__file__).parent)
    program = f"import sys; sys.path.insert(0, {here!r}); import realtime_program; sys.exit(realtime_program.{call})"
    return [sys.executable, "-c", program, *words]


def run() -> int:
    """`smolpilot run ...` as it is, with the policies of this file."""
    from smolpilot.cli.main import main
    from smolpilot.cli.robot import run_policy
    from smolpilot.runtime.robot_run import policy_link

    run_policy.finish = lambda folder: 0  # dataset and report are written after the run
    open_it = policy_link.PolicyLink.open
    policy_link.PolicyLink.open = partialmethod(open_it, command=command("serve()"))  # type: ignore[assignment]
    if LATE in os.environ:
        _keep_lateness(Path(os.environ[LATE]))
    return main(sys.argv[1:])


def _keep_lateness(file: Path) -> None:
    """How late every tick was, from the loop's own Pace, which keeps the newest alone."""
    from smolpilot.runtime.robot_run import driving, pace, session

    pace._NEWEST = 1_000_000
    made: list[pace.Pace] = []

    class Kept(pace.Pace):
        def __init__(self, *args: Any, **named: Any) -> None:
            super().__init__(*args, **named)
            made.append(self)

    session.Pace = Kept  # type: ignore[attr-defined]
    drive = driving.drive

    def driven(*args: Any) -> int:
        code = drive(*args)
        if made:
            file.write_text(json.dumps({"late": list(made[0]._late), "missed": made[0].missed}), encoding="utf-8")
        return code

    driving.drive = driven  # type: ignore[assignment]


def plan(place: float, state: Any) -> Any:
    """A chunk [CHUNK, A]: the sine from `place` on; all other joints stay."""
    import numpy as np

    chunk = np.tile(np.asarray(state, dtype=np.float64), (CHUNK, 1))
    chunk[:, 0] = sine(place + np.arange(CHUNK))
    return chunk


def sine(places: Any) -> Any:
    """Degrees at places of the playback."""
    import numpy as np

    return SINE_DEGREES * np.sin(2 * np.pi * SINE_HZ / RATE * np.asarray(places, dtype=np.float64))


def serve() -> int:
    """The policy process."""
    from smolpilot.contracts import GUIDED, Leftover, Policy, PolicySpec
    from smolpilot.contracts.policy import PolicyFacts
    from smolpilot.policies import policy_process
    from smolpilot.robots import RobotProfile

    class Made(Policy):
        """Waits, then plans from the newest reading that it was given."""

        def __init__(self, name: str, profile: RobotProfile) -> None:
            self.seconds = float(name.removeprefix("sleep-")) / 1e3 if name.startswith("sleep-") else 0.0
            self.place = 0.0
            self.still: Any = None
            size = len(profile.action_joints)
            self._spec = PolicySpec(
                name, size, size, CHUNK, HORIZON, profile=profile, rate=RATE, capabilities=frozenset({GUIDED}),
                facts=PolicyFacts(kind="made"),
            )  # fmt: skip

        @property
        def spec(self) -> PolicySpec:
            return self._spec

        def predict(
            self, observations: Sequence[Mapping[str, Any]], *, seeds: Any = None, previous: Leftover | None = None
        ) -> Any:
            if self.still is None:  # else joints that sag a little would be led down, chunk by chunk
                self.still = observations[0]["observation.state"]
            time.sleep(self.seconds)
            return plan(self.place, self.still)[None]

    class Served(policy_process.Served):
        def _state(self) -> Any:
            newest = super()._state()
            self._policy.place = newest.place  # type: ignore[attr-defined]
            return newest

    def open_for(request: Any) -> Policy:
        if request.source == "busy":
            burn()
        return Made(request.source, RobotProfile.from_yaml(request.profile))

    policy_process.open_for, policy_process.Served = open_for, Served  # type: ignore[misc]
    return policy_process.main()


def burn() -> None:
    """Threads that multiply matrices from now on, one per core."""
    import numpy as np

    def work() -> None:
        one = np.random.default_rng(0).normal(size=(256, 256))
        while True:
            _ = one @ one

    for _ in range(len(os.sched_getaffinity(0))):
        threading.Thread(target=work, daemon=True).start()


def busy(nice: int) -> int:
    """The same work in a process without an arm, until its standard input ends."""
    os.nice(nice)
    burn()
    print("busy", flush=True)
    sys.stdin.buffer.read()
    return 0


def peer_policy() -> int:
    """Make LeRobot's policy, in a process that may import torch."""
    from realtime_peer import smallest_policy

    smallest_policy(Path(sys.argv[1]))
    return 0


def peer_loops() -> int:
    """LeRobot's control loop."""
    from realtime_peer import play_loops

    return play_loops()
