"""Notes in the episode list, of any type, survive conversions; after an error nothing is left behind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from smolpilot.cli.main import main
from smolpilot.datasets import read_meta

from .helpers_recordings import tree_hash
from .helpers_small import write_small


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three short episodes as v2.1 and as v3.0; never to be changed."""
    return write_small(tmp_path_factory.mktemp("noted"), (5, 6, 7))


def rows_of(root: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root / "meta" / "episodes.jsonl").read_text().splitlines()]


def noted(source: Path, target: Path, fields: list[dict[str, Any]]) -> Path:
    """A copy of the v2.1 dataset with these fields in its episode list."""
    shutil.copytree(source, target)
    rows = [row | more for row, more in zip(rows_of(target), fields, strict=True)]
    (target / "meta" / "episodes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return target


def converted(source: Path, target: Path, version: str, verb: str = "convert") -> Path:
    to = ["--to", version] if verb == "convert" else []
    assert main(["dataset", verb, str(source), str(target), *to]) == 0
    return target


MIXED: dict[str, list[Any]] = {
    "whole and text": [1, "a", 2],
    "too large": [10**30, 1, -(10**40)],
    "beyond 64 bits": [2**63, -1, 2**64],
    "true and 1": [True, 1, 0],
    "shapes": [{"a": 1}, {"b": {"c": [1, "x"]}}, {}],
    "empty objects": [{}, {}, {}],
    "lists": [[1, "a"], [], [[2], None]],
    "list and text": [[1], "a", 1.5],
    "large and half": [2**53 + 1, 0.5, 1],
}
PLAIN: dict[str, list[Any]] = {
    "texts": ["good", "bad", "ümlaut 影"],
    "numbers": [1, 2, 3],
    "fractions": [0.5, 1.5, 2.5],
    "objects": [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}, {"a": 3, "b": "z"}],
    "lists": [[1], [1, 2], []],
}


def test_notes_of_any_type_come_back_as_they_were(
    small: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notes = MIXED | {f"plain {name}": values for name, values in PLAIN.items()}
    fields = [{name: values[episode] for name, values in notes.items()} for episode in range(3)]
    source = noted(small["v2.1"], tmp_path / "source", fields)
    v30 = converted(source, tmp_path / "v30", "v3.0")
    said, stored = capsys.readouterr().err, pq.read_table(v30 / "meta" / "episodes")
    for name, values in notes.items():
        assert (f"The values of '{name}' in the episode list have no one type" in said) is (name in MIXED), name
        texts = [json.dumps(value) for value in values] if name in MIXED else values
        assert stored.column(name).to_pylist() == texts, name
    back = converted(v30, tmp_path / "back", "v2.1")
    assert rows_of(back) == rows_of(source)
    for row, given in zip(rows_of(back), fields, strict=True):
        assert {name: type(row[name]) for name in given} == {name: type(value) for name, value in given.items()}


def test_notes_of_several_types_survive_repairs_renames_and_further_conversions(
    small: dict[str, Path], tmp_path: Path
) -> None:
    values = [1, "a", {"b": [10**30]}]
    source = noted(small["v2.1"], tmp_path / "source", [{"note": value} for value in values])
    v30 = converted(source, tmp_path / "v30", "v3.0")
    (v30 / "meta" / "stats.json").unlink()
    repaired = converted(v30, tmp_path / "repaired", "", "repair")
    renamed = tmp_path / "renamed"
    assert main(["dataset", "rename", str(repaired), str(renamed), "--feature", "front=top"]) == 0
    again = converted(renamed, tmp_path / "again", "v3.0")
    assert [row["note"] for row in rows_of(converted(again, tmp_path / "v21", "v2.1"))] == values


def test_notes_that_only_some_episodes_have_and_numbers_that_are_none(small: dict[str, Path], tmp_path: Path) -> None:
    fields: list[dict[str, Any]] = [{"n": float("nan"), "a": 1}, {"n": 1.0, "a": "y", "b": "x"}, {"n": float("inf")}]
    source = noted(small["v2.1"], tmp_path / "source", fields)
    back = converted(converted(source, tmp_path / "v30", "v3.0"), tmp_path / "back", "v2.1")
    # As texts: NaN is not equal to itself.
    assert [json.dumps(row, sort_keys=True) for row in rows_of(back)] == [
        json.dumps(row, sort_keys=True) for row in rows_of(source)
    ]


def test_fields_never_stand_for_the_formats_own(small: dict[str, Path], tmp_path: Path) -> None:
    """A note called like a column of v3.0 would say that the rows are in another file."""
    hostile = {"data/file_index": 7, "videos/observation.images.front/chunk_index": 9, "stats/action/mean": [1], "n": 1}
    source = noted(small["v2.1"], tmp_path / "source", [hostile] * 3)
    meta = read_meta(converted(source, tmp_path / "v30", "v3.0"))
    assert {episode.data_path.name for episode in meta.episodes} == {"file-000.parquet"}
    assert pq.read_table(tmp_path / "v30" / "meta" / "episodes").column("n").to_pylist() == [1, 1, 1]


def test_types_that_json_has_not_become_texts(
    small: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Path(shutil.copytree(small["v3.0"], tmp_path / "source"))
    path = next((source / "meta" / "episodes").rglob("*.parquet"))
    table = pq.read_table(path)
    table = table.append_column("when", pa.array([0, 1, 2], pa.timestamp("s")))
    table = table.append_column("seal", pa.array([b"\xff", b"a", None]))
    pq.write_table(table, path)
    same = converted(source, tmp_path / "same", "v3.0")
    assert pq.read_table(same / "meta" / "episodes").column("seal").to_pylist() == [b"\xff", b"a", None]
    capsys.readouterr()
    rows = rows_of(converted(source, tmp_path / "v21", "v2.1"))
    assert [row["when"] for row in rows] == ["1970-01-01T00:00:00", "1970-01-01T00:00:01", "1970-01-01T00:00:02"]
    assert [row.get("seal") for row in rows] == ["/w==", "YQ==", None]
    assert "The values of 'when' in the episode list have a type that JSON has not" in capsys.readouterr().err


# Text in tables that is no UTF-8


def broken(values: list[bytes]) -> pa.Array:
    """Texts of which one holds a byte that no UTF-8 has, as a writer in C would leave it."""
    raw = pa.array(values, pa.binary())
    return pa.Array.from_buffers(pa.string(), len(raw), raw.buffers())


@pytest.mark.parametrize("where", ["task", "note"])
def test_text_in_tables_that_is_no_utf8_is_one_error_and_mended_by_a_repair(
    small: dict[str, Path], tmp_path: Path, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Path(shutil.copytree(small["v3.0"], tmp_path / "source"))
    path = next((source / "meta" / "episodes").rglob("*.parquet"))
    if where == "task":
        path = source / "meta" / "tasks.parquet"
        table = pq.read_table(path)
        place = table.column_names.index("task" if "task" in table.column_names else "__index_level_0__")
        column = broken([b"touch the caf\xe9", b"touch the blue block"])
        table = table.set_column(place, table.column_names[place], column)
    else:
        table = pq.read_table(path).append_column("note", broken([b"caf\xe9", b"b", b"c"]))
    pq.write_table(table, path)
    before = set(tmp_path.iterdir())
    verbs = [["convert", str(source), str(tmp_path / "out")]]
    for words in [*verbs, *([["info", str(source)], ["tasks", str(source)]] if where != "note" else [])]:
        assert main(["dataset", *words]) == 1
        said = capsys.readouterr().err
        assert "holds text that is no UTF-8" in said
        assert f"smolpilot dataset repair {source} DST" in said
        assert set(tmp_path.iterdir()) == before
    assert main(["dataset", "check", str(source)]) == 1
    assert "text that is no UTF-8" in capsys.readouterr().out
    assert main(["dataset", "repair", str(source), str(tmp_path / "out")]) == 0
    if where == "task":
        assert "touch the caf\ufffd" in read_meta(tmp_path / "out").tasks.values()
    else:
        notes = pq.read_table(tmp_path / "out" / "meta" / "episodes").column("note").to_pylist()
        assert notes == ["caf\ufffd", "b", "c"]


def test_a_column_of_text_that_is_no_utf8_is_left_out_of_samples_and_copied_as_it_is(
    small: dict[str, Path], tmp_path: Path
) -> None:
    from smolpilot.datasets import open_dataset

    source = Path(shutil.copytree(small["v2.1"], tmp_path / "source"))
    info = json.loads((source / "meta" / "info.json").read_text())
    info["features"]["remark"] = {"dtype": "string", "shape": [1], "names": None}
    (source / "meta" / "info.json").write_text(json.dumps(info))
    for path in (source / "data").rglob("*.parquet"):
        table = pq.read_table(path)
        pq.write_table(table.append_column("remark", broken([b"caf\xe9"] * len(table))), path)
    assert open_dataset(source).meta.left_out["remark"] == "texts that are no UTF-8"
    copy = converted(source, tmp_path / "copy", "v2.1")
    path = next((copy / "data").rglob("*.parquet"))
    assert pq.read_table(path).column("remark").cast(pa.binary()).to_pylist()[0] == b"caf\xe9"
    assert main(["dataset", "check", str(source)]) in (0, 1)


# Nothing stays after a clear error


@pytest.mark.parametrize("verb", ["convert", "repair", "split", "rename"])
def test_an_error_in_the_data_leaves_nothing_behind(
    small: dict[str, Path], tmp_path: Path, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Found when parts are written already: the second table does not fit the first."""
    source = Path(shutil.copytree(small["v2.1"], tmp_path / "source"))
    path = source / "data" / "chunk-000" / "episode_000002.parquet"
    table = pq.read_table(path)
    pq.write_table(table.slice(0, 3), path)
    before = tree_hash(tmp_path)
    out = str(tmp_path / "out")
    words = {
        "convert": [str(source), out, "--jobs", "1"],
        "repair": [str(source), out],
        "split": [str(source), out, "--parts", "a=0", "b=1,2"],
        "rename": [str(source), out, "--feature", "front=top"],
    }[verb]
    code = main(["dataset", verb, *words])
    if verb == "repair":
        # It leaves the episode out, and says so.
        assert code == 0
        assert "episode 2" in capsys.readouterr().out
        return
    assert code == 1
    assert "3 rows" in capsys.readouterr().err
    assert tree_hash(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
