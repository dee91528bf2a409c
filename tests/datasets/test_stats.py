"""`dataset stats`: stored statistics against those of the data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smolpilot.cli.main import main
from smolpilot.common.statistics import statistics_from_json
from smolpilot.datasets import open_dataset


def run(capsys: Any, *args: str) -> tuple[int, dict[str, Any]]:
    code = main(["dataset", "stats", *args, "--json"])
    return code, json.loads(capsys.readouterr().out)


def edit_stats(root: Path, change: Any) -> None:
    path = root / "meta" / "stats.json"
    stats = json.loads(path.read_text())
    change(stats)
    path.write_text(json.dumps(stats))


def test_right_statistics_are_right(tiny_dataset: Path, capsys: Any) -> None:
    code, document = run(capsys, str(tiny_dataset), "--recompute")
    assert (code, document["correct"], document["wrong"]) == (0, True, [])
    found = document["features"]["action"]
    assert found["names"] == ["pan", "lift", "gripper"]
    actions = open_dataset(tiny_dataset).actions.astype(np.float64)
    np.testing.assert_allclose(found["recomputed"]["std"], actions.std(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found["recomputed"]["q99"], np.quantile(actions, 0.99, axis=0), rtol=1e-12)
    np.testing.assert_allclose(found["stored"]["mean"], actions.mean(axis=0), rtol=1e-6)


def test_without_recompute_only_the_stored_ones_are_shown(copy: Path, capsys: Any) -> None:
    edit_stats(copy, lambda stats: stats["action"]["mean"].__setitem__(0, 77.0))
    code, document = run(capsys, str(copy))
    assert (code, document["correct"]) == (0, None)
    assert document["features"]["action"]["stored"]["mean"][0] == 77.0
    assert document["features"]["action"]["recomputed"] is None


@pytest.mark.parametrize("stat", ["mean", "std", "min", "max", "q01"])
def test_a_wrong_statistic_is_named_with_joint_and_difference(copy: Path, stat: str, capsys: Any) -> None:
    true = json.loads((copy / "meta" / "stats.json").read_text())["observation.state"][stat][1]

    def shift(stats: Any) -> None:
        stats["observation.state"][stat][1] += 0.5

    edit_stats(copy, shift)
    code, document = run(capsys, str(copy), "--recompute")
    assert code == 1
    assert [(row["feature"], row["joint"], row["stat"]) for row in document["wrong"]] == [
        ("observation.state", "lift", stat)
    ]
    assert document["wrong"][0]["stored"] == pytest.approx(true + 0.5)
    # Quantiles of the whole are merged from those of the episodes: they were a little off before.
    assert document["wrong"][0]["difference"] == pytest.approx(0.5, abs=0.3 if stat == "q01" else 1e-3)
    assert main(["dataset", "stats", str(copy), "--recompute"]) == 1
    text = capsys.readouterr().out
    assert f"observation.state, lift: {stat}" in text
    assert "dataset repair" in text


def test_missing_statistics_and_a_wrong_count_are_wrong(copy: Path, capsys: Any) -> None:
    def spoil(stats: Any) -> None:
        del stats["action"]
        stats["observation.state"]["count"] = [3]

    edit_stats(copy, spoil)
    code, document = run(capsys, str(copy), "--recompute")
    assert code == 1
    wrong = {(row["feature"], row["stat"]) for row in document["wrong"]}
    assert wrong == {("action", stat) for stat in ("mean", "std", "min", "max", "count")} | {
        ("observation.state", "count")
    }


def test_pictures_of_another_recording_are_wrong(copy: Path, capsys: Any) -> None:
    edit_stats(copy, lambda stats: stats["observation.images.front"].update(mean=[[[0.9]], [[0.9]], [[0.9]]]))
    code, document = run(capsys, str(copy), "--recompute")
    assert code == 1
    assert {(row["feature"], row["joint"]) for row in document["wrong"]} == {
        ("observation.images.front", color) for color in ("red", "green", "blue")
    }


def test_written_statistics_are_those_of_the_data_and_nothing_is_overwritten(
    build_v21: Any, tmp_path: Path, capsys: Any
) -> None:
    root = build_v21(statistics=False)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert main(["dataset", "stats", str(root), "--out", str(tmp_path / "stats.json")]) == 1
    written = statistics_from_json((tmp_path / "stats.json").read_text())
    np.testing.assert_allclose(written["action"]["max"], open_dataset(root).actions.max(axis=0))
    assert main(["dataset", "stats", str(root), "--out", str(tmp_path / "stats.json")]) == 2
    assert "exists already" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


def test_units_of_a_profile_and_a_profile_of_another_robot(tiny_dataset: Path, capsys: Any) -> None:
    assert main(["dataset", "stats", str(tiny_dataset), "--robot", "so101"]) == 2
    assert "'pan'" in capsys.readouterr().err
    assert main(["dataset", "stats", str(tiny_dataset)]) == 0
    assert "gripper" in capsys.readouterr().out
