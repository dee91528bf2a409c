"""What no policy reads and no sample can carry is left out with a reason; what training needs stays strict."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from smolpilot.cli.main import main
from smolpilot.common.errors import DatasetError
from smolpilot.datasets import open_dataset, read_meta

from .test_bad_input import the_table

type Values = Callable[[int], pa.Array]


def add(root: Path, name: str, values: Values, feature: dict[str, Any] | None, path: Path | None = None) -> None:
    """A further column in a table, and in the features unless `feature` is None."""
    path = path or the_table(root)
    table = pq.read_table(path)
    pq.write_table(table.append_column(name, values(len(table))), path)
    if feature is not None:
        declare(root, name, feature)


def declare(root: Path, name: str, feature: dict[str, Any]) -> None:
    path = root / "meta" / "info.json"
    info = json.loads(path.read_text())
    info["features"][name] = feature
    path.write_text(json.dumps(info))


def feature(dtype: str, *shape: int | None) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "names": None}


def mostly(value: Any, kind: pa.DataType | None = None) -> Values:
    """A column with an empty cell in every third row."""
    return lambda n: pa.array([None if i % 3 == 0 else value for i in range(n)], kind)


LEFT_OUT: dict[str, tuple[Values, dict[str, Any] | None, str]] = {
    "numbers with empty cells": (mostly(1.0), feature("float32", 1), "empty cells in 41 of 123 rows"),
    "texts with empty cells": (mostly("grasp"), feature("string", 1), "empty cells in 41 of 123 rows"),
    "nothing at all": (lambda n: pa.nulls(n), feature("string", 1), "without any value"),
    "ragged lists": (lambda n: pa.array([[1.0] * (i % 3) for i in range(n)]), feature("float32", 2), "lists of 0 to 2"),
    "ragged, right in sum": (
        lambda n: pa.array([[1.0] * (1 + 2 * (i % 2)) for i in range(n - 1)] + [[1.0, 2.0]]),
        feature("float32", 2),
        "lists of 1 to 3",
    ),
    "ragged matrices": (
        lambda n: pa.array([[[1.0, 2.0], [3.0] * (1 + i % 2)] for i in range(n)]),
        feature("float32", 2, 2),
        "lists of 1 to 2",
    ),
    "holes in lists": (lambda n: pa.array([[1.0, None]] * n), feature("float32", 2), "empty places"),
    "another width": (lambda n: pa.array([[1.0, 2.0]] * n), feature("float32", 3), "2 numbers per row"),
    "nested": (lambda n: pa.array([{"role": "user", "x": 1}] * n), feature("language", 1), "nested entries"),
    "lists of nested": (lambda n: pa.array([[{"role": "user"}]] * n), feature("language", 1), "nested entries"),
    "lists of texts": (lambda n: pa.array([["a", "b"]] * n), feature("string", 2), "lists of texts"),
    "bytes": (lambda n: pa.array([b"x"] * n), feature("string", 1), "type binary"),
    "texts for numbers": (lambda n: pa.array(["1"] * n), feature("float32", 1), "meta/info.json says float32"),
    "no fixed shape": (lambda n: pa.array([[1.0]] * n), feature("float32", None), "no fixed shape"),
    "undeclared": (lambda n: pa.array(np.arange(n)), None, "does not declare"),
    "images as numbers": (lambda n: pa.array([[0.5] * 12] * n), feature("float32", 3, 2, 2), "8-bit colors"),
}


@pytest.mark.parametrize("kind", LEFT_OUT)
def test_what_samples_cannot_carry_is_left_out_and_said(copy: Path, kind: str, capsys: Any) -> None:
    values, declared, reason = LEFT_OUT[kind]
    key = "observation.images.heat" if kind == "images as numbers" else "extra"
    before = open_dataset(copy)[20]
    add(copy, key, values, declared)
    dataset = open_dataset(copy)
    assert reason in dataset.meta.left_out[key]
    after = dataset[20]
    assert set(after) == set(before)
    assert all(torch.equal(after[name], before[name]) for name in before if name != "task")
    assert main(["dataset", "info", str(copy), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert reason in document["left_out"][key]
    assert f"--without {key}" in document["notes"][-1]


def test_every_verb_that_reads_continues_and_says_it_once(copy: Path, tmp_path: Path, capsys: Any) -> None:
    values, declared, reason = LEFT_OUT["ragged lists"]
    add(copy, "extra", values, declared)
    for command in (
        ["dataset", "info", str(copy)],
        ["dataset", "stats", str(copy), "--recompute"],
        ["dataset", "view", str(copy), "--no-check", "--out", str(tmp_path / "page")],
        ["dataset", "tasks", str(copy)],
        ["preflight", "--dataset", str(copy)],
    ):
        # What only the tables tell is not known to verbs that do not read them.
        code = main(command)
        out, err = capsys.readouterr()
        assert code == 0, out + err
        said = "".join((out + err).split())
        assert said.count("--withoutextra") == (command[1] not in ("view", "tasks")), out + err
        assert not said.count("--withoutextra") or "".join(reason.split()) in said


CARRIED: dict[str, tuple[Values, dict[str, Any], torch.Tensor | str]] = {
    "matrix": (
        lambda n: pa.array([[[i, 1.0, 2.0], [3.0, 4.0, 5.0]] for i in range(n)], pa.list_(pa.list_(pa.float32()))),
        feature("float32", 2, 3),
        torch.tensor([[20.0, 1.0, 2.0], [3.0, 4.0, 5.0]]),
    ),
    "list of one": (lambda n: pa.array([[i] for i in range(n)]), feature("int64", 1), torch.tensor(20)),
    "float64": (lambda n: pa.array(np.arange(n) / 7), feature("float64", 1), torch.tensor(20 / 7)),
    "float16": (lambda n: pa.array(np.arange(n).astype(np.float16)), feature("float16", 1), torch.tensor(20.0)),
    "uint16": (lambda n: pa.array(np.arange(n), pa.uint16()), feature("uint16", 1), torch.tensor(20)),
    "large lists": (
        lambda n: pa.array([[i, -i] for i in range(n)], pa.large_list(pa.int64())),
        feature("int64", 2),
        torch.tensor([20, -20]),
    ),
    "truth": (
        lambda n: pa.array([[i % 2 == 0, True] for i in range(n)]),
        feature("bool", 2),
        torch.tensor([True, True]),
    ),
    "categories": (lambda n: pa.array([f"w{i}" for i in range(n)]).dictionary_encode(), feature("string", 1), "w20"),
}


@pytest.mark.parametrize("kind", CARRIED)
def test_numbers_of_fixed_shape_and_whole_texts_are_carried(copy: Path, kind: str) -> None:
    values, declared, expected = CARRIED[kind]
    add(copy, "extra", values, declared)
    dataset = open_dataset(copy)
    assert dataset.meta.left_out == {}
    found = dataset[20]["extra"]
    if isinstance(expected, str):
        assert found == expected
    else:
        assert found.dtype == expected.dtype
        assert torch.equal(found, expected)


def test_a_column_that_only_some_files_have(build_v21: Any) -> None:
    """Also where it is in the first file, and where it is in another: it would be joined out of step."""
    root = build_v21()
    tables = sorted(root.rglob("*.parquet"))
    add(root, "first", lambda n: pa.array(np.arange(n)), feature("int64", 1), tables[0])
    add(root, "last", lambda n: pa.array(np.arange(n)), feature("int64", 1), tables[2])
    add(root, "mixed", lambda n: pa.array(np.arange(n)), feature("int64", 1), tables[0])
    for path in tables[1:]:
        add(root, "mixed", lambda n: pa.array(["x"] * n), feature("string", 1), path)
    declare(root, "never", feature("float32", 1))
    dataset = open_dataset(root)
    assert dataset.meta.left_out["first"] == "only 1 of 3 data files have it"
    assert dataset.meta.left_out["last"] == "only 1 of 3 data files have it"
    assert "no table has it" in dataset.meta.left_out["never"]
    assert "mixed" in dataset.meta.left_out
    assert not {"first", "last", "mixed", "never"} & set(dataset[0])
    assert dataset[-1]["observation.state"].tolist() == [204.0, 2.0]


def test_pandas_own_index_is_named(copy: Path) -> None:
    add(copy, "__index_level_0__", lambda n: pa.array(np.arange(n)), None)
    assert "pandas' own index" in open_dataset(copy).meta.left_out["__index_level_0__"]


@pytest.mark.parametrize("column", ["index", "episode_index", "frame_index", "task_index"])
@pytest.mark.parametrize("form", ["float64", "lists", "int32"])
def test_running_numbers_in_other_forms_are_whole_numbers(copy: Path, column: str, form: str) -> None:
    expected = open_dataset(copy)[40][column]
    replace(copy, column, lambda old: reformed(old, form))
    found = open_dataset(copy)[40][column]
    assert found.dtype == torch.int64
    assert torch.equal(found, expected)


def reformed(column: pa.ChunkedArray, form: str) -> pa.Array:
    values = column.to_numpy()
    if form == "lists":
        return pa.array([[value] for value in values.tolist()])
    return pa.array(values.astype(form))


def replace(root: Path, column: str, change: Callable[[pa.ChunkedArray], pa.Array]) -> None:
    table = pq.read_table(the_table(root))
    place = table.column_names.index(column)
    pq.write_table(table.set_column(place, column, change(table[column])), the_table(root))


type Cells = list[Any]

STRICT: list[tuple[str, Callable[[Cells], Cells], str]] = [
    ("frame_index", lambda c: [1.5 if i == 7 else float(v) for i, v in enumerate(c)], "1.5 in row 7"),
    ("task_index", lambda c: [None if i == 9 else v for i, v in enumerate(c)], "first is row 9"),
    ("index", lambda c: [str(v) for v in c], "is of type string"),
    (
        "timestamp",
        lambda c: [float("nan") if i == 20 else v for i, v in enumerate(c)],
        "stamp is nan in episode 1, frame 2",
    ),
    ("action", lambda c: [None if i == 3 else v for i, v in enumerate(c)], "1 empty rows"),
    ("action", lambda c: [v[: 2 + 2 * (i % 2)] + v[: i % 2] for i, v in enumerate(c)], "lists of 2 to 4"),
    ("action", lambda c: [[v[:2], v[:1]] for v in c], "lists of 1 to 2"),
]


@pytest.mark.parametrize(("column", "change", "found"), STRICT)
def test_what_training_needs_stays_strict(copy: Path, column: str, change: Any, found: str) -> None:
    replace(copy, column, lambda cells: pa.array(change(cells.to_pylist())))
    with pytest.raises(DatasetError) as error:
        open_dataset(copy)
    assert found in error.value.found
    assert f"smolpilot dataset repair {copy} DST" in error.value.fix


def test_images_in_tables_that_are_not_there(build_v21: Any) -> None:
    key = "observation.images.top"
    root = build_v21(pictures_in_table=True)
    declare(root, "observation.images.side", {"dtype": "image", "shape": [32, 32, 3], "names": None})
    dataset = open_dataset(root)
    assert dataset.meta.camera_names == ["top"]
    assert "no table holds an image" in dataset.meta.left_out["observation.images.side"]
    tables = sorted(root.rglob("*.parquet"))
    whole = pq.read_table(tables[1])
    cells = whole[key].to_pylist()
    place, kind = whole.column_names.index(key), whole.schema.field(key).type
    cells[3] = {"bytes": None, "path": None}
    pq.write_table(whole.set_column(place, key, pa.array(cells, kind)), tables[1])
    with pytest.raises(DatasetError, match="camera 'top' has no image in 1 row of"):
        open_dataset(root)
    pq.write_table(whole.drop_columns([key]), tables[1])
    with pytest.raises(DatasetError, match="camera 'top' has no images in episodes 1, though"):
        open_dataset(root)
    for path in (tables[0], tables[2]):
        table = pq.read_table(path)
        pq.write_table(table.drop_columns([key]), path)
    assert open_dataset(root).meta.camera_names == []


def test_the_fingerprint_does_not_depend_on_who_reads(copy: Path) -> None:
    path = copy / "meta" / "info.json"
    info = json.loads(path.read_text())
    info["features"]["observation.images.front"]["info"]["is_depth_map"] = True
    path.write_text(json.dumps(info))
    assert read_meta(copy).camera_names == ["wrist"]
    assert read_meta(copy, trainable=False).camera_names == ["front", "wrist"]
    prints = {
        read_meta(copy).fingerprint,
        read_meta(copy, trainable=False).fingerprint,
        open_dataset(copy).meta.fingerprint,
    }
    assert len(prints) == 1


@pytest.mark.parametrize("shape", [[3, 1], [1, 3], []])
def test_a_state_that_is_no_vector_is_shown_and_not_trained_on(copy: Path, edit_info: Any, shape: list[int]) -> None:
    def change(info: dict[str, Any]) -> None:
        info["features"]["observation.state"].update(shape=shape, names=None)

    edit_info(copy, change)
    with pytest.raises(DatasetError, match=r"'observation\.state' .* has shape"):
        open_dataset(copy)
    if shape:
        assert main(["dataset", "info", str(copy)]) == 0
    else:
        replace(copy, "observation.state", lambda cells: pa.array([row[0] for row in cells.to_pylist()]))
        assert main(["dataset", "info", str(copy)]) == 0
