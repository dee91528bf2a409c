"""`dataset repair` of strangers' recordings: everything that can be kept is kept, in one pass, as the report says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from smolpilot.cli.main import main
from smolpilot.datasets import open_dataset
from smolpilot.datasets.repair import RepairWishes, repair

from .helpers_recordings import Take, tree_hash
from .helpers_report import untrue
from .helpers_strangers import INDEX, STRANGERS, Stranger, brought, recorded, write_sound

WORDS = {pa.float32(): "float32", pa.float64(): "float64", pa.int64(): "int64", pa.string(): "string"}
pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_sound(tmp_path_factory.mktemp("ours"))


@pytest.fixture(scope="module")
def original() -> list[Take]:
    return recorded()


@pytest.mark.parametrize("stranger", STRANGERS, ids=lambda stranger: stranger.name)
def test_what_can_be_kept_is_kept(
    stranger: Stranger, ours: dict[str, Path], original: list[Take], tmp_path: Path
) -> None:
    source = brought(stranger, ours, tmp_path / "src")
    before = tree_hash(source)
    report = repair(source, tmp_path / "dst", RepairWishes(jobs=1), dry_run=stranger.planned)
    assert (report.remaining, report.complete) == ([], True)
    assert tree_hash(source) == before
    assert sorted(report.plan.dropped) == list(stranger.dropped)
    assert stranger.said in " ".join([*report.plan.actions, *report.plan.aside])
    assert set(stranger.gone) <= report.plan.left_out
    lengths = {one.old: one.length for one in report.plan.episodes}
    for episode, (first, last) in stranger.rows.items():
        assert lengths[episode] == last - first
    if stranger.planned:
        return
    assert untrue(report, tmp_path / "dst") == []

    kept = [episode for episode in range(len(original)) if episode not in stranger.dropped]
    dataset = open_dataset(tmp_path / "dst")
    dataset.check_videos()
    info = json.loads((tmp_path / "dst" / "meta" / "info.json").read_text())
    assert info["fps"] == stranger.fps
    assert info["robot_type"] == ("küchenarm" if stranger.name in ("UTF-16", "Windows-1252") else "toy")
    assert info["splits"] == {"train": f"0:{len(kept)}"}
    assert not set(stranger.gone) & set(info["features"])
    for new, old in enumerate(kept):
        first, last = stranger.rows.get(old, (0, len(original[old])))
        mine = dataset.select([new])
        np.testing.assert_array_equal(mine.states, original[old].state[first:last])
        np.testing.assert_array_equal(mine.actions, original[old].action[first:last])
        assert set(mine.instructions) == {original[old].task}
        np.testing.assert_allclose(mine.timestamps, np.arange(last - first) / stranger.fps, atol=1e-4)
    old = kept[-1]
    picture = next(iter(dataset.decode_episode(dataset.meta.camera_names[0], len(kept) - 1)))
    expected = original[old].pictures["front"][stranger.rows.get(old, (0, 0))[0]]
    assert np.abs(picture.astype(int) - expected).mean() < 6
    assert_lerobots_rules(tmp_path / "dst", info)


def assert_lerobots_rules(root: Path, info: dict[str, Any]) -> None:
    """Tables have the columns of the features and no others, of LeRobot's types, without nulls."""
    wanted = {key for key, entry in info["features"].items() if entry["dtype"] != "video"}
    for path in root.glob("data/*/*.parquet"):
        table = pq.read_table(path)
        assert set(table.column_names) == wanted
        for name in INDEX:
            assert table.schema.field(name).type == (pa.float32() if name == "timestamp" else pa.int64())
        for name in wanted:
            entry, kind = info["features"][name], table.schema.field(name).type
            assert table[name].null_count == 0
            listed = pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)
            assert listed == (entry["shape"] != [1])
            assert WORDS[kind.value_type if listed else kind] == entry["dtype"]


@pytest.mark.parametrize(
    "name",
    ["one row too many", "another rate", "few key frames"],
)
def test_a_second_repair_has_nothing_to_do(
    name: str, ours: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stranger = next(one for one in STRANGERS if one.name == name)
    source = brought(stranger, ours, tmp_path / "src")
    assert main(["dataset", "repair", str(source), str(tmp_path / "dst")]) == 0
    assert main(["dataset", "check", str(tmp_path / "dst")]) == 0
    capsys.readouterr()
    assert main(["dataset", "repair", str(tmp_path / "dst"), str(tmp_path / "again"), "--dry-run", "--json"]) in (0, 1)
    plan = json.loads(capsys.readouterr().out)
    assert (plan["actions"], plan["dropped"], plan["impossible"]) == ([], [], [])
