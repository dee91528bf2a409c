"""The run log: what is written is read back, a crash costs the torn last line, everything else damaged is refused."""

from __future__ import annotations

import dataclasses
import datetime
import errno
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smolpilot.common.errors import RunLogError, UsageError
from smolpilot.common.keys import STATE, image_key
from smolpilot.contracts.robot import Flag, SentAction, Stop, StopCategory
from smolpilot.contracts.run_log import FORMAT, ChunkStep, RunLog, RunLogHeader, RunLogWriter, Tick, read_run_log

from ..helpers_run_log import Fault, FaultKind, MadeUp, made_up_run_log


def written(path: Path, made: MadeUp) -> Path:
    with RunLogWriter(path, made.header) as log:
        for tick in made.ticks:
            log.write(tick)
    return path


def assert_same(found: Tick, tick: Tick) -> None:
    for name in ("requested", "commanded", "measured"):
        one, other = getattr(found.sent, name), getattr(tick.sent, name)
        if other is None:
            assert one is None
        else:
            assert one.dtype == np.float32
            np.testing.assert_array_equal(one, np.where(np.isfinite(other), other, np.float32(np.nan)))
    for name in ("number", "captured_at", "source", "chunk", "episode"):
        assert getattr(found, name) == getattr(tick, name)
    assert (found.sent.sent_at, found.sent.flags, found.sent.stop) == (
        tick.sent.sent_at,
        tick.sent.flags,
        tick.sent.stop,
    )


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return written(tmp_path / "run.jsonl", made_up_run_log(ticks=4))


def test_what_was_written_is_read(tmp_path: Path) -> None:
    made = made_up_run_log(ticks=45, n_action_steps=10)
    found = read_run_log(written(tmp_path / "log" / "run.jsonl", made))
    assert found.header == made.header
    assert not found.torn
    assert len(found.ticks) == 45
    for one, tick in zip(found.ticks, made.ticks, strict=True):
        assert_same(one, tick)
    assert found.commanded.shape == found.requested.shape == found.measured.shape == (45, 3)
    assert found.seams == [10, 20, 30, 40]
    assert found.skipped == []
    assert found.flag_counts() == {}
    np.testing.assert_array_equal(found.commanded, found.requested)
    # Smooth: no step is longer than the sines' fastest.
    assert np.abs(np.diff(found.commanded, axis=0)).max() <= 40 * 2 * np.pi * 0.2 / 30 + 1e-4


def test_the_lines_can_be_read_by_eye(log: Path) -> None:
    header, first, *_ = (json.loads(line) for line in log.read_text(encoding="utf-8").splitlines())
    assert header["format"] == FORMAT == "smolpilot-run-log/1"
    assert (header["joints"], header["units"]) == (["pan", "lift", "gripper"], ["deg"] * 3)
    assert header["started_at"] == "2026-11-29T12:00:00+00:00"
    assert first["ages"]["observation"] == pytest.approx(0.03, abs=0.002)
    assert first["ages"]["chunk"] == pytest.approx(0.1, abs=0.002)
    assert first["chunk"]["step"] == 0
    assert first["captured_at"].keys() == {STATE, image_key("front"), image_key("wrist")}


def reading(tmp_path: Path, *faults: Fault, **more: Any) -> RunLog:
    return read_run_log(written(tmp_path / "run.jsonl", made_up_run_log(faults=faults, **more)))


def test_a_seam_step_appears_at_the_seams(tmp_path: Path) -> None:
    found = reading(tmp_path, seam_step=5.0)
    steps = np.abs(np.diff(found.commanded, axis=0)).max(axis=1)
    assert (steps[[row - 1 for row in found.seams]] > 3).all()
    assert (np.delete(steps, [row - 1 for row in found.seams]) < 3).all()


def test_an_overrun_is_a_skipped_number_and_a_late_command(tmp_path: Path) -> None:
    found = reading(tmp_path, Fault("overrun", at=20))
    assert found.skipped == [21]
    late = found.sent_at - (found.header.started_monotonic + found.numbers / found.header.rate)
    assert found.numbers[late > 1 / found.header.rate].tolist() == [20]


def test_a_stale_camera_is_an_age_and_a_flag_that_names_it(tmp_path: Path) -> None:
    found = reading(tmp_path, Fault("stale_camera", at=20))
    ages = [tick.observation_age or 0.0 for tick in found.ticks]
    assert max(ages) > 0.4
    assert max(ages[:20]) < 0.05
    counts = found.flag_counts()
    assert counts.keys() == {Flag.STALE_IMAGE}
    assert counts[Flag.STALE_IMAGE]["front"] == counts[Flag.STALE_IMAGE]["wrist"] > 5


def test_a_clamped_velocity_is_a_flag_of_its_joint_and_another_command_than_request(tmp_path: Path) -> None:
    found = reading(tmp_path, Fault("clamped", at=25, joint=1))
    assert found.flag_counts() == {Flag.VELOCITY: {"lift": 1}}
    assert np.argwhere(found.commanded != found.requested).tolist() == [[25, 1]]


def test_starvation_holds_the_last_command(tmp_path: Path) -> None:
    found = reading(tmp_path, Fault("starved", at=30))
    held = [row for row, tick in enumerate(found.ticks) if tick.source == "hold"]
    assert held == [30, 31, 32]
    assert found.flag_counts() == {Flag.STARVED: {"": 3}}
    assert all(found.ticks[row].chunk is None and found.ticks[row].chunk_age is None for row in held)
    assert (found.commanded[held] == found.commanded[29]).all()
    assert 33 in found.seams


def test_nan_is_null_in_the_file_and_never_commanded(tmp_path: Path) -> None:
    found = reading(tmp_path, Fault("not_finite", at=10))
    assert np.isnan(found.requested[10]).all()
    assert (found.commanded[10] == found.commanded[9]).all()
    text = (tmp_path / "run.jsonl").read_text(encoding="utf-8")
    assert "NaN" not in text
    assert '"requested":[null,null,null]' in text


def test_a_stop_is_in_force_to_the_end(tmp_path: Path) -> None:
    found = reading(tmp_path, Fault("stopped", at=50))
    stops = [tick.sent.stop for tick in found.ticks]
    assert stops[:50] == [None] * 50
    assert set(stops[50:]) == {Stop(StopCategory.HOLD, "the operator pressed space")}
    assert (found.commanded[50:] == found.commanded[49]).all()


def test_a_request_of_another_length_is_kept_as_it_was(tmp_path: Path) -> None:
    made = made_up_run_log(ticks=2)
    odd = SentAction(
        np.array([1.0, 2.0], np.float32), made.ticks[1].sent.commanded, 2_000.0, None, {Flag.WRONG_LENGTH: ()}
    )
    found = read_run_log(
        written(tmp_path / "a", MadeUp(made.header, (made.ticks[0], dataclasses.replace(made.ticks[1], sent=odd))))
    )
    assert found.ticks[1].sent.requested.tolist() == [1.0, 2.0]
    assert np.isnan(found.requested[1]).all()
    assert np.isnan(found.measured[1]).all()


@pytest.mark.parametrize("kinds", [["overrun", "stale_camera", "clamped", "starved", "not_finite"]])
def test_faults_together(tmp_path: Path, kinds: list[FaultKind]) -> None:
    found = reading(tmp_path, *(Fault(kind, at=7 + 9 * place) for place, kind in enumerate(kinds)))
    assert found.flag_counts().keys() == {Flag.STALE_IMAGE, Flag.VELOCITY, Flag.STARVED, Flag.NOT_FINITE}
    assert found.skipped == [8]


# What a crash leaves


def test_cut_off_at_any_byte_a_log_gives_the_ticks_before(tmp_path: Path) -> None:
    made = made_up_run_log(
        ticks=2, joints=["pan"], cameras=["front"], header={"instruction": "Würfel 積み木", "facts": {}}
    )
    content = written(tmp_path / "whole", made).read_bytes()
    header = content.index(b"\n")
    path = tmp_path / "cut"
    for size in (*range(0, header, 9), *range(header, len(content))):
        path.write_bytes(content[:size])
        if size < header:
            with pytest.raises(RunLogError, match=r"holds no whole line|is empty"):
                read_run_log(path)
            continue
        found = read_run_log(path)
        whole = content[:size].count(b"\n")
        # All of a line but its end is the whole line.
        complete = whole - 1 + (content[size : size + 1] == b"\n") if size > header else 0
        assert len(found.ticks) == complete
        assert found.torn == (content[size - 1 : size] != b"\n" and content[size : size + 1] != b"\n")
        for one, tick in zip(found.ticks, made.ticks, strict=False):
            assert_same(one, tick)


def test_zeros_at_the_end_as_a_power_failure_leaves_them_are_a_torn_line(log: Path) -> None:
    log.write_bytes(log.read_bytes() + bytes(300))
    found = read_run_log(log)
    assert found.torn
    assert len(found.ticks) == 4


def test_a_killed_process_loses_no_more_than_its_last_second(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys\nfrom pathlib import Path\nsys.path.insert(0, sys.argv[1])\n"
        "from helpers_run_log import made_up_run_log\nfrom smolpilot.contracts.run_log import RunLogWriter\n"
        "made, now = made_up_run_log(ticks=95), [0.0]\n"
        "log = RunLogWriter(Path(sys.argv[2]), made.header, clock=lambda: now[0])\n"
        "for tick in made.ticks:\n"
        "    now[0] = tick.number / 30 + 1e-9\n"
        "    log.write(tick)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = tmp_path / "run.jsonl"
    done = subprocess.run([sys.executable, "-c", script, str(Path(__file__).parents[1]), str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(read_run_log(path).ticks) == 91  # of 95: those up to second 3


def test_what_a_full_disk_did_not_take_is_written_later(tmp_path: Path) -> None:
    made = made_up_run_log(ticks=6)
    log = RunLogWriter(tmp_path / "run.jsonl", made.header, flush_every=0)
    ordinary, room = log._file, [150]

    class Full:
        tell = ordinary.tell

        def write(self, content: bytearray) -> int:
            if not room[0]:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            taken = ordinary.write(bytes(content[: room[0]]))
            room[0] -= taken
            return taken

    log._file = Full()  # type: ignore[assignment]
    for tick in made.ticks[:3]:
        with pytest.raises(OSError, match="No space left"):
            log.write(tick)
    log._file = ordinary
    for tick in made.ticks[3:]:
        log.write(tick)
    log.close()
    log.close()
    found = read_run_log(tmp_path / "run.jsonl")
    assert [tick.number for tick in found.ticks] == list(range(6))


def test_what_was_written_when_ctrl_c_came_is_not_written_twice(tmp_path: Path) -> None:
    made = made_up_run_log(ticks=6)
    log = RunLogWriter(tmp_path / "run.jsonl", made.header)
    ordinary = log._file

    class Interrupted:
        tell = ordinary.tell

        def write(self, content: bytearray) -> int:
            ordinary.write(bytes(content[:700]))
            raise KeyboardInterrupt

    for tick in made.ticks[:3]:
        log.write(tick)
    log._file = Interrupted()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        log.flush()
    log._file = ordinary
    for tick in made.ticks[3:]:
        log.write(tick)
    log.close()
    assert [tick.number for tick in read_run_log(tmp_path / "run.jsonl").ticks] == list(range(6))


def test_nothing_is_overwritten(log: Path) -> None:
    content = log.read_bytes()
    with pytest.raises(UsageError, match="exists already"):
        RunLogWriter(log, made_up_run_log(ticks=1).header)
    assert log.read_bytes() == content


# What is refused


def changed(line: int, change: Callable[[dict[str, Any]], object]) -> Callable[[list[str]], None]:
    def change_line(lines: list[str]) -> None:
        values = json.loads(lines[line - 1])
        change(values)
        lines[line - 1] = json.dumps(values)

    return change_line


def put(line: int, key: str, value: Any) -> Callable[[list[str]], None]:
    return changed(line, lambda values: values.update({key: value}))


DAMAGE: dict[str, tuple[Callable[[list[str]], object], str]] = {
    "a torn line in the middle": (lambda lines: lines.__setitem__(2, lines[2][:40]), r"run\.jsonl:3: .*\nExpected: a"),
    "an empty line": (lambda lines: lines.insert(2, ""), r"run\.jsonl:3: "),
    "a newer format": (put(1, "format", "smolpilot-run-log/2"), r":1: the format is 'smolpilot-run-log/2'\.\nExpected: "
                       r"smolpilot-run-log/1\nFix: read it with a newer version"),
    "another file": (lambda lines: lines.__setitem__(0, '{"step": 1}'), r":1: this is no run log\."),
    "a header that is a list": (lambda lines: lines.__setitem__(0, "[]"), r":1: this is no run log\."),
    "no header": (lambda lines: lines.pop(0), r":1: this is no run log\."),
    "a missing key": (changed(3, lambda values: values.pop("sent_at")), r":3: the key 'sent_at' is missing"),
    "an unknown key": (put(3, "comanded", []), r":3: unknown key 'comanded'\.\nFix: Did you mean 'commanded'"),
    "an unknown key of a chunk": (changed(3, lambda v: v["chunk"].update(stop=1)), r":3: unknown key 'chunk\.stop'"),
    "a text for a number": (put(3, "sent_at", "1.5"), r":3: 'sent_at' is '1\.5'\.\nExpected: .*number"),
    "a truth for a number": (put(3, "commanded", [True, 1, 2]), r":3: 'commanded\.0' is True\."),
    "a tick of a half": (put(3, "tick", 1.5), r":3: 'tick' is 1\.5\."),
    "NaN": (put(3, "commanded", [math.nan, 1, 2]), r":3: 'commanded\.0' is nan\.\nExpected: .*finite"),
    "NaN in the facts": (put(1, "facts", {"a": [math.nan]}), r":1: facts hold NaN or infinity"),
    "null commanded": (put(3, "commanded", [None, 1, 2]), r":3: 'commanded\.0' is None"),
    "a command beyond float32": (put(3, "commanded", [1e39, 1, 2]), r":3: commanded is \[inf, 1\.0, 2\.0\]\.\nExp"),
    "a number of many digits": (put(3, "commanded", [10**400, 1, 2]), r":3: "),
    "a joint too few": (put(3, "commanded", [1, 2]), r":3: measured has 3 values, commanded 2"),
    "a joint too few everywhere": (changed(3, lambda v: v.update(commanded=[1], requested=[1], measured=None)),
                                   r":3: commanded has 1 values\.\nExpected: 3, one for each joint of the header"),
    "a request too short": (put(3, "requested", [1]), r":3: requested has 1 values, commanded 3\.\nExpected: the flag"),
    "a time that runs back": (changed(3, lambda v: v.update(sent_at=5, ages={k: 5 - (v["sent_at"] - a) for k, a in
                              v["ages"].items()})), r":3: sent_at is 5\.0, after 10\d\d\..*\nExpected: times of a"),
    "a tick twice": (lambda lines: lines.insert(2, lines[2]), r":4: tick 1 follows tick 1\.\nExpected: rising numbers"),
    "a negative tick": (put(2, "tick", -1), r":2: tick -1, episode 0"),
    "ages that are not those of the times": (put(3, "ages", {"observation": 9, "chunk": None}),
                                             r":3: ages\.observation is 9(\.0)?\.\nExpected: 0\.03"),
    "a camera that is none": (changed(3, lambda v: v["captured_at"].update({"observation.images.top": v["sent_at"]})),
                              r":3: captured_at names 'observation\.images\.top'\.\nExpected: one of observation\.ima"),
    "a joint that is none": (put(3, "flags", {"velocity": ["elbow"]}), r":3: flag velocity names 'elbow'"),
    "a flag that is no word": (put(3, "flags", {"Very Fast": []}), r":3: flag 'Very Fast'\.\nExpected: a word"),
    "a source that is none": (put(3, "source", "ghost"), r":3: source is 'ghost'\.\nExpected: one of policy, tele"),
    "a stop category that is none": (put(3, "stop", {"category": 3, "reason": ""}), r":3: 'stop\.category' is 3\."),
    "units too few": (put(1, "units", ["deg"]), r":1: 3 joints with 1 units"),
    "a joint twice": (put(1, "joints", ["a", "a", "b"]), r":1: 3 joints with 3 units\.\nExpected: each joint and"),
    "no joints": (changed(1, lambda v: v.update(joints=[], units=[])), r":1: 'joints' is \[\]"),
    "no rate": (put(1, "rate", 0), r":1: 'rate' is 0\."),
    "a time without a zone": (put(1, "started_at", "2026-11-29T12:00:00"), r":1: started_at is .*: it has no time"),
    "a time that is none": (put(1, "started_at", "noon"), r":1: started_at is 'noon': "),
    "deep brackets": (lambda lines: lines.__setitem__(2, '{"tick": ' + "[" * 200 + "]" * 200 + "}"), r":3: brackets"),
    "half a surrogate pair": (put(1, "instruction", "\ud800"), r":1: half of a surrogate pair"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_what_is_damaged_is_refused_with_file_and_line(log: Path, name: str) -> None:
    change, message = DAMAGE[name]
    lines = log.read_text(encoding="utf-8").splitlines()
    change(lines)
    log.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(RunLogError, match=message):
        read_run_log(log)


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe\n", b"\0" * 5, b"{"])
def test_a_file_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run.jsonl").write_bytes(content)
    with pytest.raises(RunLogError, match=r"is empty|holds no whole line|run\.jsonl:1: "):
        read_run_log(tmp_path / "run.jsonl")


ONE = np.ones(1, np.float32)
WRONG_TICKS: dict[str, tuple[dict[str, Any], str]] = {
    "the number again": ({"number": 1}, "tick 1 follows tick 1"),
    "an earlier episode": ({"episode": -1}, "episode -1"),
    "an unknown source": ({"source": "me"}, "source is 'me'"),
    "an unknown camera": ({"captured_at": {"observation.images.up": 1.0}}, r"captured_at names 'observation\.images"),
    "a time that is none": ({"captured_at": {STATE: math.nan}}, "captured_at of observation.state is nan"),
    "a chunk of no time": ({"chunk": ChunkStep(0, 0, math.inf)}, "step 0 of a chunk of inf"),
    "other joints": ({"sent": SentAction(ONE, ONE, 2_000.0)}, r"commanded has 1 values"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_TICKS)
def test_a_tick_that_could_not_be_read_back_is_not_written(tmp_path: Path, name: str) -> None:
    change, message = WRONG_TICKS[name]
    made = made_up_run_log(ticks=3)
    with RunLogWriter(tmp_path / "run.jsonl", made.header) as log:
        log.write(made.ticks[0])
        log.write(made.ticks[1])
        with pytest.raises(RunLogError, match=message):
            log.write(dataclasses.replace(made.ticks[2], **change))
        log.write(made.ticks[2])
    assert len(read_run_log(tmp_path / "run.jsonl").ticks) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"facts": {"limit": math.inf}}, "no plain JSON"),
        ({"facts": {"a": object()}}, "no plain JSON"),
        ({"instruction": "\udc80"}, "no plain JSON"),
        ({"units": ()}, "3 joints with 0 units"),
        ({"rate": math.nan}, "no plain JSON"),
        ({"rate": -1.0}, "'rate' is"),
        ({"started_at": datetime.datetime(2026, 1, 1)}, "no time zone"),
    ],
)
def test_a_header_that_could_not_be_read_back_is_not_written(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(RunLogError, match=message):
        RunLogWriter(tmp_path / "run.jsonl", made_up_run_log(ticks=1, header=change).header)
    assert not (tmp_path / "run.jsonl").exists()


# Whatever a robot may do

floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
times = st.floats(-1e9, 1e9)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@st.composite
def logs(draw: st.DrawFn) -> MadeUp:
    joints = draw(st.lists(texts.filter(bool), min_size=1, max_size=4, unique=True))
    cameras = draw(st.lists(texts.filter(lambda name: name and name not in joints), max_size=2, unique=True))
    size = len(joints)
    header = RunLogHeader(
        robot=draw(texts), joints=tuple(joints), units=tuple(draw(st.sampled_from(["deg", "m"])) for _ in joints),
        rate=draw(st.floats(1e-3, 1e4)), started_at=draw(st.datetimes(timezones=st.just(datetime.UTC))),
        started_monotonic=draw(times), policy=draw(st.none() | texts), instruction=draw(st.none() | texts),
        cameras=tuple(cameras), dry_run=draw(st.booleans()),
        facts=draw(st.dictionaries(texts, st.none() | st.booleans() | st.integers(-9, 9) | texts, max_size=2)),
    )  # fmt: skip
    vectors: Any = st.lists(floats, min_size=size, max_size=size)
    odd: Any = st.lists(st.floats(width=32), min_size=size, max_size=size)
    keys = [STATE, *map(image_key, cameras)]
    ticks: list[Tick] = []
    number, at, episode = draw(st.integers(0, 5)), draw(times), 0
    for _ in range(draw(st.integers(0, 4))):
        flags = draw(st.dictionaries(st.sampled_from(Flag), st.lists(st.sampled_from([*joints, *cameras]), max_size=2)))
        stop = draw(st.none() | st.builds(Stop, st.sampled_from(StopCategory), texts))
        sent = SentAction(
            draw(odd), draw(vectors), at, draw(st.none() | odd), {f: tuple(n) for f, n in flags.items()}, stop
        )
        captured = {key: draw(times) for key in draw(st.lists(st.sampled_from(keys), unique=True))}
        chunk = draw(st.none() | st.builds(ChunkStep, st.integers(-9, 2**62), st.integers(0, 2**62), times))
        source = draw(st.sampled_from(["policy", "hold", "teleoperator"]))
        ticks.append(Tick(number, sent, captured, source, chunk, episode))
        number += draw(st.integers(1, 3))
        at += draw(st.floats(0, 1))
        episode += draw(st.integers(0, 1))
    return MadeUp(header, tuple(ticks))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(made=logs(), cut=st.none() | st.integers(1, 10**6))
def test_any_log_comes_back_and_any_torn_one_up_to_where_it_was_torn(
    tmp_path_factory: pytest.TempPathFactory, made: MadeUp, cut: int | None
) -> None:
    path = written(tmp_path_factory.mktemp("logs") / "run.jsonl", made)
    content = path.read_bytes()
    found = read_run_log(path)
    assert found.header == made.header
    assert len(found.ticks) == len(made.ticks)
    for one, tick in zip(found.ticks, made.ticks, strict=True):
        assert_same(one, tick)
    if cut is not None:
        body = len(content) - content.index(b"\n") - 1
        size = len(content) - cut % (body + 1)
        path.write_bytes(content[:size])
        torn = read_run_log(path)
        assert len(torn.ticks) in (content[:size].count(b"\n") - 1, content[:size].count(b"\n"))
        for one, tick in zip(torn.ticks, made.ticks, strict=False):
            assert_same(one, tick)
