"""Comparison: what is no difference, and that every kind of difference is found and named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from smolpilot.cli.main import main
from smolpilot.datasets.compare import compare
from smolpilot.datasets.convert import convert
from smolpilot.datasets.copy import CopyOptions

DATA = Path("data/chunk-000/file-000.parquet")
VIDEO = "observation.images.front"


@pytest.fixture(scope="module")
def v21(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("compare") / "v21"
    convert(tiny_dataset, path, CopyOptions(version="v2.1"))
    return path


@pytest.fixture
def other(v21: Path, tmp_path: Path) -> Path:
    """A v2.1 copy, to be changed."""
    return Path(shutil.copytree(v21, tmp_path / "other"))


def change_column(root: Path, episode: int, name: str, change: Callable[[pa.Array], pa.Array]) -> None:
    path = root / "data" / "chunk-000" / f"episode_{episode:06d}.parquet"
    table = pq.read_table(path)
    new = change(table[name].combine_chunks())
    pq.write_table(table.set_column(table.schema.get_field_index(name), name, new), path)


def change_value(episode_column: pa.Array, row: int, value: float) -> pa.Array:
    values = np.array(episode_column.to_pylist(), dtype=np.float32)
    values[row, 1] = value
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), 3)


def texts(a: Path, b: Path) -> list[str]:
    return [f"{one.check}: {one}" for one in compare(a, b).differences]


def test_other_files_and_list_types_are_no_difference(tiny_dataset: Path, other: Path) -> None:
    assert compare(tiny_dataset, other).equal
    for episode in range(6):
        change_column(other, episode, "action", lambda column: column.cast(pa.list_(pa.float32())))
    result = compare(tiny_dataset, other)
    assert result.equal
    compared = {row["check"]: row["compared"] for row in result.table()}
    assert compared["episodes"] == 6
    assert compared["packets"] == 2 * sum(range(18, 24))
    assert compared["pictures"] == 2 * 2 * 6
    assert compared["values"] == 7 * sum(range(18, 24))
    assert compared["statistics"] > 100


def test_one_value_is_found(tiny_dataset: Path, other: Path) -> None:
    change_column(other, 3, "action", lambda column: change_value(column, 11, 0.5))
    found = [text for text in texts(tiny_dataset, other) if text.startswith("values")]
    assert len(found) == 1
    assert found[0].startswith("values: episode 3: column 'action' differs: frame 11: [1] ")
    assert found[0].endswith("and 0.5")


def test_the_sign_of_zero_is_a_difference(other: Path, v21: Path, tmp_path: Path) -> None:
    for root, value in ((other, 0.0), (Path(shutil.copytree(other, tmp_path / "minus")), -0.0)):
        change_column(root, 0, "action", partial(change_value, row=2, value=value))
    assert "column 'action' differs: frame 2" in texts(other, tmp_path / "minus")[0]


def test_equal_nans_are_equal(other: Path, tmp_path: Path) -> None:
    change_column(other, 0, "action", lambda column: change_value(column, 2, float("nan")))
    assert compare(other, Path(shutil.copytree(other, tmp_path / "same"))).equal


def test_other_dtype_is_a_difference(tiny_dataset: Path, other: Path) -> None:
    change_column(other, 1, "timestamp", lambda column: column.cast(pa.float64()))
    assert "values: episode 1: column 'timestamp' is float and double" in texts(tiny_dataset, other)


def test_swapped_videos_are_found(tiny_dataset: Path, other: Path) -> None:
    folder = other / "videos" / "chunk-000" / VIDEO
    # Of equal length, so that nothing else tells.
    shutil.copy(folder / "episode_000002.mp4", folder / "episode_000001.mp4")
    found = texts(tiny_dataset, other)
    assert any("episode 1: video of 'front' has 19 and 20 frames" in text for text in found)
    folder = other / "videos" / "chunk-000"
    shutil.copy(folder / "observation.images.wrist" / "episode_000004.mp4", folder / VIDEO / "episode_000004.mp4")
    found = texts(tiny_dataset, other)
    assert any("packets: episode 4: video of 'front' differs: packet 0 has another content" in text for text in found)
    assert any("pictures: episode 4: the first image of 'front' differs" in text for text in found)


def rewrite_lines(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    rows = [change(json.loads(line)) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_meta_data(tiny_dataset: Path, other: Path) -> None:
    rewrite_lines(other / "meta" / "tasks.jsonl", lambda row: {**row, "task": row["task"].upper()})
    assert "tasks: task 0: 'touch the red block' and 'TOUCH THE RED BLOCK'" in texts(tiny_dataset, other)
    info = json.loads((other / "meta" / "info.json").read_text())
    info["features"]["action"]["names"][0] = "swivel"
    (other / "meta" / "info.json").write_text(json.dumps({**info, "robot_type": "other"}))
    found = texts(tiny_dataset, other)
    assert "description: robot: toy_arm and other" in found
    assert any("feature 'action': names" in text for text in found)


def test_own_fields_splits_attributes_and_files(tiny_dataset: Path, other: Path) -> None:
    path = other / "meta" / "info.json"
    info = json.loads(path.read_text())
    info["features"][VIDEO]["info"]["video.codec"] = "av1"
    info["features"]["action"]["unit"] = "rad"
    path.write_text(json.dumps({**info, "splits": {"train": "0:5", "test": "5:6"}, "license_holder": "us"}))
    rewrite_lines(other / "meta" / "episodes.jsonl", lambda row: {**row, "operator": "ann"})
    (other / "README.md").write_text("card")
    found = texts(tiny_dataset, other)
    assert "description: license_holder: nothing and 'us'" in found
    assert any(text.startswith("description: splits: ") for text in found)
    assert f"description: 'video.codec' of feature '{VIDEO}': 'h264' and 'av1'" in found
    assert "episodes: episode 3: field 'operator': nothing and 'ann'" in found
    assert "files: README.md: only in the second dataset" in found
    assert len(found) == 3 + 6 + 1
    same = Path(shutil.copytree(other, other.parent / "same"))
    assert compare(other, same).equal
    rewrite_lines(same / "meta" / "episodes.jsonl", lambda row: {**row, "operator": "bob"})
    (same / "README.md").write_text("another card")
    info["features"]["action"]["unit"] = "deg"
    (same / "meta" / "info.json").write_text((same / "meta" / "info.json").read_text().replace('"rad"', '"deg"'))
    found = texts(other, same)
    assert "description: 'unit' of feature 'action': 'rad' and 'deg'" in found
    assert "episodes: episode 0: field 'operator': 'ann' and 'bob'" in found
    assert "files: README.md differs" in found


def test_what_is_not_compared_is_named(tiny_dataset: Path, other: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (other / "meta" / "episodes_stats.jsonl").unlink()
    assert main(["dataset", "compare", str(other), str(tiny_dataset)]) == 0
    said = capsys.readouterr().out
    assert "statistics in all: none in A" in said
    assert "statistics per episode: none in A" in said
    assert "smolpilot_history.json" in said


def test_statistics(tiny_dataset: Path, other: Path) -> None:
    def shift(row: dict[str, Any]) -> dict[str, Any]:
        if row["episode_index"] == 2:
            row["stats"]["action"]["mean"][1] += 0.01
        return row

    rewrite_lines(other / "meta" / "episodes_stats.jsonl", shift)
    found = texts(tiny_dataset, other)
    assert any(text.startswith("statistics: episode 2: mean of 'action'") for text in found)
    assert compare(tiny_dataset, other, tolerance=0.1).equal


def test_missing_episodes_and_other_lengths(tiny_dataset: Path, other: Path) -> None:
    path = other / "meta" / "episodes.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:5]))
    assert "episodes: episode 5: only in the first dataset" in texts(tiny_dataset, other)
    assert "episodes: episode 5: only in the second dataset" in texts(other, tiny_dataset)


def test_command(tiny_dataset: Path, other: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["dataset", "compare", str(tiny_dataset), str(other)]) == 0
    said = capsys.readouterr().out
    assert "Equal." in said
    assert "table values, bit by bit" in said
    for row in range(15):
        change_column(other, row % 6, "action", partial(change_value, row=row, value=9.0))
    assert main(["dataset", "compare", str(tiny_dataset), str(other), "--first", "2"]) == 1
    said = capsys.readouterr().out
    assert said.count("column 'action' differs") == 2
    assert "more (--first" in said
    assert main(["dataset", "compare", str(tiny_dataset), str(other), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["equal"] is False
    assert document["differences"][0]["check"] == "values"
    assert main(["dataset", "compare", str(tiny_dataset), str(tmp_path / "no")]) == 2
    assert "does not exist" in capsys.readouterr().err
    assert main(["dataset", "compare", str(tiny_dataset), str(other), "--first", "-1"]) == 2
    assert "--first" in capsys.readouterr().err
    assert main(["dataset", "compare", str(tiny_dataset), str(other), "--jbos", "2"]) == 2
    assert "--jobs" in capsys.readouterr().err
