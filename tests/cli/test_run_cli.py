"""`smolpilot run` as a user runs it, on an arm of an emulated bus, with policies of a stranger: what it leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from smolpilot.cli.main import main
from smolpilot.common.keys import image_key
from smolpilot.contracts.run_folder import LOG, read_episodes, read_facts
from smolpilot.contracts.run_log import read_run_log
from smolpilot.datasets import open_dataset

from ..runtime.cameras.helpers_video import number_of, write_video
from ..runtime.helpers_setups import living_arm
from ..runtime.safety.helpers_rig import JOINTS, PAN, Rig
from .helpers_robot_run import (
    DEADLINE,
    Run,
    arm_setup,
    check_holds,
    check_refused,
    install_odd,
    running,
    shared_folders,
)

GO = ["--robot", "arm.yaml", "--go", "--unattended"]


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_odd(tmp_path_factory.mktemp("odd"))


@pytest.fixture(scope="module")
def still() -> Iterator[Rig]:
    """An arm that is never moved: for all that is refused."""
    with living_arm() as made:
        yield made


@pytest.fixture
def rig() -> Iterator[Rig]:
    with living_arm() as made:
        yield made


def front(folder: Path, **options: Any) -> dict[str, Any]:
    """A camera that plays a video whose frames tell their number, 10 a second."""
    video = write_video(folder / "front.mp4", 25)
    return {"front": {"type": "file", "device": str(video), "width": 64, "height": 48, "fps": 10} | options}


# what it leaves


def test_a_run_leaves_its_log_dataset_and_report(
    rig: Rig, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    arm_setup(rig, tmp_path, cameras=front(tmp_path), governor={"max_image_age": 30.0, "max_state_age": 10.0,
              "max_starved": 10.0, "max_chunk_age": 30.0, "max_action_age": 10.0})  # fmt: skip
    words = ["odd:looks", *GO, "--seconds", "1", "--episodes", "2", "--instruction", "wave", "--speed", "0.9"]
    with running(rig, site, tmp_path, *words) as run:
        run.until_said("running: ")
        run.look()
        assert run.ended() == 0, run.said
        assert run.left_behind() == []
        assert {*run.known} >= {"control", "policy", "camera"}
        assert shared_folders(run) == []
    out = run.out
    assert {path.name for path in out.iterdir()} >= {
        "run.json", LOG, "episodes.jsonl", "setup.yaml", "robot.yaml", "dataset", "report.html", "policy.log",
    }  # fmt: skip
    facts, ends, log = read_facts(out), read_episodes(out), read_run_log(out / LOG)
    assert (facts.policy, facts.setup, facts.ended, facts.speed) == ("odd:looks", "arm", "all episodes were run", 0.9)
    assert [(one.episode, one.ended, one.instruction) for one in ends] == [(0, "time", "wave"), (1, "time", "wave")]
    assert yaml.safe_load((out / "setup.yaml").read_text())["profile"]
    assert "wave" in (out / "report.html").read_text(encoding="utf-8")
    _dataset_is_the_log(out, log, [tick for end in ends for tick in _played(log, end)])
    assert np.abs(rig.goals()[:, PAN]).max() > 3.0, "it moved"
    before = (out / LOG).read_bytes()
    monkeypatch.chdir(tmp_path)
    capfd.readouterr()
    assert main(["run", *words, "--out", "run"]) == 2
    assert "run exists already." in capfd.readouterr().err
    assert (out / LOG).read_bytes() == before


def _played(log: Any, end: Any) -> list[Any]:
    """The ticks of an episode from its first chunk on; its rate is the policy's."""
    ticks = [tick for tick in log.ticks if end.first_tick <= tick.number <= end.last_tick]
    return ticks[next(i for i, tick in enumerate(ticks) if tick.chunk is not None) :]


def _dataset_is_the_log(out: Path, log: Any, ticks: list[Any]) -> None:
    """Each frame is a tick of the log, with the image that was the newest one then."""
    dataset = open_dataset(out / "dataset")
    assert len(dataset) == len(ticks)
    assert dataset.meta.fps == log.header.rate
    np.testing.assert_array_equal(dataset.actions, [tick.sent.commanded for tick in ticks])
    np.testing.assert_array_equal(dataset.states, [tick.sent.measured for tick in ticks])
    assert {dataset.instruction(i) for i in range(len(dataset))} == {"wave"}
    shown = np.array([number_of(np.asarray(dataset.image(i, "front"))) for i in range(len(dataset))])
    at = np.array([tick.captured_at[image_key("front")] for tick in ticks])
    # 10 images a second, each one brighter than the one before, from the first on: the time tells the number.
    expected = np.round((at - at[0]) * 10).astype(int)
    np.testing.assert_array_equal((shown - shown[0]) % 25, expected % 25)
    assert len(set(shown.tolist())) > 5


def test_a_dry_run_sends_nothing(rig: Rig, site: Path, tmp_path: Path) -> None:
    arm_setup(rig, tmp_path, start_pose={"shoulder_pan": 30.0})
    with running(rig, site, tmp_path, "hold-state", "--robot", "arm.yaml", "--seconds", "0.7") as run:
        assert run.ended() == 0, run.said
    assert "It was a dry run: nothing was sent, and torque is as it was." in run.said
    assert not rig.goal_writes()
    assert not any(rig.bus.servos[name].torque for name in JOINTS)
    assert read_facts(run.out).dry_run
    assert len(read_run_log(run.out / LOG).ticks) > 5
    assert not (run.out / "dataset").exists()
    assert (run.out / "report.html").is_file()


@pytest.mark.nightly
def test_a_shipped_emulated_arm_needs_no_hardware(site: Path, tmp_path: Path, rig: Rig) -> None:
    with running(rig, site, tmp_path, "hold-state", "--robot", "so101-emulated", "--go", "--unattended", "--seconds",
                 "0.5", "--start-pose", "here", "--rate", "60") as run:  # fmt: skip
        assert run.ended() == 0, run.said
    facts = read_facts(run.out)
    assert (facts.rate, facts.policy_rate, facts.ended) == (60.0, 30.0, "parked")
    assert open_dataset(run.out / "dataset").meta.fps == 30.0


# what is refused before anything is opened


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--go"], ["--go without a terminal", "a terminal, or --unattended"]),
        ([], ["No terminal, and no --seconds: nobody would end the episode."]),
        (["--go", "--unattended"], ["--unattended without --seconds"]),
        ([*GO[2:], "--seconds", "1", "--hold-to-run", "a"], ["--hold-to-run needs a terminal"]),
        ([*GO[2:], "--seconds", "0"], ["--seconds is 0.0", "a number above 0"]),
        ([*GO[2:], "--seconds", "1", "--episodes", "0"], ["--episodes is 0", "at least 1"]),
        ([*GO[2:], "--seconds", "1", "--speed", "0"], ["--speed is 0.0", "a number above 0"]),
        ([*GO[2:], "--seconds", "1", "--speed", "1.5"], ["--speed is 1.5", "at most 1"]),
        ([*GO[2:], "--seconds", "1", "--rate", "nan"], ["--rate is nan", "a finite number"]),
        ([*GO[2:], "--seconds", "1", "--schedule", "soon"], ["--schedule is 'soon'", "one of sync, async, rtc"]),
        ([*GO[2:], "--seconds", "1", "--merge", "blended"], ["--merge blended is of --schedule async"]),
        ([*GO[2:], "--seconds", "1", "--refill", "1"], ["--refill is of --schedule async and rtc"]),
        ([*GO[2:], "--seconds", "1", "--sped", "1"], ["has no option --sped", "--speed"]),
        ([*GO[2:], "--seconds", "1", "--robot", "so101"], ["'so101' is a robot profile", "not a robot setup"]),
        ([*GO[2:], "--seconds", "1", "--robot", "none.yaml"], ["none.yaml does not exist"]),
        ([*GO[2:], "--seconds", "1", "--out", "."], ["exists already"]),
    ],
)
def test_what_is_refused_at_once_exits_2(
    words: list[str], parts: list[str], still: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    arm_setup(still, tmp_path)
    asked = len(still.bus.log)
    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        robot = [] if "--robot" in words else ["--robot", "arm.yaml"]
        assert main(["run", "hold-state", *robot, *words]) == 2
    err = capfd.readouterr().err
    assert all(part in err for part in parts), err
    assert err.count("error: ") == 1
    assert "Traceback" not in err
    assert len(still.bus.log) == asked, "the arm was not even asked"
    assert not (tmp_path / "runs").exists()


# policies that do not fit


SLOW = pytest.mark.nightly
MISFITS = {
    "odd:other-units": (1, "'shoulder_pan' is commanded in the unit 'normalized'", "Nothing was moved."),
    "odd:wrong-shape": (1, "The policy gave a chunk of shape [30, 5].", "[30, 6]"),
}
MORE_MISFITS = {
    "odd:blind": (1, "camera top", "the setup has none", "--camera-map NAME=SLOT", "Nothing was moved."),
    "odd:two-tasks": (2, "trained with 2 instructions", '--instruction "lift the cube"'),
    "odd:other-robot": (1, "Robot 'so101' has no joint 'left_waist'", "Nothing was moved."),
    "odd:two-steps": (1, "the policy reads 2 observations at once", "Nothing was moved."),
    "odd:exits-on-opening": (1, "The policy process ended with exit code 7."),
    "odd:fails-to-open": (1, "The policy 'odd' cannot be opened: ZeroDivisionError: in the loader"),
    "hold-stat": (2, "Did you mean 'hold-state'?"),
    "runs/nothing/here": (2, "There is no checkpoint at runs/nothing/here"),
}


@pytest.mark.parametrize("policy", [*MISFITS, *(pytest.param(name, marks=SLOW) for name in MORE_MISFITS)])
def test_a_policy_that_does_not_fit_is_refused_before_torque_is_on(
    policy: str, still: Rig, site: Path, tmp_path: Path
) -> None:
    arm_setup(still, tmp_path)
    code, *parts = (MISFITS | MORE_MISFITS)[policy]
    with running(still, site, tmp_path, policy, *GO, "--seconds", "5") as run:
        check_refused(run, int(code), *map(str, parts))


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("words", "code", "parts"),
    [
        (["--rate", "10"], 2, ["The control rate is 10 Hz.", "at least the policy's 30 Hz"]),
        (["--n-action-steps", "31"], 2, ["n_action_steps is 31.", "at most 30"]),
        (["--schedule", "rtc"], 1, ["this policy cannot go on from a chunk (rtc)"]),
        (["--num-steps", "3"], 2, ["--num-steps is given, but an odd policy has no such option"]),
        (["--start-pose", "demonstrations"], 2, ["does not say where its demonstrations began"]),
        (["--start-pose", "setup"], 2, ["The setup 'arm' has no start pose."]),
    ],
)
def test_options_that_do_not_fit_the_policy_are_refused_before_torque_is_on(
    words: list[str], code: int, parts: list[str], still: Rig, site: Path, tmp_path: Path
) -> None:
    arm_setup(still, tmp_path)
    with running(still, site, tmp_path, "odd:swing", *GO, "--seconds", "5", *words) as run:
        check_refused(run, code, *parts)


# a terminal


def test_a_person_at_a_terminal_goes_through_a_whole_run(rig: Rig, site: Path, tmp_path: Path) -> None:
    """Enter to the start and into the episode, space, Enter, s; again, f; q parks."""
    arm_setup(rig, tmp_path, start_pose={"shoulder_pan": -3.0})
    words = ["odd:swing", "--robot", "arm.yaml", "--go", "--episodes", "3"]
    with running(rig, site, tmp_path, *words, on_terminal=True) as run:
        for keys, then in (
            ("\n", "AT START"), ("\n", "RUNNING"), (" ", "STOPPED"), ("\n", "READY"), ("s", None),
            ("\n", "AT START"), ("\n", "RUNNING"), ("f", "READY"), ("q", "PARKING"),
        ):  # fmt: skip
            if run.said.count("READY") == 0:
                run.until_said("READY")
            before = len(run.said)
            if keys == "f" or keys == " ":
                run.until(lambda: _episode_moves(run), "motion")
            run.press(keys)
            if then is not None:
                run.until(lambda start=before, then=then: then in run.said[start:], then)  # type: ignore[misc]
            _pause(run, 0.9 if keys == "\n" else 0.1)  # the same key is one press for a while
        assert run.ended() == 0, run.said
    ends = read_episodes(run.out)
    assert [(one.ended, one.mark) for one in ends] == [("stop", "success"), ("mark", "failure")]
    assert ends[0].stop == "A person stopped it."
    assert read_facts(run.out).ended == "parked"
    assert rig.goals()[-1][PAN] == pytest.approx(-3.0, abs=0.2)
    assert (run.out / "report.html").is_file()


def _pause(run: Run, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and run.process.poll() is None:
        _ = run.said
        time.sleep(0.02)


def _episode_moves(run: Run) -> bool:
    goals = run.rig.goals()[-30:, PAN]
    return bool(len(goals) > 5 and np.ptp(goals) > 1.0)


def test_a_terminal_that_is_closed_stops_and_holds(rig: Rig, site: Path, tmp_path: Path) -> None:
    arm_setup(rig, tmp_path)
    with running(rig, site, tmp_path, "odd:swing", "--robot", "arm.yaml", "--go", on_terminal=True) as run:
        run.until_said("READY")
        _pause(run, 0.3)
        run.press("\n")
        run.until_moving()
        run.close_terminal()
        assert run.ended() == 1
        check_holds(run)
    assert read_facts(run.out).ended == "The terminal was closed."
    assert len(open_dataset(run.out / "dataset")) > 0
    assert (run.out / "report.html").is_file(), "nobody reads what is said, and it goes on"


@pytest.mark.nightly
def test_closed_streams_end_no_run(rig: Rig, site: Path, tmp_path: Path) -> None:
    arm_setup(rig, tmp_path)
    env = {**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    words = " ".join(["odd:swing", *GO, "--seconds", "1", "--out", "run"])
    shell = f'exec "{sys.executable}" -m smolpilot run {words} <&- >&- 2>&-'
    done = subprocess.run(["sh", "-c", shell], cwd=tmp_path, env=env, timeout=DEADLINE)
    assert done.returncode == 0
    assert json.loads((tmp_path / "run" / "run.json").read_text())["ended"] == "all episodes were run"
    assert len(open_dataset(tmp_path / "run" / "dataset")) > 5
