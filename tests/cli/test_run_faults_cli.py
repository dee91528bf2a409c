"""`smolpilot run` while it moves an arm: its processes killed, signals, cable, camera, disk, the policy's faults.

In all of them the arm holds its last goal, the message names what happened, and no process and no folder is left.
"""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from smolpilot.contracts.run_folder import LOG, read_episodes, read_facts
from smolpilot.contracts.run_log import read_run_log
from smolpilot.datasets import open_dataset

from ..runtime.cameras.helpers_video import write_video
from ..runtime.helpers_setups import living_arm
from ..runtime.safety.helpers_rig import JOINTS, PAN, TICK, Rig
from .helpers_robot_run import DEADLINE, Run, arm_setup, check_holds, install_odd, running, shared_folders

GO = ("--robot", "arm.yaml", "--go", "--unattended", "--seconds", "300")


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_odd(tmp_path_factory.mktemp("odd"))


@pytest.fixture
def rig() -> Iterator[Rig]:
    with living_arm() as made:
        yield made


def seen(folder: Path, **options: Any) -> dict[str, Any]:
    """Parts of a setup with a camera, which may be slow on a busy machine."""
    video = write_video(folder / "front.mp4")
    camera = {"type": "file", "device": str(video), "width": 64, "height": 48, "fps": 10} | options
    ages = {"max_state_age": 10.0, "max_action_age": 10.0, "max_starved": 10.0, "max_chunk_age": 20.0}
    return {"cameras": {"front": camera}, "governor": {**ages, "max_image_age": 1.0 if options else 20.0}}


def check_ended(run: Run, *words: str, code: int = 1) -> None:
    """It ended so, the words were said, and the arm is held."""
    assert run.ended() == code, run.said
    assert all(word in run.said for word in words), run.said
    check_holds(run)


def check_within_limits(rig: Rig) -> None:
    """No step was faster than the first joint may be (20 % of its range per second), with two ticks in one."""
    assert np.abs(np.diff(rig.goals()[:, PAN])).max() <= 44.0 * 2 * TICK + 0.2


# processes that are killed


def test_a_killed_control_process_is_named_and_leaves_neither_a_hung_policy_nor_a_folder(
    rig: Rig, site: Path, tmp_path: Path
) -> None:
    arm_setup(rig, tmp_path, **seen(tmp_path))
    with running(rig, site, tmp_path, "odd:hangs", *GO) as run:
        run.until_moving()
        assert {*run.known} == {"parent", "control", "policy", "camera"}
        assert shared_folders(run) != []
        run.until(lambda: rig.goals()[-1][PAN] > 9.0, "the policy to hang")
        run.known["control"].kill()
        check_ended(
            run, "error: the control process was killed by SIGKILL", "The servos hold their last goal, with torque on."
        )
    assert read_facts(run.out).ended is None
    assert (run.out / "report.html").is_file()


@pytest.mark.nightly
def test_a_killed_policy_process_is_named(rig: Rig, site: Path, tmp_path: Path) -> None:
    arm_setup(rig, tmp_path)
    with running(rig, site, tmp_path, "odd:swing", *GO) as run:
        run.until_moving()
        run.known["policy"].kill()
        check_ended(run, "Ended: The policy process was killed by SIGKILL", "Torque is on, the servos hold this pose.")
    (end,) = read_episodes(run.out)
    assert end.ended == "stop"
    assert "SIGKILL" in str(end.stop)
    check_within_limits(rig)
    dataset, log = open_dataset(run.out / "dataset"), read_run_log(run.out / LOG)
    played = [tick for tick in log.ticks if end.last_tick is not None and tick.number <= end.last_tick]
    first = next(i for i, tick in enumerate(played) if tick.chunk is not None)
    np.testing.assert_array_equal(dataset.actions, [tick.sent.commanded for tick in played[first:]])


@pytest.mark.nightly
def test_a_killed_camera_process_is_named(rig: Rig, site: Path, tmp_path: Path) -> None:
    arm_setup(rig, tmp_path, **seen(tmp_path))
    with running(rig, site, tmp_path, "odd:looks", *GO) as run:
        run.until_moving()
        run.known["camera"].kill()
        check_ended(run, "Ended: Camera 'front' has failed: The cameras' process was killed by SIGKILL.")
    check_within_limits(rig)


@pytest.mark.nightly
def test_who_kills_the_parent_stops_the_arm(rig: Rig, site: Path, tmp_path: Path) -> None:
    arm_setup(rig, tmp_path)
    with running(rig, site, tmp_path, "odd:swing", *GO) as run:
        run.until_moving()
        run.process.kill()
        run.known["control"].wait(DEADLINE)
        check_ended(run, "Ended: The process was asked to end (SIGTERM).", code=-signal.SIGKILL)
    check_within_limits(rig)


# signals


def test_ctrl_c_stops_holds_and_ends(rig: Rig, site: Path, tmp_path: Path) -> None:
    arm_setup(rig, tmp_path)
    with running(rig, site, tmp_path, "odd:swing", *GO) as run:
        run.until_moving()
        os.killpg(run.process.pid, signal.SIGINT)  # as a terminal sends it: to both processes
        check_ended(run, "Ended: Ctrl-C was pressed. Torque is on, the servos hold this pose.")
    assert read_facts(run.out).ended == "Ctrl-C was pressed."
    assert [one.ended for one in read_episodes(run.out)] == ["stop"]
    check_within_limits(rig)


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("number", "words"),
    [(signal.SIGTERM, "The process was asked to end (SIGTERM)."), (signal.SIGTSTP, "Ctrl-Z was pressed."),
     (signal.SIGHUP, "The terminal was closed.")],
)  # fmt: skip
def test_other_signals_stop_hold_and_end(
    rig: Rig, site: Path, tmp_path: Path, number: signal.Signals, words: str
) -> None:
    arm_setup(rig, tmp_path)
    with running(rig, site, tmp_path, "odd:swing", *GO) as run:
        run.until_moving()
        if number == signal.SIGTERM:
            run.process.terminate()
        else:
            os.killpg(run.process.pid, number)
        check_ended(run, f"Ended: {words} Torque is on")
    check_within_limits(rig)


@pytest.mark.nightly
def test_a_second_ctrl_c_ends_at_once(rig: Rig, site: Path, tmp_path: Path) -> None:
    arm_setup(rig, tmp_path)
    with running(rig, site, tmp_path, "odd:swing", *GO) as run:
        run.until_moving()
        control = run.known["control"]
        control.send_signal(signal.SIGINT)
        control.suspend()  # so that the first one cannot have been dealt with to the end
        control.send_signal(signal.SIGINT)
        control.resume()
        code = run.ended()
        if code != 1:  # it had not come to rest yet
            assert code == 130
            assert "Ended at once. Torque is left as it is" in run.said
        check_holds(run)


def test_ctrl_c_while_the_policy_is_opened_ends_without_waiting_for_it(rig: Rig, site: Path, tmp_path: Path) -> None:
    arm_setup(rig, tmp_path)
    with running(rig, site, tmp_path, "odd:slow-open", *GO) as run:
        run.until(lambda: "policy" in run.look(), "the policy's process")
        run.until_said("opening odd:slow-open")
        os.killpg(run.process.pid, signal.SIGINT)
        assert run.ended() == 1
        assert "error: Ctrl-C was pressed. Nothing was moved, and torque is as it was." in run.said
        assert run.left_behind() == []
        assert shared_folders(run) == []
    assert not rig.goal_writes()
    assert not any(rig.bus.servos[name].torque for name in JOINTS)


# devices


@pytest.mark.nightly
def test_a_pulled_cable_is_named(rig: Rig, site: Path, tmp_path: Path) -> None:
    arm_setup(rig, tmp_path)
    with running(rig, site, tmp_path, "odd:swing", *GO) as run:
        run.until_moving()
        rig.bus.unplug()
        assert run.ended() == 1
        assert "Ended: the arm is gone; its servos hold their last goal while they have power." in run.said
        assert "Traceback" not in run.said
        assert run.left_behind() == []
    assert "is gone" in str(read_episodes(run.out)[0].stop)


@pytest.mark.nightly
def test_a_frozen_camera_is_named(rig: Rig, site: Path, tmp_path: Path) -> None:
    arm_setup(rig, tmp_path, **seen(tmp_path, freeze_after=8.0))
    with running(rig, site, tmp_path, "odd:looks", *GO) as run:
        check_ended(run, "Ended: The newest image of camera 'front' is", "1 s are allowed")
    check_within_limits(rig)


@pytest.mark.nightly
def test_a_full_disk_is_named(rig: Rig, site: Path, tmp_path: Path) -> None:
    """Of the control process: no file may grow any more."""
    arm_setup(rig, tmp_path)
    with running(rig, site, tmp_path, "odd:swing", *GO) as run:
        run.until_moving()
        most = (run.out / LOG).stat().st_size + 3_000
        run.known["control"].rlimit(psutil.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
        check_ended(run, "Ended: The run log cannot be written: File too large.")
    check_within_limits(rig)


# what a policy does


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ("odd:nan", "The policy failed 3 times in a row: The policy's chunk is not finite (step 3, value 2)."),
        ("odd:raises", "The policy 'odd' fails in predict: RuntimeError: somebody's code"),
        ("odd:exits", "The policy process ended with exit code 5."),
        ("odd:allocates", "Unable to allocate"),
        ("odd:hangs", "The policy has not answered for 5"),
    ],
)  # fmt: skip
def test_a_policy_that_fails_in_an_episode_stops_the_arm(
    rig: Rig, site: Path, tmp_path: Path, policy: str, words: str
) -> None:
    arm_setup(rig, tmp_path)
    with running(rig, site, tmp_path, policy, *GO) as run:
        run.until_moving()
        check_ended(run, "Ended: ", words)
    check_within_limits(rig)
    (end,) = read_episodes(run.out)
    assert end.ended == "stop"


@pytest.mark.nightly
def test_a_policy_that_sleeps_is_waited_for(rig: Rig, site: Path, tmp_path: Path) -> None:
    arm_setup(rig, tmp_path)
    with running(rig, site, tmp_path, "odd:sleeps", *GO[:-1], "5") as run:
        check_ended(run, "Ended: all episodes were run.", code=0)
    check_within_limits(rig)
    (end,) = read_episodes(run.out)
    assert end.waited > 10
    assert end.starved == 0
