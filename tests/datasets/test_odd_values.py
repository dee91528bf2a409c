"""Values in metadata that no recorder writes: readers refuse them in a sentence, `check` finds them, `repair` mends."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from smolpilot.cli.main import main
from smolpilot.common.errors import DatasetError
from smolpilot.datasets import open_dataset

from .helpers_damage import change_lines
from .helpers_recordings import TASKS, takes, tree_hash, write_lines, write_v3, write_v21

CAMERA = "observation.images.front"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two short episodes in both layouts; never to be changed."""
    base = tmp_path_factory.mktemp("small")
    few = takes(lengths=(6, 6))
    return {"v3": write_v3(base / "v3", few), "v21": write_v21(base / "v21", few)}


@pytest.fixture
def odd(small: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """A copy, to be made odd."""
    return lambda layout: Path(shutil.copytree(small[layout], tmp_path / "odd"))


def put(root: Path, *path: str, value: Any) -> None:
    """One value in meta/info.json; the last of `path` is its key."""
    file = root / "meta" / "info.json"
    info = json.loads(file.read_text())
    inner = info
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = value
    file.write_text(json.dumps(info))


def assert_refused(root: Path, message: str, out: Path, capsys: Any, *, verbs: tuple[str, ...] = ("info",)) -> None:
    """The verbs refuse it in one short sentence and leave nothing; nobody changes the source."""
    before = tree_hash(root)
    for verb in verbs:
        words = [str(out / "copy")] if verb in ("convert", "repair") else []
        assert main(["dataset", verb, str(root), *words]) == 1, verb
        text = capsys.readouterr().err
        assert message in text
        assert len(text) < 1_500
    with pytest.raises(DatasetError) as caught:
        open_dataset(root)
    assert message in str(caught.value)
    assert tree_hash(root) == before
    assert list(out.iterdir()) == [root]


def assert_found_and_mended(root: Path, code: str, words: str | list[str], capsys: Any) -> Path:
    """`check` names all of it, `repair` writes a copy without, which opens."""
    assert main(["dataset", "check", str(root), "--json", "--jobs", "1"]) == 1
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert "check-failed" not in {one["code"] for one in findings}
    for word in [words] if isinstance(words, str) else words:
        assert any(one["code"] == code and word in one["message"] for one in findings), (word, findings)
    mended = root.parent / "mended"
    main(["dataset", "repair", str(root), str(mended), "--jobs", "1"])
    capsys.readouterr()
    main(["dataset", "check", str(mended), "--json", "--jobs", "1"])
    assert code not in {one["code"] for one in json.loads(capsys.readouterr().out)["findings"]}
    assert len(open_dataset(mended)) > 0
    return mended


INFO: dict[str, tuple[tuple[str, ...], Any, str]] = {
    "info is text": (("features", CAMERA, "info"), "abc", f"'features: {CAMERA}: info' is 'abc'"),
    "info is a list": (("features", CAMERA, "info"), [1], f"'features: {CAMERA}: info' is [1]"),
    "video_info is text": (("features", CAMERA, "video_info"), "abc", f"'features: {CAMERA}: video_info' is 'abc'"),
    "rate of 400 digits": (("features", CAMERA, "info", "video.fps"), 10**400, "video.fps' is 1000"),
    "rate without end": (("features", CAMERA, "info", "video.fps"), float("inf"), "video.fps' is inf"),
    "codec is a list": (("features", CAMERA, "info", "video.codec"), ["h264"], "video.codec' is ['h264']"),
    "a feature is text": (("features", "zz"), "float32", "'features: zz' is 'float32'"),
    "a dtype is a list": (("features", "action", "dtype"), ["float32"], "'features: action: dtype' is ['float32']"),
    "a name without end": (("features", "action", "names"), ["n" * 5_000, "b", "c"], "'features: action: names' is"),
    "robot is no number": (("robot_type",), float("nan"), "'robot_type' is nan"),
    "robot is an object": (("robot_type",), {"a": 1}, "'robot_type' is {'a': 1}"),
    "version is a list": (("codebase_version",), ["v3.0"], "'codebase_version' is ['v3.0']"),
    "version without end": (("codebase_version",), "v" * 10_000, "'codebase_version' is 'vvv"),
    "splits are a list": (("splits",), [1], "'splits' is [1]"),
    "a split of 5000 digits": (("splits",), {"train": "0:" + "9" * 5_000}, "'splits: train' is '0:999"),
    "total is a list": (("total_frames",), [12], "'total_frames' is [12]"),
    "total below nothing": (("total_episodes",), -2, "'total_episodes' is -2"),
    "total without end": (("total_frames",), float("inf"), "'total_frames' is inf"),
    "total of 400 digits": (("total_tasks",), 10**400, "'total_tasks' is 1000"),
}


@pytest.mark.parametrize("kind", INFO)
def test_a_description_that_no_recorder_writes(
    kind: str, odd: Callable[[str], Path], tmp_path: Path, capsys: Any
) -> None:
    path, value, message = INFO[kind]
    root = odd("v3" if len(kind) % 2 else "v21")
    put(root, *path, value=value)
    assert_refused(root, message, tmp_path, capsys)


@pytest.mark.parametrize(("layout", "part"), [("v3", 0), ("v21", 1)])
def test_descriptions_of_many_oddities_are_found_and_mended(
    layout: str, part: int, odd: Callable[[str], Path], capsys: Any
) -> None:
    root, messages, seen = odd(layout), [], set()
    for path, value, message in list(INFO.values())[part :: 1 + part]:
        if not any(path[:count] in seen for count in range(1, 1 + len(path))):
            put(root, *path, value=value)
            seen.add(path)
            messages.append(message)
    assert len(messages) > 5
    assert_found_and_mended(root, "info-damaged", messages, capsys)


FIELDS: dict[str, tuple[tuple[str, ...], Any, str, str]] = {
    "no rate": (("fps",), 0, "has fps 0", "fps-invalid"),
    "rate of 400 digits": (("fps",), 10**400, "has fps 1000", "fps-invalid"),
    "rate in text": (("fps",), "10", "has fps '10'", "fps-invalid"),
    "a billion dimensions": (("features", "action", "shape"), [10**9], "'action'", "features-damaged"),
    "no dimension": (("features", "action", "shape"), [0], "'action'", "features-damaged"),
    "an image without end": (("features", CAMERA, "shape"), [10**6, 10**6, 3], f"'{CAMERA}'", "features-damaged"),
    "a shape in text": (("features", "action", "shape"), "3", "'action'", "features-damaged"),
}


@pytest.mark.parametrize("kind", FIELDS)
def test_fields_that_have_findings_of_their_own(
    kind: str, odd: Callable[[str], Path], tmp_path: Path, capsys: Any
) -> None:
    path, value, message, code = FIELDS[kind]
    root = odd("v21")
    put(root, *path, value=value)
    assert_refused(root, message, tmp_path, capsys)
    if kind in ("rate of 400 digits", "a billion dimensions", "a shape in text"):
        assert_found_and_mended(root, code, message, capsys)


@pytest.mark.parametrize("value", [0, -5, "many", [1], True, float("inf"), 10**400])
def test_episodes_in_a_folder(value: Any, odd: Callable[[str], Path], tmp_path: Path, capsys: Any) -> None:
    root = odd("v21")
    put(root, "chunks_size", value=value)
    assert_refused(root, "has chunks_size ", tmp_path, capsys)


def test_a_feature_of_a_billion_dimensions_gets_no_names(odd: Callable[[str], Path], capsys: Any) -> None:
    root = odd("v3")
    put(root, "features", "zz", value={"dtype": "float32", "shape": [10**9], "names": None})
    assert main(["dataset", "info", str(root), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert "zz" not in summary["features"]
    assert "no fixed shape of a size that can be meant" in summary["left_out"]["zz"]
    put(root, "features", "zz", "shape", value=[10**8])
    assert main(["dataset", "info", str(root), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["features"]["zz"]["names"] is None


TEMPLATES = {
    "an attribute": "data/{INDEX.real}",
    "an entry": "data/{INDEX[0]}",
    "a place": "data/{0}",
    "the next": "data/{}",
    "a width of gigabytes": "data/{INDEX:09999999999d}",
    "a width of kilobytes": "data/{INDEX:099d}",
    "a conversion": "data/{INDEX!r}",
    "a field in a width": "data/{INDEX:{INDEX}}",
    "another type": "data/{INDEX:f}",
    "a fill": "data/{INDEX:*>5}",
    "an unknown field": "data/{nothing}",
    "a brace": "data/{",
    "nothing": "",
    "NUL": "data/\0{INDEX}",
    "a long name": "data/" + "a" * 300 + "{INDEX}",
    "a long path": "a/" * 3_000,
    "above": "data/../../{INDEX}",
    "from the root": "/data/{INDEX}",
}


FILLED = [(kind, "v21", "episode_index") for kind in TEMPLATES] + [
    (kind, "v3", "file_index") for kind in ("an attribute", "a width of gigabytes", "a conversion", "above")
]


@pytest.mark.parametrize(("kind", "layout", "index"), FILLED)
def test_patterns_that_lerobot_does_not_write(
    kind: str, layout: str, index: str, odd: Callable[[str], Path], tmp_path: Path, capsys: Any
) -> None:
    root = odd(layout)
    put(root, "data_path", value=TEMPLATES[kind].replace("INDEX", index))
    assert_refused(root, "The 'data_path' of ", tmp_path, capsys)
    if layout == "v21" and kind in ("an attribute", "a width of gigabytes", "NUL"):
        assert_found_and_mended(root, "template-unusable", "The 'data_path' of meta/info.json ", capsys)


def test_a_camera_has_no_width(odd: Callable[[str], Path], tmp_path: Path, capsys: Any) -> None:
    root = odd("v3")
    put(root, "video_path", value="videos/{video_key:099}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4")
    assert_refused(root, "The 'video_path' of ", tmp_path, capsys)
    assert_found_and_mended(root, "template-unusable", "fills 'video_key' in a form", capsys)


NO_TEXTS = {"null": None, "a number": 5, "a list": ["a"], "NaN": float("nan"), "an object": {"a": 1}, "truth": True}


@pytest.mark.parametrize("kind", NO_TEXTS)
def test_a_task_that_is_no_text(kind: str, odd: Callable[[str], Path], tmp_path: Path, capsys: Any) -> None:
    root = odd("v21")
    change_lines(root, "tasks.jsonl", lambda rows: rows[0].update(task=NO_TEXTS[kind]))
    assert_refused(
        root, "as its instruction, which is no text", tmp_path, capsys, verbs=("info", "tasks", "convert", "stats")
    )
    if kind not in ("null", "a list"):
        return
    mended = assert_found_and_mended(root, "meta-damaged", "as its instruction, which is no text", capsys)
    # The episode list still has the text.
    assert set(open_dataset(mended).instructions) == set(TASKS)


@pytest.mark.parametrize("values", [[None, "x"], [5, 6], [["a"], ["b"]], [float("nan"), 1.0]])
def test_a_task_of_a_table_that_is_no_text(
    values: list[Any], odd: Callable[[str], Path], tmp_path: Path, capsys: Any
) -> None:
    root = odd("v3")
    path = root / "meta" / "tasks.parquet"
    table = pq.read_table(path)
    changed = pa.table({"task_index": table["task_index"], "task": pa.array(values)})
    pq.write_table(changed.replace_schema_metadata(table.schema.metadata), path)
    assert_refused(root, "as its instruction, which is no text", tmp_path, capsys)
    if values[0] is not None:
        return
    mended = assert_found_and_mended(root, "meta-damaged", "as its instruction, which is no text", capsys)
    assert "None" not in open_dataset(mended).instructions


@pytest.mark.parametrize("value", [[None], [5], 5, [["a"]], {"a": 1}, float("nan")])
def test_an_instruction_of_the_episode_list_that_is_no_text(
    value: Any, odd: Callable[[str], Path], tmp_path: Path, capsys: Any
) -> None:
    root = odd("v21")
    change_lines(root, "episodes.jsonl", lambda rows: rows[0].update(tasks=value))
    assert_refused(root, "as an instruction of episode 0, which is no text", tmp_path, capsys)
    if value in ([5], 5):
        mended = assert_found_and_mended(root, "meta-damaged", "which is no text", capsys)
        assert set(open_dataset(mended).instructions) == set(TASKS)


def test_an_episode_table_whose_instructions_are_numbers(
    odd: Callable[[str], Path], tmp_path: Path, capsys: Any
) -> None:
    root = odd("v3")
    _change_table(root, "tasks", pa.array([[5], [6]]))
    assert_refused(root, "as an instruction of episode 0, which is no text", tmp_path, capsys)
    assert_found_and_mended(root, "meta-damaged", "which is no text", capsys)


def _change_table(root: Path, name: str, column: pa.Array) -> None:
    (path,) = (root / "meta" / "episodes").rglob("*.parquet")
    table = pq.read_table(path)
    pq.write_table(table.set_column(table.schema.get_field_index(name), name, column), path)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("length", 2**62, "'length' of the episode table"),
        ("length", -1, "'length' of the episode table"),
        ("episode_index", 2**60, "'episode_index' of the episode table"),
        ("data/file_index", -3, "'data/file_index' of the episode table"),
        (f"videos/{CAMERA}/from_timestamp", float("nan"), "from_timestamp' of the episode table"),
        (f"videos/{CAMERA}/to_timestamp", float("inf"), "to_timestamp' of the episode table"),
    ],
)
def test_places_that_are_none(
    name: str, value: Any, message: str, odd: Callable[[str], Path], tmp_path: Path, capsys: Any
) -> None:
    root = odd("v3")
    _change_table(root, name, pa.array([value, value]))
    assert_refused(root, message, tmp_path, capsys)
    if value != -1 and value != 2**60:
        return
    assert main(["dataset", "check", str(root), "--json", "--jobs", "1"]) == 1
    assert "check-failed" not in capsys.readouterr().out


INDICES = [("episodes.jsonl", "length", value) for value in (10**30, -1, True, "0", None, float("nan"), 1.5, 2**53)] + [
    (file, key, value)
    for file, key in (("tasks.jsonl", "task_index"), ("episodes.jsonl", "episode_index"))
    for value in (10**30, "0")
]


@pytest.mark.parametrize(("file", "key", "value"), INDICES)
def test_indices_and_lengths_that_are_none(
    file: str, key: str, value: Any, odd: Callable[[str], Path], tmp_path: Path
) -> None:
    root = odd("v21")
    change_lines(root, file, lambda rows: rows[0].update({key: value}))
    with pytest.raises(DatasetError, match=f"{file} has a row with .* as '{key}'"):
        open_dataset(root)


@pytest.mark.parametrize("value", [10**400, [10**400, 0, 0], ["1", "2", "3"], "5", {"a": 1}, [[1], [2, 3]], [None, {}]])
def test_statistics_that_are_no_numbers(value: Any, odd: Callable[[str], Path], capsys: Any) -> None:
    root = odd("v21")
    change_lines(root, "episodes_stats.jsonl", lambda rows: [r["stats"]["action"].update(mean=value) for r in rows])
    # They can be computed: readers go by the frames.
    dataset = open_dataset(root)
    np.testing.assert_allclose(dataset.meta.statistics["action"]["mean"], dataset.actions.mean(axis=0), atol=1e-5)
    if isinstance(value, int):
        assert_found_and_mended(root, "statistics-damaged", "holds no numbers", capsys)


DEEP = "[" * 100_000 + "]" * 100_000


def test_brackets_without_end(odd: Callable[[str], Path], tmp_path: Path, capsys: Any) -> None:
    root = odd("v21")
    whole = {name: (root / "meta" / name).read_text() for name in ("info.json", "tasks.jsonl", "episodes.jsonl")}
    for name, text in whole.items():
        deep = text.rstrip()[:-1] + f', "x": {DEEP}}}\n'
        (root / "meta" / name).write_text(deep)
        assert_refused(root, "deeper than 100", tmp_path, capsys)
        assert main(["dataset", "check", str(root), "--json", "--jobs", "1"]) == 1
        codes = {one["code"] for one in json.loads(capsys.readouterr().out)["findings"]}
        assert ("info-damaged" if name == "info.json" else "meta-damaged") in codes
        assert "check-failed" not in codes
        (root / "meta" / name).write_text(text)
    put(root, "features", "action", "names", value=json.loads("[" * 900 + "]" * 900))
    assert_refused(root, "deeper than 100", tmp_path, capsys)
    assert_found_and_mended(root, "info-damaged", "deeper than 100", capsys)


@pytest.mark.parametrize("text", [f'{{"edits": {DEEP}}}', '{"edits": 5}', '{"edits": [5]}', "[]", "\0"])
def test_a_history_of_edits_that_is_none(text: str, odd: Callable[[str], Path], tmp_path: Path, capsys: Any) -> None:
    root = odd("v21")
    history = root / "meta" / "smolpilot_history.json"
    history.write_text(text)
    words = ["dataset", "exclude", str(root), str(tmp_path / "out"), "--episodes", "0", "--jobs", "1"]
    assert main(words) == 1
    assert f"`rm {history}` removes it" in capsys.readouterr().err
    history.unlink()
    assert main(words) == 0


@pytest.mark.parametrize("name", ["info.json", "tasks.jsonl", "episodes.jsonl", "episodes_stats.jsonl"])
def test_metadata_of_gigabytes_is_not_read(name: str, odd: Callable[[str], Path], tmp_path: Path, capsys: Any) -> None:
    root = odd("v21")
    os.truncate(root / "meta" / name, 5 * 2**30)
    refused_by_size = "5.37 GB"
    assert main(["dataset", "info", str(root)]) == 1
    assert refused_by_size in capsys.readouterr().err
    assert main(["dataset", "check", str(root), "--json", "--jobs", "1"]) == 1
    assert any(refused_by_size in one["message"] for one in json.loads(capsys.readouterr().out)["findings"])


def test_a_line_without_end_is_not_read_to_its_end(odd: Callable[[str], Path], capsys: Any) -> None:
    root = odd("v21")
    os.truncate(root / "meta" / "tasks.jsonl", 10**9)
    assert main(["dataset", "info", str(root)]) == 1
    assert "line 3 is no JSON object (64 MB of JSON or more" in capsys.readouterr().err
    assert main(["dataset", "check", str(root), "--json", "--jobs", "1"]) == 1
    assert "line 3 is no JSON object" in capsys.readouterr().out


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 200 million values in less than a megabyte: runs of one value take no room."""
    path = tmp_path_factory.mktemp("runs") / "runs.parquet"
    names = ["task_index", "task", "length", "episode_index", "timestamp", "frame_index", "index", "action"]
    names += ["observation.state", *(f"data/{part}_index" for part in ("chunk", "file"))]
    places = ("chunk_index", "file_index", "from_timestamp")
    names += [f"videos/observation.images.{name}/{part}" for name in ("front", "wrist") for part in places]
    piece = pa.table({name: pa.nulls(4_000_000, pa.int8()) for name in names})
    with pq.ParquetWriter(path, piece.schema) as writer:
        for _ in range(3):
            writer.write_table(piece)
    assert path.stat().st_size < 2_000_000
    return path


@pytest.mark.parametrize("name", ["meta/tasks.parquet", "meta/episodes/chunk-000/file-000.parquet", "data"])
def test_a_table_of_runs_is_not_decoded(name: str, runs: Path, odd: Callable[[str], Path], capsys: Any) -> None:
    root = odd("v3")
    shutil.copy(runs, root / name if name != "data" else next((root / "data").rglob("*.parquet")))
    assert main(["dataset", "info", str(root)]) == 1
    message = "has 12,000,000 rows; the episodes in it have 12 " if name == "data" else " values in "
    assert message in capsys.readouterr().err
    assert main(["dataset", "check", str(root), "--json", "--jobs", "1"]) == 1
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert any(" values in " in one["message"] for one in findings)
    assert "check-failed" not in {one["code"] for one in findings}


def test_texts_and_features_without_end_are_shown_short(odd: Callable[[str], Path], capsys: Any) -> None:
    root = odd("v21")
    write_lines(
        root / "meta" / "tasks.jsonl",
        [{"task_index": 0, "task": "y" * 1_000_000}, {"task_index": 1, "task": TASKS[1]}],
    )
    info = json.loads((root / "meta" / "info.json").read_text())
    info["features"] |= {f"zz_{i}": {"dtype": "float32", "shape": [3], "names": ["a", "b", "c"]} for i in range(300)}
    (root / "meta" / "info.json").write_text(json.dumps(info))
    for verb in ("info", "tasks"):
        assert main(["dataset", verb, str(root)]) == 0
        assert len(capsys.readouterr().out) < 60_000, verb
    main(["dataset", "check", str(root), "--jobs", "1"])
    assert "about 143000 tokens" in capsys.readouterr().out.replace("\n", " ")


DOUBLE, NO_NAMES = ["a", "a", "b"], [float("nan")] * 3


@pytest.mark.parametrize("names", [DOUBLE, NO_NAMES, [1, 2.5, "x"], {"a": 10**400, "b": -1, "c": 0}])
def test_names_of_joints(names: Any, odd: Callable[[str], Path], capsys: Any) -> None:
    root = odd("v3")
    put(root, "features", "action", "names", value=names)
    assert main(["dataset", "info", str(root)]) == 0
    code = main(["preflight", "--dataset", str(root)])
    assert ("not unique" in capsys.readouterr().out) == (code == 1) == (names in (DOUBLE, NO_NAMES))
    if names == DOUBLE:
        mended = root.parent / "mended"
        assert main(["dataset", "repair", str(root), str(mended), "--jobs", "1"]) == 0
        assert open_dataset(mended).meta.action_names == ["a_0", "a_1", "b"]


def test_what_lerobot_writes_stays_readable(odd: Callable[[str], Path]) -> None:
    """Whole numbers with a point, a byte order mark, null where nothing is known, NaN in statistics, no totals."""
    root = odd("v21")
    info = json.loads((root / "meta" / "info.json").read_text())
    info |= {"chunks_size": 1000.0, "robot_type": None, "splits": {}, "total_frames": 12.0}
    del info["total_videos"]
    info["features"]["action"]["names"] = {"motors": info["features"]["action"]["names"]}
    (root / "meta" / "info.json").write_text("\ufeff" + json.dumps(info), encoding="utf-8")
    change_lines(root, "episodes.jsonl", lambda rows: [row.update(length=float(row["length"])) for row in rows])
    change_lines(root, "episodes_stats.jsonl", lambda rows: rows[0]["stats"][CAMERA].update(mean=float("nan")))
    assert len(open_dataset(root)) == 12
