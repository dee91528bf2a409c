"""The tables of realtime.py."""

from __future__ import annotations

from typing import Any

_NO = "-"


def show(result: dict[str, Any]) -> None:
    """Print every part that was measured."""
    before, after = result["load_before"][0], result["load_after"][0]
    print(f"{result['machine']}; load {before:.1f} before, {after:.1f} after")
    if took := result.get("took"):
        print("measured in " + ", ".join(f"{part} {seconds:.0f} s" for part, seconds in took.items()))
    for part, table in (("start", start), ("cadence", cadence), ("age", ages), ("jerk", jerks), ("closed", closed)):
        if part in result:
            print()
            for line in table(result[part]):
                print(line)


def number(value: float | None, form: str = ".1f") -> str:
    """A number, or a sign that there is none."""
    return _NO if value is None or value != value else format(value, form)


def start(rows: dict[str, dict[str, Any]]) -> list[str]:
    """Start."""
    lines = ["Start: exec to the first tick of an engaged arm; peak memory of the process that drives it",
             f"{'':<26}{'s':>8}{'MB':>8}{'MB of parent':>14}   of which"]  # fmt: skip
    for name, one in rows.items():
        if "failed" in one:
            lines.append(f"{name:<26}failed: {one['failed']}")
            if "import_seconds" in one:
                lines.append(f"{'  its import + connect':<26}{one['import_seconds']:>8.2f}{one['megabytes']:>8.0f}")
            continue
        lines.append(
            f"{name:<26}{one['seconds']:>8.2f}{number(one['megabytes'], '.0f'):>8}"
            f"{number(one.get('parent_megabytes'), '.0f'):>14}   "
            + ", ".join(f"{stage} {at:.2f}" for stage, at in one.get("stages", {}).items())
        )
    ours, theirs = rows["so101-emulated"], rows["lerobot-rollout"]
    if "seconds" in ours:
        lines.append(
            "goal, under 80 MB and about a second: "
            + met((ours["megabytes"] or 1e9) < 80, "memory") + ", " + met(ours["seconds"] < 1.25, "time")
        )  # fmt: skip
        lines.append("'so101-emulated' starts its emulator, too. The policy costs nothing but its process's start.")
    if "seconds" in theirs:
        lines.append("lerobot-rollout: a Gaussian actor of 8 hidden units, computed in its one process, with torch.")
    return lines


def met(good: bool, what: str) -> str:
    """Whether a goal is met."""
    return f"{what} {'met' if good else 'MISSED'}"


def cadence(rows: dict[str, dict[str, Any]]) -> list[str]:
    """Lateness."""
    lines = ["Cadence: ms that ticks began late while a policy process keeps all cores busy; first second left out",
             f"{'':<44}{'p50':>8}{'p99':>8}{'max':>8}{'ticks':>8}{'missed':>8}"]  # fmt: skip
    notes = []
    for name, one in rows.items():
        if (note := one.get("note")) and note not in notes:
            notes.append(note)
        if "failed" in one:
            lines.append(f"{name:<44}failed: {one['failed']}")
            continue
        slips = f"   {one['achieved']:.1f} Hz" if "achieved" in one else ""
        stop = f"   stopped: {one['stop']}" if "stop" in one else ""
        missed = _NO if one["missed"] is None else str(one["missed"])
        lines.append(
            f"{name:<44}{one['p50']:>8.3f}{one['p99']:>8.3f}{one['max']:>8.3f}{one['ticks']:>8}{missed:>8}{slips}{stop}"
        )
    goal = rows.get("smolpilot run, --realtime @ 100", {})
    if "p99" in goal:
        lines.append(f"goal, p99 under 1 ms at 100 Hz with --realtime: {met(goal['p99'] < 1.0, 'lateness')}")
    return [
        *lines, *notes,
        "ours: after a fixed grid of times, the policy's process at nice 10, as run starts it. LeRobot's loop sleeps",
        "what is left of a period and knows no grid: its lateness is that after the tick before, and adds up to the",
        "rate beside it. Beside it: the same busy process. Load within: the same threads in the loop's own process.",
    ]  # fmt: skip


def ages(rows: dict[str, dict[str, Any]]) -> list[str]:
    """Age of actions."""
    lines = [
        "Age: ms from the observation that an action was planned from to its command; 30 Hz, 25 of 50",
        "the three schedules of a policy run at the same time",
        f"{'policy sleeps':<18}{'p50':>8}{'p95':>8}{'max':>8}{'played':>8}{'waited':>8}{'starved':>9}",
    ]
    for name, one in rows.items():
        if "p50" not in one:
            lines.append(f"{name:<18}refused: {one['refused']}")
            continue
        stop = f"   stopped: {one['stop']}" if one["stop"] else ""
        lines.append(
            f"{name:<18}" + "".join(f"{number(1e3 * one[key], '.0f'):>8}" for key in ("p50", "p95", "max"))
            + f"{one['played']:>8}{one['waited']:>8}{one['starved']:>9}{stop}"
        )  # fmt: skip
    return [*lines, "waited: ticks that the schedule means to stand (sync); starved: ticks that had nothing to play."]


def jerks(rows: dict[str, dict[str, Any]]) -> list[str]:
    """Jerk."""
    lines = ["Jerk: RMS over that of the same sine (0.3 Hz, 15 deg), both sampled at the control rate; policy 30 Hz",
             f"{'':<20}{'planned':>9}{'commanded':>11}{'near seams':>12}{'elsewhere':>11}{'on the bus':>12}"
             f"{'ticks':>7}{'chunks':>8}{'held':>6}"]  # fmt: skip
    for name, one in rows.items():
        if "failed" in one:
            lines.append(f"{name:<20}failed: {one['failed']}")
            continue
        lines.append(
            f"{name:<20}{one['planned']:>9.3f}{one['commanded']:>11.3f}{one['near_seams']:>12.3f}"
            f"{one['elsewhere']:>11.3f}{one['bus']:>12.1f}{one['ticks']:>7}{one['chunks']:>8}{one['held']:>6}"
            f"   {met(abs(one['commanded'] - 1) < 0.1, 'goal of 10 %')}"
            + (f"   stopped: {one['stop']}" if one["stop"] else "")
        )
    return [
        *lines,
        "planned: after the schedule and its curve; commanded: after the governor, before rounding. On the bus goals",
        "are whole steps of 0.088 deg: their rounding alone, differenced three times, is more than the sine's jerk.",
        "held: ticks in which the governor passed on less than was planned: a tick that comes more than half a period",
        "early, after a late one, may take less way (Governor._step_time). The emulated servos run at SCHED_FIFO here,",
        "where that is permitted: real ones do not wait for the machine.",
    ]


def closed(one: dict[str, Any]) -> list[str]:
    """The closed loop."""
    run, rollout = one["run"], one["rollout"]
    lines = [f"Closed loop: {one['episodes']} tabletop episodes from seed {one['seed']}; {one['policy']}",
             f"{'':<34}{'success':>9}{'95 % interval':>18}"]  # fmt: skip
    for name, row in ((f"smolpilot run, {one['schedule']}, in real time", run), ("smolpilot rollout", rollout)):
        low, high = row["interval"]
        lines.append(f"{name:<34}{row['successes']:>5}/{row['episodes']:<3}{100 * low:>9.1f} - {100 * high:.1f} %")
    table = one["paired"]
    low, high = table["interval"]
    return [
        *lines,
        f"both {table['both']}, only run {table['only_a']}, only rollout {table['only_b']}, neither {table['neither']}",
        f"difference {100 * table['difference']:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f}), "
        f"McNemar p = {table['p']:.3g}",
        *(f"seed {seed}: {why}" for seed, why in one["unfinished"].items()),
    ]
