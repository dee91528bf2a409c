"""`dataset repair` where rows and video frames do not match one to one, and where two places contradict each other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smolpilot.cli.main import main
from smolpilot.datasets import open_dataset
from smolpilot.datasets.repair import repair

from .helpers_damage import (
    change_info,
    change_lines,
    change_table,
    in_v3,
    in_v21,
    longer,
    rows_of,
    table_v3,
    table_v21,
    video_v21,
    wall_clock,
)
from .helpers_recordings import LENGTHS, TASKS, takes, write_video

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")


def without(episode: int, frame: int) -> Callable[[dict[str, list[Any]]], object]:
    """A row that the recorder lost; all others keep their numbers and times."""

    def change(columns: dict[str, list[Any]]) -> None:
        row = rows_of(columns, episode)[frame]
        for values in columns.values():
            del values[row]

    return change


def rows_and_pictures_agree(root: Path, kept: dict[int, int]) -> None:
    """Each kept episode (new number: old number) has its own rows, and the first image is its own, too."""
    made = takes()
    dataset = open_dataset(root)
    assert dataset.episodes == sorted(kept)
    for new, old in kept.items():
        mine = dataset.select([new])
        np.testing.assert_array_equal(mine.states, made[old].state[: len(mine)])
        pictures = list(dataset.decode_episode("front", new))
        for i, picture in enumerate(pictures[: len(mine)]):
            assert np.abs(picture.astype(int) - made[old].pictures["front"][i]).mean() < 3


@pytest.mark.parametrize("layout", ["v3", "v21"])
@pytest.mark.parametrize("frame", [0, 10])
def test_an_episode_that_lacks_a_row_is_left_out(
    broken: Callable[[str], Path], tmp_path: Path, layout: str, frame: int
) -> None:
    root = broken(layout)
    change_table(table_v3(root) if layout == "v3" else table_v21(root, 1), without(1, frame))
    report = repair(root, tmp_path / "repaired")
    assert report.plan.dropped == {1: f"26 rows for 27 frames of camera 'front': frame {frame} has no row"}
    assert not any("Episode 1:" in text for text in report.plan.actions)
    assert report.complete
    rows_and_pictures_agree(tmp_path / "repaired", {0: 0, 1: 2, 2: 3, 3: 4, 4: 5})


@pytest.mark.parametrize("layout", ["v3", "v21"])
def test_surplus_frames_at_the_end_cost_nothing(broken: Callable[[str], Path], tmp_path: Path, layout: str) -> None:
    root = broken(layout)
    change_table(table_v3(root) if layout == "v3" else table_v21(root, 1), without(1, 26))
    report = repair(root, tmp_path / "repaired")
    assert report.plan.dropped == {}
    assert report.after is not None
    assert report.after.dataset.rows[1].positions.size == 26
    rows_and_pictures_agree(tmp_path / "repaired", {episode: episode for episode in range(6)})


def test_a_missing_row_under_a_wall_clock_is_not_guessed(broken: Callable[[str], Path], tmp_path: Path) -> None:
    root = broken("v21")
    in_v21(1, lambda columns: wall_clock(columns, list(range(27))))(root)
    in_v21(1, without(1, 10))(root)
    report = repair(root, tmp_path / "repaired", dry_run=True)
    assert list(report.plan.dropped) == [1]
    assert "26 rows for 27 frames" in report.plan.dropped[1]
    assert "do not tell which frames have no row" in report.plan.dropped[1]


def test_surplus_frames_without_usable_time_stamps_are_not_guessed(
    broken: Callable[[str], Path], tmp_path: Path
) -> None:
    root = broken("v21")
    longer(root)
    in_v21(2, lambda columns: columns.pop("timestamp") and None)(root)
    report = repair(root, tmp_path / "repaired", dry_run=True)
    assert list(report.plan.dropped) == [2]


def test_a_missing_row_and_a_missing_frame_do_not_make_a_pair(broken: Callable[[str], Path], tmp_path: Path) -> None:
    root = broken("v21")
    in_v21(1, without(1, 10))(root)
    for camera in ("front", "wrist"):
        write_video(video_v21(root, 1, camera), takes()[1].pictures[camera][:-1])
    report = repair(root, tmp_path / "repaired", dry_run=True)
    assert list(report.plan.dropped) == [1]
    assert "its 26 rows skip frame 10" in report.plan.dropped[1]


def test_a_row_under_another_episode_does_not_move_the_videos_between(
    broken: Callable[[str], Path], tmp_path: Path
) -> None:
    root = broken("v3")
    in_v3(lambda columns: columns["episode_index"].__setitem__(rows_of(columns, 0)[10], 2))(root)
    report = repair(root, tmp_path / "repaired")
    assert sorted(report.plan.dropped) == [0, 2]
    assert report.complete
    rows_and_pictures_agree(tmp_path / "repaired", {0: 1, 1: 3, 2: 4, 3: 5})


def test_gaps_of_the_clock_with_a_frame_for_each_row_stay_repairable(
    broken: Callable[[str], Path], tmp_path: Path
) -> None:
    root = broken("v21")

    def late(columns: dict[str, list[Any]]) -> None:
        columns["timestamp"] = [time + 0.3 * (i >= 10) for i, time in enumerate(columns["timestamp"])]

    in_v21(1, late)(root)
    report = repair(root, tmp_path / "repaired")
    assert report.plan.dropped == {}
    assert report.complete
    rows_and_pictures_agree(tmp_path / "repaired", {episode: episode for episode in range(len(LENGTHS))})


def test_an_episode_list_that_contradicts_the_rows_is_said(
    broken: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = broken("v21")
    change_lines(root, "episodes.jsonl", lambda rows: [rows[i].update(tasks=[TASKS[1]]) for i in (0, 4)] and None)
    assert main(["dataset", "repair", str(root), str(tmp_path / "repaired")]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert (
        f'Episodes 0, 4: the episode list says "{TASKS[1]}", the rows say "{TASKS[0]}". The rows were followed' in text
    )
    assert "nothing: the copy" not in text
    assert set(open_dataset(tmp_path / "repaired").select([0]).instructions) == {TASKS[0]}


@pytest.mark.parametrize(
    ("value", "said"), [("10", 'fps "10" (text, no number) becomes 10'), (None, "fps null becomes 10")]
)
def test_an_unusable_rate_is_named_as_the_file_has_it(
    broken: Callable[[str], Path], tmp_path: Path, value: str | None, said: str
) -> None:
    root = broken("v21")
    change_info(root, fps=value)
    report = repair(root, tmp_path / "repaired", dry_run=True)
    assert any(said in text for text in report.plan.actions)


def test_a_missing_rate_is_named_as_missing(broken: Callable[[str], Path], tmp_path: Path) -> None:
    root = broken("v21")
    change_info(root, fps=...)
    report = repair(root, tmp_path / "repaired", dry_run=True)
    assert any("fps (missing) becomes 10" in text for text in report.plan.actions)
