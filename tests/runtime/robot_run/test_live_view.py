"""What a person sees: each phase with its keys, all joints that fit, and nothing that acts on the terminal."""

from __future__ import annotations

import io
import math
import re
from typing import Any

import pytest
from rich.console import Console

from smolpilot.runtime.inspection.live_cells import BAR, position_bar
from smolpilot.runtime.robot_run.live_view import RunView
from smolpilot.runtime.robot_run.snapshot import Phase, Snapshot

from .helpers_snapshots import SO101, snapshot


def drawn(one: Snapshot, width: int = 80, height: int = 24, silent: float = 0.0, keys: bool = True) -> list[str]:
    """The lines of a view on a terminal of that size, none of them wider or beyond the last."""
    console = Console(file=io.StringIO(), width=width, height=height)
    console.print(RunView(one, silent, keys))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert max(map(len, lines)) <= width
    assert len(lines) <= height
    return [line.rstrip() for line in lines]


def styled(one: Snapshot, **options: Any) -> str:
    """The same with its colors."""
    console = Console(file=io.StringIO(), width=80, height=24, force_terminal=True, color_system="standard")
    console.print(RunView(one, **options))
    return str(console.file.getvalue())  # type: ignore[attr-defined]


FEET = {
    Phase.READY: "Enter: to the start   s: success   f: failure (last one)   q: park and end",
    Phase.APPROACH: "space: stop and hold   q: park and end",
    Phase.AT_START: "Enter: start the episode   space: stop and hold   q: park and end",
    Phase.RUNNING: "space: stop and hold   s: success   f: failure   q: park and end",
    Phase.STOPPED: "Enter: lift the stop, nothing moves yet   q: end the run",
    Phase.PARKING: "space: stop and hold",
    Phase.ENDED: "The run has ended.",
}


@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("joints", [6, 64])
def test_each_phase_names_itself_and_the_keys_that_do_something(phase: Phase, joints: int) -> None:
    lines = drawn(snapshot(joints, phase=phase))
    assert lines[0] == f" {phase.upper()}    episode 2 of 10   12.3 of 30 s   async"
    assert lines[1] == "Pick up the cube."
    assert lines[2] == "29.9 of 30 Hz   late 1.2 ms   missed 0   starved 3   queued 0.83 s"
    assert lines[3] == "turnaround 210 ms   waiting 40 ms   observation 50 ms   chunk 300 ms"
    assert lines[-1] == FEET[phase]
    assert "cameras   front 33 ms   wrist no image" in lines
    assert "marks   2 success, 1 failure, 1 without   ✓✗✓·" in lines


def test_a_row_has_all_of_a_joint() -> None:
    lines = drawn(snapshot(temperatures=[41.0, None, 57.0, 66.0, 40.0, 40.0]))
    rows = {line.split()[0]: line.split() for line in lines if line}
    assert rows["joint"][:4] == ["joint", "measured", "commanded", "planned"]
    assert rows["shoulder_pan"] == ["shoulder_pan", "-20.00", "-12.00", "0.00", "deg", "├───────●○━─────────┤", "41"]
    assert rows["shoulder_lift"][-1:] == ["├────────●○━────────┤"], "no temperature"
    assert rows["gripper"][-2:] == ["4", "40"], "clamped in four ticks"
    assert set(SO101) <= set(rows)


def test_the_ends_of_the_bars_are_told_where_there_is_room() -> None:
    (row,) = [line for line in drawn(snapshot(), width=140) if line.startswith("shoulder_pan")]
    assert re.search(r"-100 ├─+●○━─+┤ 100", row)


@pytest.mark.parametrize("width", [40, 50, 60, 70, 80, 120])
@pytest.mark.parametrize("height", [10, 14, 24, 50])
@pytest.mark.parametrize("joints", [1, 6, 64])
def test_it_fits_any_terminal_and_the_keys_stay_in_sight(width: int, height: int, joints: int) -> None:
    one = snapshot(joints, stop="The arm does not follow.", phase=Phase.STOPPED, dry_run=True)
    lines = drawn(one, width, height)
    text = "\n".join(lines)
    for part in ("STOPPED", "DRY RUN", "The arm does not follow.", "Enter: lift the stop, nothing moves yet", "q: end"):
        assert part in text
    assert any(line.startswith(one.joints[0][:10]) for line in lines)
    assert any("●" in line for line in lines)


def test_of_many_joints_those_are_shown_that_move_and_how_many_are_missing_is_said() -> None:
    still = snapshot(64)
    moved = {7, 30, 63}
    planned = [[x + (40 if i in moved else 0) for i, x in enumerate(still.measured)]]
    one = still.model_copy(update={"planned": planned, "commanded": still.measured})
    lines = drawn(one)
    rows = [int(line.split()[0].rsplit("_", 1)[1]) for line in lines if line.startswith("left_arm_joint")]
    assert moved < set(rows)
    assert rows == sorted(rows)
    assert f"{64 - len(rows)} joints not shown: they move less" in lines
    lost = [math.nan if i == 50 else 200.0 if i == 51 else x for i, x in enumerate(still.measured)]
    text = "\n".join(drawn(one.model_copy(update={"measured": lost})))
    assert re.search(r"left_arm_joint_50 +no answer", text)
    assert re.search(r"left_arm_joint_51 .*▶┤", text)


def test_rows_of_an_arm_that_rests_do_not_change_places() -> None:
    shown = []
    for noise in range(5):
        measured = [50.0 + math.sin(noise * 7 + i) for i in range(64)]
        lines = drawn(snapshot(64, measured=measured, commanded=[50.0] * 64, planned=[]))
        shown.append([line.split()[0] for line in lines if line.startswith("left_arm")])
    assert shown == [shown[0]] * 5
    assert shown[0][0] == "left_arm_joint_0"


def test_what_is_not_known_is_no_number_and_no_error() -> None:
    nan = [math.nan] * 6
    one = snapshot(
        measured=nan, commanded=nan, planned=[nan], low=nan, high=nan, temperatures=[None] * 6, achieved=None,
        late_ms=None, turnaround=None, waiting=math.nan, observation_age=None, chunk_age=None, of_seconds=None,
        camera_ages={}, marks=[], rate=0.0,
    )  # fmt: skip
    assert "nan" not in "".join(drawn(one, width=140))
    text = "\n".join(drawn(one))
    assert text.count("no answer") == 6
    assert "- of 0 Hz   late -" in text
    assert "turnaround -   waiting -   observation -   chunk -" in text
    assert ("12.3 s" in text, "cameras" in text, "marks" in text, "nan" in text) == (True, False, False, False)


def test_lists_of_other_lengths_are_no_error() -> None:
    text = "\n".join(drawn(snapshot(measured=[1.0], units=[], planned=[[1.0], []], temperatures=[], low=[], high=[])))
    assert text.count("no answer") == 5


def test_a_snapshot_comes_back_from_its_line_with_what_is_not_known() -> None:
    one = snapshot(measured=[math.nan, math.inf, -math.inf, 1.0, 2.0, 3.0])
    line = one.model_dump_json()
    assert "\n" not in line
    back = Snapshot.model_validate_json(line)
    assert math.isnan(back.measured[0])
    assert back.measured[1:] == [math.inf, -math.inf, 1.0, 2.0, 3.0]
    assert back.model_dump_json() == line


HOSTILE = "\x1b[2J\x1b]0;owned\x07\x9b31m[bold red]:smile:\u202etxt\r\n\ud800 end"


def test_texts_of_others_do_not_act_on_the_terminal() -> None:
    names = [HOSTILE, *SO101[1:]]
    one = snapshot(
        instruction=HOSTILE, stop=HOSTILE, schedule=HOSTILE, joints=names, units=[HOSTILE] * 6,
        camera_ages={HOSTILE: 0.1}, marks=[HOSTILE], hold_to_run=HOSTILE, clamped={HOSTILE: 1}, phase=Phase.STOPPED,
    )  # fmt: skip
    for text in ("\n".join(drawn(one)), styled(one)):
        rest = re.sub(r"\x1b\[[0-9;]*m", "", text)
        assert not set(rest) & {"\x1b", "\x07", "\x9b", "\r", "\u202e", "\ud800"}
        assert r"STOPPED: \x1b[2J\x1b]0;owned\x07\x9b31m[bold red]:smile:\u202etxt\r\n\ud800" in rest
        assert "😄" not in rest


def test_the_reason_of_a_stop_is_there_in_full() -> None:
    reason = " ".join(f"word{i}" for i in range(60))
    lines = drawn(snapshot(phase=Phase.STOPPED, stop=reason))
    assert f"STOPPED: {reason}" in " ".join(lines)
    assert sum(line.split()[:1] == [name] for line in lines for name in SO101) == 6
    endless = drawn(snapshot(phase=Phase.STOPPED, stop="word " * 5_000))
    assert any(line.endswith("…") for line in endless)
    assert endless[-1] == FEET[Phase.STOPPED]


def test_the_key_to_be_held_is_named_where_something_moves_and_means_nothing_else() -> None:
    assert drawn(snapshot(hold_to_run="H"))[-2] == (
        "hold h: it moves; let go: it stops   space: stop and hold   s: success"
    )
    foot = drawn(snapshot(hold_to_run="space"))[-2:]
    assert " ".join(foot) == "hold space: it moves; let go: it stops   s: success   f: failure q: park and end"
    assert "s: success" not in " ".join(drawn(snapshot(hold_to_run="s")))
    assert drawn(snapshot(hold_to_run="h", phase=Phase.READY))[-1] == FEET[Phase.READY].replace("Enter:", "hold h:")
    assert drawn(snapshot(hold_to_run="h", phase=Phase.PARKING))[-1].startswith("hold h: it moves; let go: it stops")


def test_without_a_keyboard_no_keys_are_promised() -> None:
    text = " ".join(drawn(snapshot(), keys=False)[-2:])
    assert "Ctrl-C: stop and hold, and end the run   (no keyboard here)" in text
    assert "success   f" not in text


def test_old_news_are_called_old() -> None:
    assert not any("heard" in line for line in drawn(snapshot(), silent=0.5))
    first = drawn(snapshot(), silent=3.4)[0]
    assert first == "Nothing heard from the control process for 3 s: what is shown is old."
    lines = drawn(snapshot(), silent=math.inf)
    assert (lines[0], lines[-1]) == (
        "The control process has ended. This is the last that it told.",
        "The run has ended.",
    )
    assert drawn(snapshot(phase=Phase.ENDED), silent=math.inf)[0].startswith(" ENDED ")


@pytest.mark.parametrize(
    ("change", "text", "color"),
    [
        ({"dry_run": True}, " DRY RUN: NO MOTOR MOVES ", "1;37;45"),
        ({"achieved": 29.0}, "29.0 of 30 Hz", "33"),
        ({"achieved": 20.0}, "20.0 of 30 Hz", "31"),
        ({"late_ms": 20.0}, "late 20.0 ms", "33"),
        ({"late_ms": 40.0}, "late 40.0 ms", "31"),
        ({"missed": 1}, "missed 1", "33"),
        ({"queued": 0.01}, "queued 0.01 s", "31"),
        ({"chunk_age": 4.0}, "4000 ms", "31"),
        ({"camera_ages": {"front": 0.7}}, "700 ms", "31"),
        ({"policy_alive": False}, "the policy's process is gone", "1;31"),
        ({"temperatures": [60.0] * 6}, "60", "33"),
        ({"temperatures": [68.0] * 6}, "68", "31"),
        ({"planned": [[150.0] * 6]}, "150.00", "33"),
        ({"stop": "why"}, "STOPPED: why", "1;31"),
    ],
)
def test_what_is_beyond_sensible_bounds_has_a_color(change: dict[str, Any], text: str, color: str) -> None:
    assert re.search(rf"\x1b\[{color}m *{re.escape(text)}", styled(snapshot(**change)))
    assert text not in styled(snapshot())


def test_a_bar_marks_what_was_sent_and_what_is_planned() -> None:
    bar = position_bar(0, -1, 1, 11, commanded=0.5, planned=(-0.5, 0.9))
    assert bar == "├──━━●━○━━┤"
    assert position_bar(math.nan, -1, 1, 11, commanded=0.3) == "├·····○···┤"
    assert position_bar(0, -1, 1, 11, planned=(-9, 9)) == "├━━━━●━━━━┤"
    for low, high in ((0, 0), (math.nan, 1), (-math.inf, math.inf), (1, -1)):
        assert len(position_bar(0, low, high, commanded=1, planned=(0, 1))) == BAR
