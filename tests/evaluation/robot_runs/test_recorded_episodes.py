"""The dataset of a robot run: made-up run folders, with all that may be missing in them."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from smolpilot.common.errors import DatasetError, RunLogError
from smolpilot.common.keys import image_key
from smolpilot.contracts.run_folder import EPISODES, FRAMES, LOG, ROBOT, EpisodeEnd, frame_file
from smolpilot.contracts.run_log import Tick
from smolpilot.datasets import open_dataset
from smolpilot.evaluation.robot_runs.recorded_episodes import Recorded, write_run_dataset
from smolpilot.robots import RobotProfile

from .helpers_robot_runs import ARM, START, end, facts, header, ticks, write_run

PROFILE = RobotProfile.load("so101")
RATE = 30.0
HEIGHT, WIDTH = 48, 64


def path_of(count: int) -> npt.NDArray[np.float32]:
    """Commands [T, 6] of which each row and joint is another."""
    return np.arange(count, dtype=np.float32)[:, None] + 100 * np.arange(6, dtype=np.float32)


def camera(folder: Path, times: Sequence[float], name: str = "front") -> None:
    """Images that were captured then, seconds since START; number n is n + 1 times 10 bright."""
    for number, at in enumerate(times):
        path = frame_file(folder / FRAMES, name, START + at)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (WIDTH, HEIGHT), (10 * (number + 1),) * 3).save(path, quality=95)


def seen(made: Sequence[Tick], age: float = 0.0, name: str = "front") -> list[Tick]:
    """The same ticks, in which an image of that age was the newest one that had come."""
    return [
        dataclasses.replace(one, captured_at={**one.captured_at, image_key(name): one.sent.sent_at - age})
        for one in made
    ]


def run(
    folder: Path,
    made: Sequence[Tick],
    ends: Sequence[EpisodeEnd],
    *,
    rate: float = RATE,
    cameras: tuple[str, ...] = (),
    **said: Any,
) -> Recorded:
    """Write the folder of a run, and its dataset."""
    values = {"profile": "so101", "policy_rate": RATE} | said
    write_run(folder, made, ends, facts(rate=rate, joints=ARM, cameras=cameras, **values),
              header(ARM, rate=rate, cameras=cameras))  # fmt: skip
    (folder / ROBOT).write_text(PROFILE.to_yaml(), encoding="utf-8")
    return write_run_dataset(folder)


def test_each_step_of_the_policy_is_a_frame_with_what_was_measured_and_commanded(tmp_path: Path) -> None:
    commanded, measured = path_of(20), path_of(20) - 0.5
    made = run(tmp_path, ticks(commanded, rate=RATE, measured=measured), [end(first_tick=0, last_tick=19)])
    assert (made.path, made.episodes, made.frames, made.notes) == (tmp_path / "dataset", 1, 20, ())
    dataset = open_dataset(tmp_path / "dataset")
    np.testing.assert_array_equal(dataset.actions, commanded)
    np.testing.assert_array_equal(dataset.states, measured)
    assert dataset.meta.fps == RATE
    assert dataset.instruction(0) == "wave"


@pytest.mark.parametrize(
    ("rate", "kept"), [(90.0, [0, 3, 6, 9, 12, 15, 18, 21]), (50.0, [0, 2, 4, 5, 7, 9, 10, 12, 14, 15, 17, 19, 20, 22])]
)
def test_a_control_rate_above_the_policys_keeps_the_ticks_that_were_due(
    tmp_path: Path, rate: float, kept: list[int]
) -> None:
    made = run(tmp_path, ticks(path_of(24), rate=rate), [end(first_tick=0, last_tick=23)], rate=rate)
    assert made.frames == len(kept)
    assert open_dataset(tmp_path / "dataset").actions[:, 0].tolist() == kept


def test_what_came_before_the_first_chunk_is_left_out_and_waiting_for_the_next_is_not(tmp_path: Path) -> None:
    chunks = [None, None, None, *[1] * 5, None, None, *[2] * 5]
    run(tmp_path, ticks(path_of(15), rate=RATE, chunks=chunks), [end(first_tick=0, last_tick=14)])
    assert open_dataset(tmp_path / "dataset").actions[:, 0].tolist() == list(range(3, 15))


def test_ticks_that_were_missed_are_no_frames_and_the_others_keep_their_time(tmp_path: Path) -> None:
    """A pause of a third of a second: what follows is not taken for slower than it was."""
    made = run(tmp_path, ticks(path_of(60), rate=90.0, skip=range(4, 33)), [end(first_tick=0, last_tick=59)], rate=90.0)
    assert made.notes == ("Episode 0: 9 steps have no frame: the control loop came too late.",)
    assert open_dataset(tmp_path / "dataset").actions[:, 0].tolist() == [0, 3, *range(33, 60, 3)]


# images


def test_each_frame_has_the_image_that_was_the_newest_one_then(tmp_path: Path) -> None:
    times = [-0.05, 0.0, 0.1, 0.2, 0.3]
    camera(tmp_path, times, "left wrist")
    made = run(
        tmp_path, seen(ticks(path_of(10), rate=RATE), age=0.02, name="left wrist"), [end(first_tick=0, last_tick=9)],
        cameras=("left wrist",),
    )  # fmt: skip
    assert (made.frames, made.notes) == (10, ())
    dataset = open_dataset(tmp_path / "dataset")
    found = [round(float(np.asarray(dataset.image(i, "left wrist")).mean()) / 10) for i in range(10)]
    assert found == [max(n for n, at in enumerate(times, 1) if at <= tick / RATE - 0.02 + 1e-6) for tick in range(10)]
    assert found == [1, 2, 2, 2, 3, 3, 3, 4, 4, 4]
    assert not (tmp_path / FRAMES).exists(), "they are in the dataset now"


def test_frames_without_an_image_are_left_out_and_told(tmp_path: Path) -> None:
    camera(tmp_path, [0.1, 0.2])
    made = seen(ticks(path_of(10), rate=RATE))
    made[8] = dataclasses.replace(made[8], captured_at={"observation.state": made[8].sent.sent_at})
    found = run(tmp_path, made, [end(first_tick=0, last_tick=9)], cameras=("front",))
    assert found.notes == ("Episode 0: 4 steps are left out: an image or a joint was missing.",)
    assert open_dataset(tmp_path / "dataset").actions[:, 0].tolist() == [3, 4, 5, 6, 7, 9]
    assert found.frames == 6


def test_an_image_that_cannot_be_read_is_one_that_is_missing(tmp_path: Path) -> None:
    camera(tmp_path, [0.0, 0.1])
    torn = frame_file(tmp_path / FRAMES, "front", START + 0.2)
    torn.write_bytes(frame_file(tmp_path / FRAMES, "front", START).read_bytes()[:200])
    found = run(tmp_path, seen(ticks(path_of(8), rate=RATE)), [end(first_tick=0, last_tick=7)], cameras=("front",))
    assert found.notes == ("Episode 0: 2 steps are left out: an image or a joint was missing.",)
    assert len(open_dataset(tmp_path / "dataset")) == 6


@pytest.mark.parametrize("torn", [False, True])
def test_without_any_image_there_is_no_dataset(tmp_path: Path, torn: bool) -> None:
    if torn:
        path = frame_file(tmp_path / FRAMES, "front", START)
        path.parent.mkdir(parents=True)
        path.touch()
    found = run(tmp_path, seen(ticks(path_of(8), rate=RATE)), [end(first_tick=0, last_tick=7)], cameras=("front",))
    told = "can be read" if torn else "was kept"
    assert (found.path, found.notes) == (None, (f"No dataset: no image of camera 'front' {told}.",))
    assert not (tmp_path / "dataset").exists()


# joints, episodes


def test_frames_without_a_reading_or_with_a_joint_that_is_not_known_are_left_out(tmp_path: Path) -> None:
    measured = path_of(8)
    measured[5, 2] = np.nan
    made = ticks(path_of(8), rate=RATE, measured=measured)
    made[2] = dataclasses.replace(made[2], sent=dataclasses.replace(made[2].sent, measured=None))
    found = run(tmp_path, made, [end(first_tick=0, last_tick=7)])
    assert found.notes == ("Episode 0: 2 steps are left out: an image or a joint was missing.",)
    assert open_dataset(tmp_path / "dataset").actions[:, 0].tolist() == [0, 1, 3, 4, 6, 7]
    with pytest.raises(DatasetError, match="No step of the run has all of its images and joints"):
        run(tmp_path / "none", ticks(path_of(8), rate=RATE, measured=np.full((8, 6), np.nan)),
            [end(first_tick=0, last_tick=7)])  # fmt: skip
    assert not (tmp_path / "none" / "dataset").exists()


def test_episodes_of_all_marks_are_kept_and_those_without_a_tick_are_not(tmp_path: Path) -> None:
    made = [*ticks(path_of(10), rate=RATE), *ticks(path_of(5), rate=RATE, first=30, episode=2)]
    ends = [
        end(0, first_tick=0, last_tick=9, mark="success"),
        end(1, mark=None, ended="stop", stop="A person stopped it."),
        end(2, first_tick=30, last_tick=34, mark="failure", instruction=""),
    ]
    found = run(tmp_path, made, ends)
    assert (found.episodes, found.frames) == (2, 15)
    dataset = open_dataset(tmp_path / "dataset")
    assert dataset.episode_index.tolist() == [0] * 10 + [1] * 5
    assert [dataset.instruction(i) for i in (0, 12)] == ["wave", "none"]


def test_what_is_between_episodes_is_in_none(tmp_path: Path) -> None:
    ramp = dict.fromkeys(range(10, 20), "ramp")
    chunks = [0] * 10 + [None] * 10 + [1] * 10
    made = ticks(path_of(30), rate=RATE, chunks=chunks, source=ramp)
    made = [dataclasses.replace(one, episode=int(one.number >= 10)) for one in made]
    run(tmp_path, made, [end(0, first_tick=0, last_tick=9), end(1, first_tick=20, last_tick=29)])
    assert open_dataset(tmp_path / "dataset").actions[:, 0].tolist() == [*range(10), *range(20, 30)]


def test_a_dry_run_has_no_dataset(tmp_path: Path) -> None:
    found = run(tmp_path, ticks(path_of(10), rate=RATE), [end(first_tick=0, last_tick=9)], dry_run=True)
    assert (found.path, found.notes) == (None, ("A dry run has no dataset: nothing was executed.",))
    assert not (tmp_path / "dataset").exists()


# runs that were cut off


def test_an_episode_that_was_cut_off_is_kept_as_far_as_it_goes(tmp_path: Path) -> None:
    ramp = dict.fromkeys(range(10, 20), "ramp")
    made = ticks(path_of(30), rate=RATE, chunks=[0] * 10 + [None] * 12 + [1] * 8, source=ramp)
    made = [dataclasses.replace(one, episode=int(one.number >= 10)) for one in made]
    found = run(tmp_path, made, [end(0, first_tick=0, last_tick=9)], ended=None, instruction="go on")
    assert found.notes == ("Episode 1 was cut off: it is kept up to its last tick in the log.",)
    dataset = open_dataset(tmp_path / "dataset")
    assert dataset.actions[:, 0].tolist() == [*range(10), *range(22, 30)]
    assert dataset.instruction(12) == "go on"


def test_a_run_that_was_cut_off_before_anything_was_played_has_no_dataset(tmp_path: Path) -> None:
    found = run(tmp_path, ticks(path_of(5), rate=RATE, chunks=[None] * 5), [], ended=None)
    assert (found.path, found.notes[-1]) == (None, "No dataset: no action was played.")
    found = run(tmp_path / "ramp", ticks(path_of(5), rate=RATE, source=dict.fromkeys(range(5), "ramp")), [], ended=None)
    assert found.notes == ("No dataset: no action was played.",)


def test_a_torn_line_at_the_end_costs_only_itself(tmp_path: Path) -> None:
    run(tmp_path, ticks(path_of(10), rate=RATE), [])
    for name in (LOG, EPISODES):
        with (tmp_path / name).open("ab") as file:
            file.write(b'{"tick":10,"epi')
    shutil.rmtree(tmp_path / "dataset")
    assert write_run_dataset(tmp_path).frames == 10


def test_a_folder_without_a_log_is_refused(tmp_path: Path) -> None:
    run(tmp_path, ticks(path_of(5), rate=RATE), [end(first_tick=0, last_tick=4)])
    (tmp_path / LOG).unlink()
    with pytest.raises((RunLogError, OSError), match=r"run-log\.jsonl"):
        write_run_dataset(tmp_path)
