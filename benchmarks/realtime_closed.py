"""The closed loop of realtime.py: a policy on the emulated tabletop by `smolpilot run`, beside `smolpilot rollout`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from realtime_runs import refusal

from smolpilot.evaluation.rates.intervals import rate_row
from smolpilot.evaluation.rates.paired import PairedCounts, mcnemar, tango_interval
from smolpilot.runtime.setup.robot_setup import RobotSetup

ENV, SETUP = "tabletop", "tabletop-emulated"
_SPARE_S = 4.0  # beside an episode's own time: the way to the first action, chunks that come late
_OPENING_S = 180.0


def closed_loop(folder: Path, policy: str, engine: str, schedule: str, episodes: int, seed: int) -> dict[str, Any]:
    """Both on the same seeds; success is what the environment says."""
    seeds = range(seed, seed + episodes)
    rollout = rolled_out(folder / "rollout", policy, engine, episodes, seed)
    run: dict[int, bool] = {}
    unfinished: dict[int, str] = {}
    for one in seeds:
        outcome, why = played(folder, policy, engine, schedule, one)
        run[one] = outcome is not None and bool(outcome["success"])
        if outcome is None:
            unfinished[one] = why
        print(f"seed {one}: {outcome or why}", file=sys.stderr, flush=True)
    table = PairedCounts.of(run, rollout)
    return {
        "policy": policy, "engine": engine, "schedule": schedule, "episodes": episodes, "seed": seed,
        "unfinished": unfinished,
        "run": row(run), "rollout": row(rollout),
        "paired": {
            "both": table.both, "only_a": table.only_a, "only_b": table.only_b, "neither": table.neither,
            "difference": table.difference, "interval": list(tango_interval(table)), "p": mcnemar(table),
        },
    }  # fmt: skip


def row(successes: dict[int, bool]) -> dict[str, Any]:
    """Counts with their exact interval."""
    made = rate_row(sum(successes.values()), len(successes))
    return {"successes": sum(successes.values()), "episodes": len(successes), "interval": interval_of(made)}


def interval_of(made: dict[str, Any]) -> list[float]:
    """The interval's two ends."""
    low, high = made["interval"]
    return [float(low), float(high)]


def rolled_out(out: Path, policy: str, engine: str, episodes: int, seed: int) -> dict[int, bool]:
    """Seed -> success of `smolpilot rollout`."""
    from smolpilot.evaluation.rollout.comparing import read_side

    command = [
        sys.executable, "-m", "smolpilot", "rollout", policy, "--env", ENV, "--out", str(out), "--episodes",
        str(episodes), "--seed", str(seed), "--video-episodes", "0", "--no-floors", "--engine", engine,
    ]  # fmt: skip
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return dict(read_side(out).successes)


def scene(seed: int) -> tuple[str, float]:
    """The instruction of a seed, and how long an episode lasts at most, in seconds."""
    from smolpilot.environments import environment_factory

    with closing(environment_factory(ENV)()) as env:
        _, info = env.reset(seed)
        return info.instruction, env.spec.max_steps / env.spec.rate


def played(folder: Path, policy: str, engine: str, schedule: str, seed: int) -> tuple[dict[str, Any] | None, str]:
    """One episode by `smolpilot run`; the environment's outcome, or why there is none."""
    instruction, lasts = scene(seed)
    outcomes, robot, out = (folder / f"{kind}-{seed}" for kind in ("outcomes", "setup", "run"))
    robot = robot.with_suffix(".yaml")
    robot.write_text(setup_of(seed, outcomes), encoding="utf-8")
    command = [
        sys.executable, "-m", "smolpilot", "run", policy, "--robot", str(robot), "--go", "--unattended", "--out",
        str(out), "--schedule", schedule, "--engine", engine, "--start-pose", "here", "--instruction", instruction,
        "--seconds", f"{lasts + _SPARE_S:g}", "--seed", str(seed),
    ]  # fmt: skip
    said = folder / f"said-{seed}"
    with said.open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=dict(os.environ))
        until = time.monotonic() + lasts + _SPARE_S + _OPENING_S
        try:
            while process.poll() is None and time.monotonic() < until:
                if first := outcome_of(outcomes):
                    process.send_signal(signal.SIGTERM)  # the arm stops and is held: what follows is another scene
                    process.wait(60)
                    return first, ""
                time.sleep(0.05)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
    text = said.read_text(encoding="utf-8", errors="replace")
    if (refused := refusal(text)) is not None:
        raise SystemExit(f"smolpilot run refuses the policy: {refused}")
    return outcome_of(outcomes), "no end within its time: " + " ".join(text.split())[-200:]


def setup_of(seed: int, outcomes: Path) -> str:
    """The shipped setup with that scene, whose outcome is told in a file, and which is not parked afterwards."""
    import yaml

    values = yaml.safe_load(RobotSetup.load(SETUP).to_yaml())
    values["driver"] |= {"seed": seed, "outcomes": str(outcomes)}
    values.pop("start_pose", None)
    return str(yaml.safe_dump(values, sort_keys=False))


def outcome_of(file: Path) -> dict[str, Any] | None:
    """The first episode's, once its line is there."""
    if not file.is_file():
        return None
    first, end, _ = file.read_text(encoding="utf-8").partition("\n")
    found: dict[str, Any] | None = json.loads(first) if end else None
    return found
