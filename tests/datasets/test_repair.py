"""`dataset repair`: a sound copy of each repairable damage, values and packets kept, the source untouched."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from smolpilot.cli.main import main
from smolpilot.common.errors import DatasetError, UsageError
from smolpilot.datasets import open_dataset
from smolpilot.datasets.check import check_dataset
from smolpilot.datasets.repair import repair

from .helpers_damage import (
    DAMAGES,
    Damage,
    bare_tables,
    change_features,
    change_info,
    change_lines,
    change_table,
    cut,
    damaged,
    in_v21,
    table_v3,
    table_v21,
    video_v21,
    wall_clock,
)
from .helpers_recordings import takes, tree_hash, write_v3, write_v21
from .helpers_report import untrue

REPAIRABLE = [damage for damage in DAMAGES if damage.repairable]
BEYOND = [damage for damage in DAMAGES if not damage.repairable]
pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")


@pytest.fixture
def broken_v21(broken: Callable[[str], Path]) -> Path:
    """A v2.1 copy to be damaged."""
    return broken("v21")


@pytest.mark.parametrize("damage", REPAIRABLE, ids=lambda damage: damage.name)
def test_a_repaired_copy_is_sound_and_has_the_same_values(
    damage: Damage, sound: dict[str, Path], tmp_path: Path
) -> None:
    source = damaged(damage, sound, tmp_path / "broken")
    before = tree_hash(source)
    report = repair(source, tmp_path / "repaired")
    assert report.remaining == []
    assert report.complete
    assert tuple(sorted(report.plan.dropped)) == damage.dropped
    assert report.plan.actions or report.plan.dropped
    assert untrue(report, tmp_path / "repaired") == []
    # What the damage was is gone, whatever its severity; only joint names that are made up stay remarkable.
    assert report.after is not None
    assert damage.code not in {found.code for found in report.after.findings} - {"names-missing"}
    assert tree_hash(source) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken", "repaired"]

    original = takes()
    kept = [episode for episode in range(len(original)) if episode not in damage.dropped]
    dataset = open_dataset(tmp_path / "repaired")
    dataset.check_videos()
    assert dataset.episodes == list(range(len(kept)))
    for new, old in enumerate(kept):
        mine = dataset.select([new])
        rows = dict(damage.shorter).get(old)
        np.testing.assert_array_equal(mine.states, original[old].state[:rows])
        np.testing.assert_array_equal(mine.actions, original[old].action[:rows])
        assert set(mine.instructions) == {original[old].task}
        np.testing.assert_array_equal(mine.timestamps, (np.arange(len(mine)) / 10).astype(np.float32))
    new = len(kept) // 2
    picture = next(iter(dataset.decode_episode("wrist", new)))
    expected = original[kept[new]].pictures["wrist"][0]
    assert np.abs(picture.astype(int) - expected).mean() < 6


@pytest.mark.parametrize("damage", BEYOND, ids=lambda damage: damage.name)
def test_what_cannot_be_repaired_is_said(damage: Damage, sound: dict[str, Path], tmp_path: Path) -> None:
    source = damaged(damage, sound, tmp_path / "broken")
    if damage.name == "torn data file of all episodes":
        with pytest.raises(DatasetError, match=r"No episode of .* can be kept") as error:
            repair(source, tmp_path / "repaired")
        assert "episode 0: its data file is torn" in str(error.value)
        assert not (tmp_path / "repaired").exists()
        return
    report = repair(source, tmp_path / "repaired")
    assert report.after is not None
    still = [found for found in report.after.findings if found.code == damage.code]
    assert still
    assert damage.episode in {found.episode for found in still}
    if any(found.severity == "error" for found in still):
        assert not report.complete
        assert any(
            f"episode{'s' if 'episodes' in text else ''}" in text or "Task" in text for text in report.plan.impossible
        )


def test_recorded_time_stamps_are_kept_beside(broken_v21: Path, tmp_path: Path) -> None:
    in_v21(1, lambda columns: wall_clock(columns, list(range(27))))(broken_v21)
    stored = pq.read_table(table_v21(broken_v21, 1))["timestamp"].to_numpy()
    repair(broken_v21, tmp_path / "repaired")
    kept = pq.read_table(tmp_path / "repaired" / "meta" / "recorded_timestamps.parquet").to_pydict()
    assert kept["episode_index"] == [1] * 27
    np.testing.assert_array_equal(np.array(kept["timestamp"], dtype=np.float32), stored)


def test_many_damages_at_once(broken_v21: Path, tmp_path: Path) -> None:
    bare_tables(broken_v21)
    in_v21(1, lambda columns: wall_clock(columns, list(range(27))))(broken_v21)
    cut(video_v21(broken_v21, 4), 0.5)
    change_info(broken_v21, fps=30, total_frames=1)
    change_features(
        broken_v21, lambda features: features["action"].update(names={"motors": ["pan", "lift", "gripper"]})
    )
    (broken_v21 / "README.md").write_text("a card")
    report = repair(broken_v21, tmp_path / "repaired")
    assert report.complete
    assert list(report.plan.dropped) == [4]
    text = " ".join(report.plan.actions)
    for word in ("fps 30 becomes 10", "Episode 1: time stamps", "task_index", "names of 'action'", "totals"):
        assert word in text
    assert open_dataset(tmp_path / "repaired").meta.action_names == ["pan", "lift", "gripper"]
    assert (tmp_path / "repaired" / "README.md").read_text() == "a card"


def test_a_sound_recording_stays_what_it_is(sound: dict[str, Path], tmp_path: Path) -> None:
    for layout, root in sound.items():
        report = repair(root, tmp_path / layout)
        assert (report.plan.actions, report.plan.dropped, report.complete) == ([], {}, True)
        assert report.after is not None
        assert report.after.dataset.version == ("v3.0" if layout == "v3" else "v2.1")
        for key in ("observation.state", "action", "index", "task_index", "timestamp"):
            np.testing.assert_array_equal(report.before.dataset.stacked(key), report.after.dataset.stacked(key))


def test_v20_gets_statistics_per_episode(tmp_path: Path) -> None:
    root = write_v21(tmp_path / "v20", takes(), version="v2.0")
    report = repair(root, tmp_path / "repaired")
    assert report.complete
    assert len((tmp_path / "repaired" / "meta" / "episodes_stats.jsonl").read_text().splitlines()) == 6


def test_extra_columns_and_fields_of_episodes_stay(broken_v21: Path, tmp_path: Path) -> None:
    for episode in range(6):
        change_table(
            table_v21(broken_v21, episode), lambda columns: columns.update(reward=[0.5] * len(columns["index"]))
        )
    change_lines(broken_v21, "episodes.jsonl", lambda rows: [row.update(success=True) for row in rows] and None)
    change_info(broken_v21, total_frames=3)
    repair(broken_v21, tmp_path / "repaired")
    found = check_dataset(tmp_path / "repaired").dataset
    assert found.stacked("reward").tolist() == [[0.5]] * 159
    assert all(record.fields == {"success": True} for record in found.records.values())


def test_dry_run_writes_nothing(broken_v21: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cut(video_v21(broken_v21, 4), 0.5)
    change_info(broken_v21, fps=30)
    assert main(["dataset", "repair", str(broken_v21), str(tmp_path / "repaired"), "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert "Would do:" in text
    assert "fps 30 becomes 10" in text
    assert "episode 4: its video cannot be opened (camera 'front')" in text
    assert "Dry run: nothing written" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken"]


def test_exit_codes_and_json(
    sound: dict[str, Path], broken_v21: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change_lines(broken_v21, "tasks.jsonl", lambda rows: rows[1].update(task=""))
    change_lines(broken_v21, "episodes.jsonl", lambda rows: [row.update(tasks=[""]) for row in rows[1::2]] and None)
    assert main(["dataset", "repair", str(broken_v21), str(tmp_path / "one"), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["written"]
    assert not document["complete"]
    assert document["remaining"][0]["code"] == "instruction-empty"
    assert main(["dataset", "repair", str(broken_v21), str(tmp_path / "one")]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(["dataset", "repair", str(tmp_path / "nowhere"), str(tmp_path / "two")]) == 2


def test_the_result_may_not_lie_inside_the_source(broken_v21: Path) -> None:
    with pytest.raises(UsageError, match="inside the dataset"):
        repair(broken_v21, broken_v21 / "repaired")


def test_a_repair_that_failed_leaves_nothing_half_written(
    broken_v21: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from smolpilot.datasets.repair import repairing as run

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "copy_episodes", stop)
    with pytest.raises(KeyboardInterrupt):
        repair(broken_v21, tmp_path / "repaired")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken"]


def test_a_shared_table_keeps_its_other_columns(tmp_path: Path) -> None:
    root = write_v3(tmp_path / "v3", takes())
    path = table_v3(root)
    table = pq.read_table(path)
    pq.write_table(table.append_column("note", [["a"] * len(table)]), path)
    change_info(root, total_frames=1)
    repair(root, tmp_path / "repaired")
    assert set(pq.read_table(table_v3(tmp_path / "repaired"))["note"].to_pylist()) == {"a"}


@pytest.mark.parametrize("dtype", [["a", 1], "float32", None, 7])
@pytest.mark.parametrize("version", ["v21", "v3"])
def test_a_camera_of_no_camera_type_is_declared_as_it_is_stored(
    dtype: object, version: str, broken: Callable[[str], Path], tmp_path: Path
) -> None:
    source = broken(version)
    change_features(source, lambda features: features["observation.images.front"].update(dtype=dtype))
    report = repair(source, tmp_path / "repaired")
    assert any("camera 'front' is declared video, as it is stored" in action for action in report.plan.actions)
    assert "front" in open_dataset(tmp_path / "repaired").meta.camera_names
    assert report.complete
