"""`smolpilot run` in real time, on emulated servos: start, cadence, age of actions, jerk; LeRobot beside it.

    uv run --group test python benchmarks/realtime.py [--quick] [--seconds 20] [--json]
    uv run --group test python benchmarks/realtime.py --closed-loop --policy RUN [--episodes 50] [--seed 1000000]

The first takes about six minutes on an idle machine; `--quick`, at 100 Hz alone, about one. Everything is the real
`smolpilot run`, with its policy, camera and emulator processes, but for policies that cost exactly what is said
(realtime_program.py). Servos are emulated behind a pty: numbers hold what processes, drivers and the scheduler of the
system cost, and neither USB nor servos. The second plays a trained tabletop policy in real time and scores it beside
`smolpilot rollout` on the same seeds, about 15 s an episode: each is a run of its own, which opens the policy.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import realtime_closed
import realtime_peer as peer
import realtime_program as program
import realtime_runs as runs
from startup import machine

RATES = (30.0, 100.0, 200.0)
SLEEPS_MS, SCHEDULES = (20, 100, 500, 1500), ("sync", "async", "rtc")
QUICK_RATES, QUICK_SLEEPS_MS = (100.0,), (100,)
WITHIN_S = 4.0  # of LeRobot's loop with the load in its own process
SETTLING_S = 3.0  # until the way to the first action is over
JERKS = (("30 Hz", 30.0, ()), ("100 Hz", 100.0, ()), ("100 Hz, --realtime", 100.0, ("--realtime",)))
PARTS = ("start", "cadence", "age", "jerk")


def setup(folder: Path, name: str, driver: str) -> str:
    """A setup of an SO-101 without a start pose: no time goes into parking."""
    path = folder / f"{name}.yaml"
    path.write_text(f"profile: so101\ndriver: {driver}\n", encoding="utf-8")
    return str(path)


def start(folder: Path, repeats: int) -> dict[str, Any]:
    """Exec to the first tick, and memory: the setup that ships, an arm whose port is there before, LeRobot on that."""
    rows: dict[str, list[dict[str, Any]]] = {"so101-emulated": [], "the same, port there": []}
    with peer.emulated_arm(folder) as (port, calibration):
        robot = setup(folder, "there", f"{{type: feetech, port: {port}, timeout: 0.2, calibration: {calibration}}}")
        for _ in range(repeats):
            for name, which in zip(rows, ("so101-emulated", robot), strict=True):
                rows[name].append(runs.start_of_control(folder / f"start-{len(rows[name])}-{Path(which).stem}", which))
        theirs = peer.start_of_rollout(folder, port, calibration)
    found = {name: min(all_, key=lambda one: one.get("seconds", np.inf)) for name, all_ in rows.items()}
    return {**found, "lerobot-rollout": theirs}


def cadence(folder: Path, rates: Sequence[float], seconds: float, within: float) -> dict[str, Any]:
    """Lateness of ticks beside a policy process that uses all cores."""
    found: dict[str, Any] = {}
    robot = setup(folder, "emulated", "{type: emulated}")
    for rate in rates:
        for name, more in (("default", []), ("--realtime", ["--realtime"])):
            out, late = folder / f"cadence-{rate:g}{name}", folder / f"late-{rate:g}{name}.json"
            words = ["--seconds", f"{seconds:g}", "--rate", f"{rate:g}", "--schedule", "async", *more]
            with runs.started(out, "busy", *words, robot=robot, **{program.LATE: str(late)}) as one:
                result = runs.result_of(one, late)
                said = [line for line in one.said.splitlines() if line.startswith("--realtime")]
            told = {"note": said[0]} if said else {}
            if result.refused is not None:
                found[f"smolpilot run, {name} @ {rate:g}"] = {"failed": result.refused} | told
                continue
            kept = result.late[int(rate) :]  # after the first second
            found[f"smolpilot run, {name} @ {rate:g}"] = (
                lateness(kept, rate, result.missed) | told | ({"stop": result.stop} if result.stop else {})
            )
    with peer.emulated_arm(folder) as (port, calibration):
        theirs = peer.loops(port, calibration, list(rates), seconds, within)
    if "failed" in theirs:
        return found | {"LeRobot's loop": theirs}
    for part, name in (("beside", "LeRobot's loop, beside it"), ("within", "LeRobot's loop, load within")):
        for rate_text, late_s in theirs[part].items():
            values, rate = np.array(late_s), float(rate_text)
            found[f"{name} @ {rate_text}"] = lateness(values[min(int(rate), len(values) // 2) :], rate, None)
    return found


def lateness(late: runs.Floats, rate: float, missed: int | None) -> dict[str, Any]:
    """Milliseconds. missed: ticks that were left out; None for a loop without due times, which slips: `achieved`."""
    p50, p99, most = runs.quantiles(1e3 * late, 0.5, 0.99, 1.0)
    found: dict[str, Any] = {"p50": p50, "p99": p99, "max": most, "ticks": len(late), "missed": missed}
    if missed is None and len(late):
        found["achieved"] = 1.0 / (1.0 / rate + float(late.mean()))
    return found


def ages(folder: Path, seconds: float, sleeps: Sequence[int]) -> dict[str, Any]:
    """From the observation that a chunk was planned from to the command; the three schedules of one policy at once."""
    found: dict[str, Any] = {}
    robot = setup(folder, "emulated", "{type: emulated}")
    for sleep in sleeps:
        with ExitStack() as stack:
            started = {
                mode: stack.enter_context(
                    runs.started(
                        folder / f"age-{sleep}-{mode}", f"sleep-{sleep}", "--seconds", f"{seconds:g}",
                        "--schedule", mode, robot=robot,
                    )
                )
                for mode in SCHEDULES
            }  # fmt: skip
            for mode, one in started.items():
                found[f"{sleep} ms, {mode}"] = age(runs.result_of(one))
    return found


def age(result: runs.Result) -> dict[str, Any]:
    """Of one run."""
    if result.refused is not None or result.log is None or result.episode is None:
        return {"refused": result.refused}
    values = np.array([tick.chunk_age for tick in result.log.ticks if tick.chunk_age is not None])
    p50, p95, most = runs.quantiles(values, 0.5, 0.95, 1.0)
    end = result.episode
    return {
        "p50": p50, "p95": p95, "max": most, "played": len(values), "waited": end.waited, "starved": end.starved,
        "chunks": end.chunks, "stop": end.stop,
    }  # fmt: skip


def jerks(folder: Path, seconds: float) -> dict[str, Any]:
    """RMS jerk of a sine: as planned, as commanded, as the servos got it, against the same sine."""
    from realtime_bus import bus_at, goals

    found: dict[str, Any] = {}
    with ExitStack() as stack:
        started = {}
        for name, rate, more in JERKS:
            word = f"{rate:g}{''.join(more)}"
            bus, driver = stack.enter_context(bus_at(folder / f"calibration-{word}.json"))
            robot = setup(folder, f"bus-{word}", driver)
            words = ["--seconds", f"{seconds:g}", "--schedule", "async", "--rate", f"{rate:g}", *more]
            run = runs.started(folder / f"jerk-{word}", "sleep-100", *words, robot=robot)
            started[name] = rate, bus, stack.enter_context(run)
        for name, (rate, bus, one) in started.items():
            found[name] = smoothness(runs.result_of(one), rate, goals(bus))
    return found


def smoothness(result: runs.Result, rate: float, on_bus: tuple[runs.Floats, runs.Floats]) -> dict[str, Any]:
    """Ratios to the sine's own jerk, all sampled at the control rate. on_bus: times and goals of the first joint."""
    if result.log is None:
        return {"failed": result.refused}
    log, source = result.log, np.array([tick.source for tick in result.log.ticks])
    begun = next((tick.sent.sent_at for tick in log.ticks if tick.chunk is not None), np.inf)
    kept = (source == "policy") & (log.sent_at >= begun + SETTLING_S)
    numbers = log.numbers[kept]
    if len(numbers) < 10:
        return {"failed": result.stop or "too short: nothing is left after the way to the first action"}
    clean = runs.rms(runs.jerk(numbers, program.sine(numbers * program.RATE / rate), rate))
    commanded = runs.jerk(numbers, log.commanded[kept, 0].astype(np.float64), rate)
    seams = np.isin(np.flatnonzero(kept), log.seams)
    near = np.convolve(seams, np.ones(2 * SEAM_TICKS + 1), "same") > 0
    times, values = on_bus
    inside = (times >= log.sent_at[kept][0]) & (times <= log.sent_at[kept][-1] + 0.5 / rate)
    bus = values[inside]
    held = np.abs(log.commanded[kept, 0] - log.requested[kept, 0]) > HELD_DEGREES
    return {
        "sine": clean,
        "planned": runs.rms(runs.jerk(numbers, log.requested[kept, 0].astype(np.float64), rate)) / clean,
        "commanded": runs.rms(commanded) / clean,
        "near_seams": runs.rms(commanded[near]) / clean,
        "elsewhere": runs.rms(commanded[~near]) / clean,
        "bus": runs.rms(runs.jerk(np.arange(len(bus)), bus, rate)) / clean,
        "ticks": len(numbers), "chunks": int(seams.sum()) + 1, "held": int(held.sum()), "stop": result.stop,
    }  # fmt: skip


HELD_DEGREES = 1e-4  # a command that differs more from what the schedule asked for was held back by the governor
SEAM_TICKS = 6  # on both sides of where another chunk begins


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="about a minute: 100 Hz alone, shorter")
    parser.add_argument("--seconds", type=float, help="of each cell of the cadence; 20, 5 with --quick")
    parser.add_argument("--only", choices=PARTS, nargs="+", default=list(PARTS))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--closed-loop", action="store_true", help="score a policy in real time, and nothing else")
    parser.add_argument("--policy", help="a trained tabletop policy, for --closed-loop")
    parser.add_argument("--engine", default="exact", help="of both; rtc needs one that can be guided")
    parser.add_argument("--schedule", default="rtc", choices=SCHEDULES)
    parser.add_argument("--episodes", type=int, help="of --closed-loop; 50, 5 with --quick")
    parser.add_argument("--seed", type=int, default=1_000_000, help="of the first episode")
    options = parser.parse_args()
    if options.closed_loop and options.policy is None:
        parser.error("--closed-loop needs --policy")
    quick = options.quick
    result: dict[str, Any] = {"machine": machine(), "load_before": os.getloadavg(), "took": {}}
    with tempfile.TemporaryDirectory(prefix="smolpilot-realtime-") as name:
        folder = Path(name)
        if options.closed_loop:
            episodes = options.episodes or (5 if quick else 50)
            result["closed"] = realtime_closed.closed_loop(
                folder, options.policy, options.engine, options.schedule, episodes, options.seed
            )
        else:
            seconds = options.seconds or (5.0 if quick else 20.0)
            parts = {
                "start": lambda: start(folder, 1 if quick else 2),
                "cadence": lambda: cadence(
                    folder, QUICK_RATES if quick else RATES, seconds, 0.0 if quick else WITHIN_S
                ),
                "age": lambda: ages(folder, 5.0 if quick else 8.0, QUICK_SLEEPS_MS if quick else SLEEPS_MS),
                "jerk": lambda: jerks(folder, 7.0 if quick else 15.0),
            }
            for part in options.only:
                print(f"measuring: {part} ...", file=sys.stderr, flush=True)
                begun = time.monotonic()
                result[part] = parts[part]()
                result["took"][part] = time.monotonic() - begun
    result["load_after"] = os.getloadavg()
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        from realtime_tables import show

        show(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
