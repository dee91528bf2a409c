"""`dataset repair` where there is nothing to repair, or nothing that a repair could use: one sentence, a way out."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from smolpilot.cli.main import main
from smolpilot.common.errors import DatasetError, UsageError
from smolpilot.datasets.repair import RepairWishes, repair

from .helpers_damage import POINTER, change_info, change_table, cut, episodes_v3, table_v3
from .helpers_strangers import added, renamed, tables_of, without_videos, write_sound

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_sound(tmp_path_factory.mktemp("ours"))


@pytest.fixture
def spoiled(ours: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    return lambda layout: Path(shutil.copytree(ours[layout], tmp_path / "src"))


def test_an_empty_recording_is_called_that(spoiled: Callable[[str], Path], tmp_path: Path) -> None:
    root = spoiled("v3")
    for name in ("data", "videos", "meta/episodes"):
        shutil.rmtree(root / name)
    (root / "meta" / "tasks.parquet").unlink()
    change_info(root, total_episodes=0, total_frames=0, total_tasks=0)
    with pytest.raises(DatasetError, match="has no episodes yet: there is nothing to repair") as error:
        repair(root, tmp_path / "dst")
    assert "download" not in str(error.value)


@pytest.mark.parametrize("layout", ["v3", "v21"])
def test_pointers_keep_their_advice(layout: str, spoiled: Callable[[str], Path], tmp_path: Path) -> None:
    root = spoiled(layout)
    for path in [*root.glob("data/*/*"), *root.glob("videos/*/*/*")]:
        path.write_bytes(POINTER)
    with pytest.raises(DatasetError) as error:
        repair(root, tmp_path / "dst")
    assert error.value.fix.startswith(f"`git -C {shlex.quote(str(root))} lfs pull` fetches")


def test_an_interrupted_recording_keeps_its_closed_tables(
    spoiled: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = spoiled("v3")
    for path, column in ((table_v3(root), "episode_index"), (episodes_v3(root), "episode_index")):
        table = pq.read_table(path)
        pq.write_table(table.filter(pc.less(table[column], 2)), path)
        second = path.with_name("file-001.parquet")
        pq.write_table(table.filter(pc.greater_equal(table[column], 2)), second)
        cut(second, 0.7)
    assert main(["dataset", "repair", str(root), str(tmp_path / "dst")]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "data/chunk-000/file-001.parquet, meta/episodes/chunk-000/file-001.parquet: without an end" in text
    assert "2 of 2 episodes, 51 frames" in text
    assert len(pq.read_table(table_v3(tmp_path / "dst"))) == 51


def test_an_interrupted_recording_of_which_nothing_is_closed(spoiled: Callable[[str], Path], tmp_path: Path) -> None:
    root = spoiled("v3")
    cut(table_v3(root), 0.7)
    with pytest.raises(DatasetError) as error:
        repair(root, tmp_path / "dst")
    assert "stopped before LeRobot closed its tables" in error.value.fix
    assert "download" not in error.value.fix


def test_a_folder_of_two_recordings_is_refused(ours: dict[str, Path], tmp_path: Path) -> None:
    for name in ("one", "two"):
        shutil.copytree(ours["v3"], tmp_path / "both" / name)
    with pytest.raises(UsageError, match="holds 2 datasets and is none: one, two") as error:
        repair(tmp_path / "both", tmp_path / "dst")
    words = shlex.split(error.value.fix)[1:]
    assert main([str(tmp_path / "dst") if word == "DST" else word for word in words]) == 0


def test_values_that_no_policy_can_use(spoiled: Callable[[str], Path], tmp_path: Path) -> None:
    root = spoiled("v21")
    for path in tables_of(root):
        change_table(path, lambda columns: columns.update(action=[[float("nan")] * 3] * len(columns["index"])))
    with pytest.raises(DatasetError, match="episode 0: NaN or infinite numbers in 'action'") as error:
        repair(root, tmp_path / "dst")
    assert "download" not in error.value.fix


def test_several_candidates_for_the_state(
    spoiled: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = spoiled("v3")
    renamed({"observation.state": "state.arm"})(root)
    added("state.hand", lambda n: [[0.5, i / n] for i in range(n)], {"dtype": "float64", "shape": [2]})(root)
    assert main(["dataset", "repair", str(root), str(tmp_path / "dst")]) == 1
    text = capsys.readouterr().out
    command = text.split("Choose one: `smolpilot ")[1].split("`")[0]
    words = [str(tmp_path / "renamed") if word == "DST" else word for word in shlex.split(command)]
    assert main(words) == 0
    assert main(["dataset", "repair", str(tmp_path / "renamed"), str(tmp_path / "whole")]) == 0


def test_features_by_hand(spoiled: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = spoiled("v21")
    without_videos("wrist", range(1))(root)
    wishes = RepairWishes(without=("wrist",))
    report = repair(root, tmp_path / "dst", wishes)
    assert (report.plan.dropped, report.complete) == ({}, True)
    assert report.after is not None
    assert report.after.dataset.cameras.keys() == {"observation.images.front"}
    assert main(["dataset", "repair", str(root), str(tmp_path / "two"), "--features", "frnt"]) == 2
    assert "Did you mean 'front'?" in capsys.readouterr().err
    assert main(["dataset", "repair", str(root), str(tmp_path / "two"), "--without", "action"]) == 2
    assert "cannot be left out" in capsys.readouterr().err
