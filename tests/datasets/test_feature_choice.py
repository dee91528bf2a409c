"""`--features` and `--without`: copies without features that nobody needs, or that cannot be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from smolpilot.cli.main import main
from smolpilot.datasets import open_dataset, read_meta
from smolpilot.datasets.compare import compare
from smolpilot.datasets.read.tables import load_tables
from smolpilot.datasets.statistics.recompute import find_deviations, recompute_statistics

INDEX = {"timestamp", "frame_index", "episode_index", "index", "task_index"}
WRIST, TOP = "observation.images.wrist", "observation.images.top"


def features(root: Path) -> set[str]:
    return set(json.loads((root / "meta" / "info.json").read_text())["features"])


def columns(root: Path) -> set[str]:
    return {name for path in (root / "data").rglob("*.parquet") for name in pq.read_schema(path).names}


def run(*words: Any) -> int:
    return main(["dataset", *map(str, words)])


@pytest.fixture
def messy(build_v21: Any) -> Path:
    """With a ragged column, one of texts with gaps, both undeclared but for the second, and a camera without videos."""
    root = build_v21()
    for path in (root / "data").rglob("*.parquet"):
        table = pq.read_table(path)
        ragged = [[1.0] * (row % 3) for row in range(len(table))]
        texts = ["left" if row % 2 else None for row in range(len(table))]
        table = table.append_column("ragged", pa.array(ragged)).append_column("note", pa.array(texts))
        pq.write_table(table, path)
    info = json.loads((root / "meta" / "info.json").read_text())
    info["features"]["note"] = {"dtype": "string", "shape": [1], "names": None}
    info["features"][WRIST] = info["features"][TOP]
    (root / "meta" / "info.json").write_text(json.dumps(info))
    return root


@pytest.mark.parametrize("to", ["v3.0", "v2.1"])
def test_what_cannot_be_read_is_left_out(messy: Path, to: str, tmp_path: Path, capsys: Any) -> None:
    plain, out = tmp_path / "plain", tmp_path / "out"
    assert run("convert", messy, plain, "--to", to) == 0
    assert "wrist" in str(capsys.readouterr())
    assert WRIST not in features(plain)  # never recorded
    assert columns(plain) == INDEX | {"observation.state", "action", "ragged", "note"}
    assert run("convert", messy, out, "--to", to, "--without", "ragged", "note", "wrist") == 0
    assert "Left out by choice: note, observation.images.wrist, ragged" in capsys.readouterr().out
    assert features(out) == INDEX | {"observation.state", "action", TOP}
    assert columns(out) == INDEX | {"observation.state", "action"}
    assert WRIST not in read_meta(out).statistics
    assert not list(out.rglob(f"*{WRIST}*"))
    dataset = open_dataset(out)
    assert torch.isfinite(dataset.batch(range(len(dataset)))[TOP]).all()


@pytest.mark.parametrize("verb", ["exclude", "split", "merge", "tasks"])
def test_every_edit_verb_keeps_only_the_chosen_features(verb: str, tiny_dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words: dict[str, list[Any]] = {
        "exclude": ["exclude", tiny_dataset, out, "--episodes", "1,3"],
        "split": ["split", tiny_dataset, out, "--parts", "a=0,1", "b=rest"],
        "merge": ["merge", out, tiny_dataset],
        "tasks": ["tasks", tiny_dataset, out, "--rename", "0=another text"],
    }
    assert run(*words[verb], "--features", "front") == 0
    for root in [out / "a", out / "b"] if verb == "split" else [out]:
        meta = read_meta(root)
        assert features(root) == INDEX | {"observation.state", "action", "observation.images.front"}
        assert meta.camera_names == ["front"]
        assert set(meta.statistics) == features(root)
        assert [path.name for path in (root / "videos").iterdir()] == ["observation.images.front"]
        history = json.loads((root / "meta" / "smolpilot_history.json").read_text())
        assert history["edits"][-1]["without"] == [WRIST]


def test_recordings_become_alike(tiny_dataset: Path, tmp_path: Path, capsys: Any) -> None:
    one = tmp_path / "one"
    assert run("exclude", tiny_dataset, one, "--episodes", "0", "--without", WRIST) == 0
    capsys.readouterr()
    assert run("merge", tmp_path / "both", one, tiny_dataset) == 1
    said = capsys.readouterr().err
    assert f"Leave it out: --without {WRIST}" in said
    assert run("merge", tmp_path / "both", one, tiny_dataset, "--without", WRIST) == 0
    assert read_meta(tmp_path / "both").camera_names == ["front"]
    assert len(read_meta(tmp_path / "both").episodes) == 11


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--without", "observation.images.wrst"], "Did you mean 'observation.images.wrist'?"),
        (["--features", "frnt"], "there is no such feature"),
        (["--without", "action"], "cannot be left out"),
        (["--without", "observation.state"], "cannot be left out"),
        (["--without", "task_index"], "cannot be left out"),
        (["--without", "wrist", "--features", "front"], "given both"),
    ],
)
@pytest.mark.parametrize("verb", ["convert", "exclude"])
def test_misuse(verb: str, words: list[str], said: str, tiny_dataset: Path, tmp_path: Path, capsys: Any) -> None:
    more = ["--episodes", "0"] if verb == "exclude" else []
    assert run(verb, tiny_dataset, tmp_path / "out", *more, *words) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["list", "large", "fixed"])
@pytest.mark.parametrize("to", ["v3.0", "v2.1"])
def test_lists_of_one_number_become_numbers(kind: str, to: str, build_v21: Any, tmp_path: Path, capsys: Any) -> None:
    root = build_v21()
    for path in (root / "data").rglob("*.parquet"):
        table = pq.read_table(path)
        for name in INDEX & set(table.column_names):
            wrapped = {"list": pa.list_, "large": pa.large_list, "fixed": lambda value: pa.list_(value, 1)}[kind]
            cells = pa.array([[value] for value in table[name].to_pylist()], wrapped(table.schema.field(name).type))
            table = table.set_column(table.schema.get_field_index(name), name, cells)
        pq.write_table(table, path)
    assert run("convert", root, tmp_path / "out", "--to", to) == 0
    assert "Lists of one number are written as plain numbers" in capsys.readouterr().out
    for path in (tmp_path / "out" / "data").rglob("*.parquet"):
        assert not any(pa.types.is_nested(pq.read_schema(path).field(name).type) for name in INDEX)
    assert compare(root, tmp_path / "out").equal
    assert run("exclude", root, tmp_path / "less", "--episodes", "1") == 0
    assert open_dataset(tmp_path / "less").episode_index.max() == 1


def test_row_numbers_of_pandas_are_left_out(build_v21: Any, tmp_path: Path, capsys: Any) -> None:
    root = build_v21()
    for path in (root / "data").rglob("*.parquet"):
        table = pq.read_table(path)
        pq.write_table(table.append_column("__index_level_0__", pa.array(range(7, 7 + len(table)))), path)
    assert run("convert", root, tmp_path / "out") == 0
    assert "Row numbers that pandas left in the tables are left out" in capsys.readouterr().out
    assert "__index_level_0__" not in columns(tmp_path / "out") | features(tmp_path / "out")
    assert compare(root, tmp_path / "out").equal


def edit_stats(root: Path, feature: str, **values: Any) -> None:
    path = root / "meta" / "stats.json"
    stats = json.loads(path.read_text())
    stats[feature].update(values)
    path.write_text(json.dumps(stats))


@pytest.mark.parametrize(
    ("feature", "values", "code"),
    [
        ("task_index", {"q01": [4e-16]}, 0),
        ("task_index", {"mean": [0.51219515]}, 0),
        ("observation.state", {"std": [0.0, 0.0, 0.0]}, 1),
        ("action", {"count": [3]}, 1),
        ("observation.images.front", {"count": [77]}, 0),
        ("observation.images.front", {"mean": [[[0.9]], [[0.9]], [[0.9]]]}, 1),
    ],
)
def test_rounding_is_no_difference_and_other_statistics_are(
    feature: str, values: dict[str, Any], code: int, tiny_dataset: Path, tmp_path: Path, capsys: Any
) -> None:
    assert run("convert", tiny_dataset, tmp_path / "other") == 0
    edit_stats(tmp_path / "other", feature, **values)
    capsys.readouterr()
    assert run("compare", tiny_dataset, tmp_path / "other") == code
    said = capsys.readouterr().out
    assert ("only statistics differ" in said) == (code == 1)


def test_a_constant_joint_may_have_the_noise_of_float32_sums(build_v21: Any, tmp_path: Path) -> None:
    root = build_v21()
    for path in (root / "data").rglob("*.parquet"):
        table = pq.read_table(path)
        still = pa.array([[93.7, 0.0]] * len(table), table.schema.field("action").type)
        pq.write_table(table.set_column(table.schema.get_field_index("action"), "action", still), path)
    for name in ("a", "b"):
        assert run("convert", root, tmp_path / name) == 0
    edit_stats(tmp_path / "b", "action", std=[0.03, 4e-16], mean=[93.70004, 1e-10], q50=[93.7001, -1e-10])
    assert run("compare", tmp_path / "a", tmp_path / "b") == 0
    edit_stats(tmp_path / "b", "action", std=[0.5, 0.0])
    assert run("compare", tmp_path / "a", tmp_path / "b") == 1


def test_recomputed_statistics_do_not_depend_on_the_jobs(tiny_dataset: Path, capsys: Any) -> None:
    meta = read_meta(tiny_dataset)
    tables = load_tables(meta, meta.episodes)
    alone, shared = (recompute_statistics(meta, tables, jobs=jobs) for jobs in (1, 3))
    for name, stats in alone.items():
        for key, value in stats.items():
            assert value.tobytes() == shared[name][key].tobytes(), (name, key)
    assert find_deviations(meta, tables, alone, jobs=1) == find_deviations(meta, tables, shared, jobs=3) == []
    assert run("stats", tiny_dataset, "--recompute", "--jobs", "2") == 0
    assert run("stats", tiny_dataset, "--recompute", "--jobs", "-1") == 2
