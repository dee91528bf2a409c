"""Statistics, totals and splits of a source are derived numbers: carried over where they are of its content,
computed anew where they are not, and never a reason to refuse it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from smolpilot.cli.main import main
from smolpilot.datasets import read_meta
from smolpilot.datasets.compare import compare
from smolpilot.datasets.convert import convert
from smolpilot.datasets.copy import CopyOptions

from .helpers_recordings import takes, write_lines, write_v3, write_v21

STATE, FRONT = "observation.state", "observation.images.front"
LENGTHS = (12, 14, 10)

type Stats = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("derived")
    made = takes(lengths=LENGTHS)
    return {"v3.0": write_v3(root / "v30", made), "v2.1": write_v21(root / "v21", made)}


@pytest.fixture
def copied(sound: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """A copy to be changed; videos are shared."""

    def copy(version: str) -> Path:
        root = tmp_path / version
        for path in sound[version].rglob("*"):
            target = root / path.relative_to(sound[version])
            if path.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.hardlink_to(path) if path.suffix == ".mp4" else target.write_bytes(path.read_bytes())
        return root

    return copy


def edit_whole(root: Path, change: Callable[[Stats], None]) -> None:
    path = root / "meta" / "stats.json"
    stats = json.loads(path.read_text())
    change(stats)
    path.write_text(json.dumps(stats))


def edit_episodes(root: Path, change: Callable[[int, Stats], None]) -> None:
    path = root / "meta" / "episodes_stats.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        change(row["episode_index"], row["stats"])
    write_lines(path, rows)


def edit_info(root: Path, **values: Any) -> None:
    path = root / "meta" / "info.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def column(root: Path, name: str) -> npt.NDArray[Any]:
    tables = [pq.read_table(path) for path in sorted((root / "data").rglob("*.parquet"))]
    return np.array([row for table in tables for row in table[name].to_pylist()], dtype=np.float64)


def whole(root: Path) -> dict[str, dict[str, npt.NDArray[Any]]]:
    return read_meta(root).statistics


def assert_right(result: Path, source: Path) -> None:
    """The result's statistics of numbers are those of the source's rows."""
    for name in (STATE, "action", "timestamp"):
        values = column(source, name).reshape(sum(LENGTHS), -1)
        found = whole(result)[name]
        assert np.allclose(found["mean"], values.mean(0), atol=1e-5), name
        assert np.allclose(found["std"], values.std(0), atol=1e-5), name
        assert np.allclose(found["min"], values.min(0)), name
        assert np.allclose(found["max"], values.max(0)), name
        assert found["count"].tolist() == [sum(LENGTHS)], name


def larger(stats: Stats) -> None:
    stats[STATE].update(mean=[9.0, 9.0, 9.0], count=[500])
    stats["index"]["max"] = [499]


def imagenet(stats: Stats) -> None:
    stats[FRONT] = {"mean": [[[0.485]], [[0.456]], [[0.406]]], "std": [[[0.229]], [[0.224]], [[0.225]]],
                    "min": [[[0.0]]] * 3, "max": [[[1.0]]] * 3, "count": [36]}  # fmt: skip


WRONG: dict[str, tuple[Callable[[Stats], Any], str]] = {
    "of a larger set": (larger, "those of a larger set of 500 frames, not of these 36"),
    "of another set": (lambda s: s["action"].update(mean=[5.0, 0.0, 0.0]), "those of another set"),
    "NaN": (lambda s: s[STATE].update(std=[float("nan")] * 3), "NaN or infinity"),
    "infinite": (lambda s: s["action"].update(max=[float("inf")] * 3), "NaN or infinity"),
    "null": (lambda s: s[STATE].update(min=[None, 0.0, 0.0]), "NaN or infinity"),
    "other shape": (lambda s: s[STATE].update(mean=[0.0] * 7), "7 numbers as mean where there are 3"),
    "lacking": (lambda s: s[STATE].pop("count"), "lacked numbers"),
    "ImageNet's": (imagenet, "other images, or made in another way"),
    "quantiles beyond": (lambda s: s["action"].update(q99=[50.0] * 3), "q99 beyond minimum and maximum"),
    "of no feature": (lambda s: s.update(gone=dict(s[STATE])), "'gone' belong to no feature"),
}


@pytest.mark.parametrize(
    ("kind", "to"), [*((kind, "v3.0") for kind in WRONG), ("of a larger set", "v2.1"), ("ImageNet's", "v2.1")]
)
def test_statistics_of_the_whole_that_are_not_of_the_content(kind: str, to: Any, copied: Any, tmp_path: Path) -> None:
    root = copied("v3.0")
    change, said = WRONG[kind]
    edit_whole(root, change)
    report = convert(root, tmp_path / "out", CopyOptions(version=to))
    assert any(said in note for note in report.notes), report.notes
    assert_right(tmp_path / "out", root)
    assert "gone" not in whole(tmp_path / "out")
    assert np.allclose(whole(tmp_path / "out")[FRONT]["mean"].ravel(), 0.26, atol=0.15)
    # Only statistics differ from the source, and comparison says so.
    assert compare(root, tmp_path / "out").content_equal


@pytest.mark.parametrize("unreadable", ["text", "ragged"])
def test_statistics_that_are_no_numbers_are_computed(unreadable: str, copied: Any, tmp_path: Path) -> None:
    root = copied("v3.0")
    edit_whole(root, lambda s: s[STATE].update(mean="many" if unreadable == "text" else [[1.0], [1.0, 2.0]]))
    convert(root, tmp_path / "out")
    assert_right(tmp_path / "out", root)


def approximate(stats: Stats) -> None:
    """What LeRobot's versions write: quantiles of histograms, float32 sums, images counted in all frames."""
    spread = np.array(stats[STATE]["max"]) - np.array(stats[STATE]["min"])
    stats[STATE]["q50"] = (np.array(stats[STATE]["q50"]) + 0.05 * spread).tolist()
    stats["action"]["mean"] = (np.array(stats["action"]["mean"]) * (1 + 3e-5)).tolist()
    stats[FRONT]["mean"] = (np.array(stats[FRONT]["mean"]) + 0.004).tolist()
    stats[FRONT]["count"] = [99999]


def test_statistics_made_by_another_method_are_carried_over(copied: Any, tmp_path: Path) -> None:
    root = copied("v3.0")
    edit_whole(root, approximate)
    before = whole(root)
    report = convert(root, tmp_path / "out")
    assert report.notes == []
    assert report.computed == []
    assert {STATE, "action", FRONT} <= set(report.carried)
    after = whole(tmp_path / "out")
    assert after[STATE]["q50"].tolist() == before[STATE]["q50"].tolist()
    assert after["action"]["mean"].tolist() == before["action"]["mean"].tolist()
    assert after[FRONT]["mean"].ravel().tolist() == before[FRONT]["mean"].ravel().tolist()


EPISODES: dict[str, tuple[Callable[[int, Stats], Any], str]] = {
    "of some episodes": (lambda e, s: s.pop("action") if e == 1 else None, ""),
    "NaN": (lambda e, s: s["action"].update(mean=[float("nan")] * 3), "NaN or infinite"),
    "rescaled": (lambda e, s: s["action"].update(mean=[57 * v for v in s["action"]["mean"]]), "by the content"),
    "other episode": (lambda e, s: s["index"].update(max=[9999]) if e == 2 else None, "in 1 of 3 episodes"),
    "other shape": (lambda e, s: s["action"].update(std=[[0.1]] * (e + 1)), "as std where there are 3"),
    "nested": (lambda e, s: s["action"].update({k: [v] for k, v in s["action"].items() if k != "count"}), ""),
    "counted otherwise": (lambda e, s: s["action"].update(count=[3]), "counted over 3 frames"),
    "pictures of 0 to 255": (lambda e, s: s[FRONT].update(mean=[[[90.0]]] * 3, max=[[[255.0]]] * 3), "beyond 0 to 1"),
    "flat images": (lambda e, s: s[FRONT].update({k: np.ravel(v).tolist() for k, v in s[FRONT].items()}), ""),
    "of no feature": (lambda e, s: s.update(gone=dict(s["action"])), "'gone' belong to no feature"),
}


@pytest.mark.parametrize("kind", EPISODES)
def test_statistics_of_episodes_that_are_not_of_the_content(kind: str, copied: Any, tmp_path: Path) -> None:
    root = copied("v2.1")
    change, said = EPISODES[kind]
    edit_episodes(root, lambda episode, stats: change(episode, stats) and None)
    report = convert(root, tmp_path / "out")
    assert any(said in note for note in report.notes) if said else report.notes == []
    assert_right(tmp_path / "out", root)
    pictures = whole(tmp_path / "out")[FRONT]
    assert pictures["mean"].shape == (3, 1, 1)
    assert 0 < pictures["mean"].min() < pictures["mean"].max() < 1
    assert pictures["max"].max() <= 1
    assert main(["dataset", "exclude", str(root), str(tmp_path / "less"), "--episodes", "0"]) == 0
    rows = column(root, "action")[LENGTHS[0] :]
    assert np.allclose(whole(tmp_path / "less")["action"]["mean"], rows.mean(0), atol=1e-5)


def test_columns_of_statistics_that_only_some_episode_tables_have(copied: Any, tmp_path: Path) -> None:
    root = copied("v3.0")
    path = root / "meta" / "episodes" / "chunk-000" / "file-000.parquet"
    table = pq.read_table(path)
    lacking = [name for name in table.column_names if name.startswith(("stats/action", f"stats/{FRONT}/q"))]
    pq.write_table(table.slice(0, 2), path)
    pq.write_table(table.slice(2).drop_columns(lacking), path.with_name("file-001.parquet"))
    for to in ("v3.0", "v2.1"):
        report = convert(root, tmp_path / f"to {to}", CopyOptions(version=to))
        assert "action" in report.computed
        assert_right(tmp_path / f"to {to}", root)
    assert main(["dataset", "merge", str(tmp_path / "union"), str(root), str(tmp_path / "to v2.1")]) == 0
    assert whole(tmp_path / "union")["action"]["count"].tolist() == [2 * sum(LENGTHS)]


def test_a_matrix_has_statistics_as_lerobot_counts_them(copied: Any, tmp_path: Path) -> None:
    root = copied("v2.1")
    info = json.loads((root / "meta" / "info.json").read_text())
    edit_info(root, features={**info["features"], "pose": {"dtype": "float32", "shape": [2, 3], "names": None}})
    values = np.random.default_rng(0).normal(size=(sum(LENGTHS), 2, 3)).astype(np.float32)
    start = 0
    for path in sorted((root / "data").rglob("*.parquet")):
        table = pq.read_table(path)
        rows = values[start : start + len(table)].tolist()
        start += len(table)
        pq.write_table(table.append_column("pose", pa.array(rows, pa.list_(pa.list_(pa.float32())))), path)
    convert(root, tmp_path / "out")
    found = whole(tmp_path / "out")["pose"]
    assert np.allclose(found["mean"], values.reshape(-1, 3).mean(0), atol=1e-5)
    assert found["count"].tolist() == [sum(LENGTHS)]
    again = convert(tmp_path / "out", tmp_path / "again", CopyOptions(version="v2.1"))
    assert again.computed == []


def test_totals_and_splits_are_counted(copied: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = copied("v3.0")
    edit_info(root, total_episodes=12, total_frames=999, splits={"train": "0:10", "test": "10:12"})
    assert main(["dataset", "convert", str(root), str(tmp_path / "out")]) == 0
    assert "splits (train 0:10, test 10:12) are not of its episodes" in capsys.readouterr().out
    info = json.loads((tmp_path / "out" / "meta" / "info.json").read_text())
    assert (info["total_episodes"], info["total_frames"], info["splits"]) == (3, sum(LENGTHS), {"train": "0:3"})
    assert main(["dataset", "compare", str(root), str(tmp_path / "out")]) == 0
    assert "splits" in capsys.readouterr().out
    edit_info(root, total_episodes=7, splits={"train": "0:2", "test": "2:3"})
    convert(root, tmp_path / "kept")
    info = json.loads((tmp_path / "kept" / "meta" / "info.json").read_text())
    assert info["splits"] == {"train": "0:2", "test": "2:3"}


@pytest.mark.parametrize(("rate", "written"), [(10.0, 10), (10, 10), (29.97, 29.97)])
def test_whole_numbers_are_written_as_such(rate: float, written: float, build_v21: Any, tmp_path: Path) -> None:
    root = build_v21(fps=rate)
    info = json.loads((root / "meta" / "info.json").read_text())
    camera = info["features"]["observation.images.top"]
    camera["info"] = {"video.fps": float(rate), "video.height": 32.0, "video.codec": "h264"}
    edit_info(root, chunks_size=1000.0, features=info["features"])
    rows = [json.loads(line) for line in (root / "meta" / "episodes.jsonl").read_text().splitlines()]
    write_lines(root / "meta" / "episodes.jsonl", [{**row, "length": float(row["length"])} for row in rows])
    for to in ("v3.0", "v2.1"):
        convert(root, tmp_path / to, CopyOptions(version=to))
        text = (tmp_path / to / "meta" / "info.json").read_text()
        found = json.loads(text)
        details = found["features"]["observation.images.top"]["info"]
        numbers = [found["fps"], details["video.fps"], details["video.height"], found["chunks_size"]]
        assert numbers == [written, written, 32, 1000]
        assert [type(number) for number in numbers] == [type(written), type(written), int, int]
        assert all(isinstance(found[key], int) for key in found if key.startswith("total_"))


def test_a_result_that_reads_otherwise_than_written_is_the_disks(
    copied: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only then: what is unequal though every file is as it was written is a fault of ours."""
    from smolpilot.datasets.copy import engine
    from smolpilot.datasets.format.meta import read_meta as read

    def change_values(root: Path, **options: Any) -> Any:
        path = next((root / "data").rglob("*.parquet"))
        table = pq.read_table(path)
        states = pa.array([[1.0, 2.0, 3.0]] * len(table), table.schema.field(STATE).type)
        pq.write_table(table.set_column(table.schema.get_field_index(STATE), STATE, states), path)
        return read(root, **options)

    monkeypatch.setattr(engine, "read_meta", change_values)
    assert main(["dataset", "convert", str(copied("v3.0")), str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert "data/chunk-000/file-000.parquet reads otherwise than written" in said
    assert not (tmp_path / "out").exists()

    def change_meta(root: Path, **options: Any) -> Any:
        edit_whole(root, lambda stats: stats["action"].update(mean=[7.0, 7.0, 7.0]))
        return read(root, **options)

    monkeypatch.setattr(engine, "read_meta", change_meta)
    assert main(["dataset", "convert", str(copied("v2.1")), str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert "not equal to its source" in said
    assert "disk" not in said
