"""The last act of `smolpilot demo`: the trained policy on the emulated arm in real time, by `smolpilot run` itself."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.text import Text

from smolpilot.common.atomic import write_text_atomic
from smolpilot.common.errors import RunLogError, SmolpilotError
from smolpilot.common.json_input import read_json_file
from smolpilot.common.terminal import Terminal
from smolpilot.contracts.run_folder import LOG, RunFacts, read_episodes, read_facts
from smolpilot.contracts.run_log import read_run_log
from smolpilot.evaluation.robot_runs.measures import CLAMPS

from ..parsing.tables import table

SECONDS = 8
"""Of an episode; in the simulation it has as many."""
_PATIENCE_S = 180.0
_KILLED = "killed"


@dataclass(frozen=True)
class Act:
    """One episode: the simulation's seed and instruction, the folder of its run, and the command."""

    seed: int
    instruction: str
    folder: Path
    setup: Path
    outcomes: Path
    args: list[str]
    kills: bool = False


def acts(bundle: Path, out: Path, first_seed: int, count: int) -> list[Act]:
    """`count` episodes from this seed on, and one more in which the policy process will be killed."""
    from smolpilot.contracts import ENVIRONMENTS

    world = ENVIRONMENTS.get("tabletop")()
    found = []
    for number in range(count + 1):
        seed = first_seed + number
        instruction = world.reset(seed)[1].instruction
        name = _KILLED if number == count else f"episode-{number:02d}"
        folder, setup, outcomes = out / name, out / f"{name}.yaml", out / f"{name}.jsonl"
        args = ["run", str(bundle), "--robot", str(setup), "--instruction", instruction, "--go", "--unattended",
                "--seconds", str(SECONDS), "--schedule", "rtc", "--engine", "fast", "--start-pose", "here",
                "--log-only", "--out", str(folder)]  # fmt: skip
        found.append(Act(seed, instruction, folder, setup, outcomes, args, kills=number == count))
    world.close()
    return found


def write_setup(act: Act) -> None:
    """The shipped tabletop arm, whose simulation begins with this seed and tells how its episode ended."""
    from smolpilot.runtime.setup.robot_setup import RobotSetup

    values = RobotSetup.load("tabletop-emulated").values()
    driver = {**values["driver"], "seed": act.seed, "outcomes": str(act.outcomes.absolute())}
    values = {key: value for key, value in values.items() if key != "start_pose"} | {"driver": driver}
    act.setup.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomic(act.setup, json.dumps(values) + "\n")  # JSON is YAML


@dataclass(frozen=True)
class Played:
    """What came of an episode. success: None where the simulation has not said; clamped: joint -> ticks; why: how the
    run ended; ticks: of the policy."""

    success: bool | None
    steps: int | None
    ticks: int
    starved: int
    clamped: dict[str, int]
    stops: int
    why: str


def play(act: Act) -> Played:
    """Run it, or read it where it was run before."""
    if not _is_done(act.folder):
        write_setup(act)
        act.outcomes.unlink(missing_ok=True)
        _run(act)
    facts, ends = read_facts(act.folder), read_episodes(act.folder)
    log = read_run_log(act.folder / LOG)
    counts = log.flag_counts()
    clamped: Counter[str] = Counter()
    for flag in CLAMPS:
        clamped.update(counts.get(flag, Counter()))
    outcome = _outcome(act)
    return Played(
        success=None if outcome is None else bool(outcome["success"]),
        steps=None if outcome is None else int(outcome["steps"]),
        ticks=sum(tick.source == "policy" for tick in log.ticks),
        starved=sum(end.starved for end in ends),
        clamped=dict(clamped),
        stops=sum(end.stop is not None for end in ends),
        why=facts.ended or "cut off",
    )


def _is_done(folder: Path) -> bool:
    try:
        return read_facts(folder).ended is not None
    except RunLogError:
        return False


def _run(act: Act) -> None:
    """In a process of its own: the control process is to be light, and this one has trained a policy."""
    import shutil

    shutil.rmtree(act.folder, ignore_errors=True)
    said = act.folder.with_suffix(".log")
    with said.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "smolpilot", *act.args], stdin=subprocess.DEVNULL, stdout=file, stderr=file
        )
        try:
            if act.kills:
                os.kill(_policy_that_plays(act.folder, process), signal.SIGKILL)
            code = process.wait(_PATIENCE_S)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    if code != 0 and not _is_done(act.folder):
        last = said.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-4:]
        raise SmolpilotError(f"`{shlex.join(['smolpilot', *act.args])}` failed: {' '.join(last)}", fix=f"see {said}")


def _policy_that_plays(folder: Path, process: subprocess.Popen[bytes]) -> int:
    """The number of the policy process, once its actions move the arm."""
    end = time.monotonic() + _PATIENCE_S
    while time.monotonic() < end and process.poll() is None:
        log = folder / LOG
        if log.is_file() and b'"source":"policy"' in log.read_bytes():
            return read_facts(folder).processes["policy"]
        time.sleep(0.1)
    raise SmolpilotError("The policy has moved nothing.", fix=f"see {folder.with_suffix('.log')}")


def _outcome(act: Act) -> dict[str, Any] | None:
    """How the simulation's first episode ended; None where it did not end."""
    if not act.outcomes.is_file():
        return None
    lines = act.outcomes.read_text(encoding="utf-8").splitlines()
    found = [json.loads(line) for line in lines if line.endswith("}")]
    return next((one for one in found if one["seed"] == act.seed), None)


def last_act(bundle: Path, out: Path, rollout: Path, episodes: int, console: Terminal) -> bool:
    """Play it and print it beside the rollout of the same seeds; whether the arm held when its policy was killed.

    rollout: folder of `smolpilot rollout` with the right instruction.
    """
    simulated = [json.loads(line) for line in (rollout / "episodes.jsonl").read_text("utf-8").splitlines()]
    played: list[tuple[Act, Played]] = []
    for act in acts(bundle, out, int(simulated[0]["seed"]), episodes):
        what = "the policy process will be killed" if act.kills else f"episode {len(played) + 1} of {episodes}"
        console.print(f"$ {shlex.join(['smolpilot', *act.args])}   # {what}", style="cyan", soft_wrap=True)
        played.append((act, play(act)))
    _print(played[:-1], simulated, read_json_file(rollout / "results.json"), console)
    act, killed = played[-1]
    facts: RunFacts = read_facts(act.folder)
    held = killed.stops == 1 and killed.why.startswith("The policy process was killed")
    sentence = "the arm slowed down, held, and said why" if held else "THE ARM DID NOT SAY WHY IT STOPPED"
    console.print(Text(f"Policy process killed in the middle: {sentence}: {facts.ended}"))
    return held


def _print(
    played: list[tuple[Act, Played]], simulated: list[dict[str, Any]], rolled: dict[str, Any], console: Terminal
) -> None:
    from smolpilot.evaluation import rate_interval

    if not played:
        return
    rows = table("seed", "instruction", "real time", "steps", "simulated", "steps ", "starved", "clamped",
                 title="The emulated arm in real time, beside the simulation, on the same seeds")  # fmt: skip
    by_seed = {int(one["seed"]): one for one in simulated}
    for act, one in played:
        other = by_seed.get(act.seed, {})
        most = max(one.clamped, key=lambda name: one.clamped[name], default="")
        clamped = f"{one.clamped.get(most, 0)} of {one.ticks} {most}".strip()
        rows.add_row(
            str(act.seed), act.instruction, _word(one.success), _number(one.steps), _word(other.get("success")),
            _number(other.get("steps")), str(one.starved), clamped,
        )  # fmt: skip
    console.print(rows)
    successes, count = sum(bool(one.success) for _, one in played), len(played)
    low, high = rate_interval(successes, count)
    low_too, high_too = rolled["interval"]
    stops = sum(one.stops for _, one in played)
    console.print(
        f"Success in real time: {successes} of {count} ({low:.0%} to {high:.0%}); in the simulation "
        f"{rolled['successes']} of {rolled['episodes']} ({low_too:.0%} to {high_too:.0%}). Stops: {stops}."
    )


def _word(success: bool | None) -> str:
    return {True: "success", False: "failure", None: "not ended"}[success]


def _number(steps: int | None) -> str:
    return "-" if steps is None else str(steps)
