"""Recordings as strangers bring them, by the verbs: no traceback, no false alarm, no advice that cannot be followed."""

from __future__ import annotations

import io
import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from smolpilot.cli.main import main
from smolpilot.datasets import DatasetWriter

from .helpers_damage import change_table, episodes_v3
from .helpers_recordings import FPS, Take, takes, write_v3
from .helpers_strangers import WHOLE, added, cast_columns, recorded, renamed, tables_of, write_sound


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_sound(tmp_path_factory.mktemp("sound"))


@pytest.fixture
def copy(sound: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    return lambda layout: Path(shutil.copytree(sound[layout], tmp_path / "data"))


def checked(root: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, list[dict[str, Any]]]:
    """(exit code, findings) of `dataset check`."""
    capsys.readouterr()
    code = main(["dataset", "check", str(root), "--json", *options])
    return code, json.loads(capsys.readouterr().out)["findings"]


def of(found: list[dict[str, Any]], code: str) -> list[dict[str, Any]]:
    return [one for one in found if one["code"] == code]


@pytest.mark.parametrize(
    ("layout", "columns"),
    [("v3", WHOLE), ("v21", ("task_index",)), ("v3", ("timestamp",))],
    ids=["all", "task", "time"],
)
def test_running_numbers_as_texts_are_refused_by_their_type(
    copy: Callable[[str], Path],
    layout: str,
    columns: tuple[str, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = copy(layout)
    cast_columns(dict.fromkeys(columns, pa.string()))(root)
    edits = (
        ["convert", str(root), str(tmp_path / "out")],
        ["exclude", str(root), str(tmp_path / "out"), "--episodes", "0"],
        ["split", str(root), str(tmp_path / "out"), "--parts", "a=0.5", "b=0.5"],
        ["tasks", str(root), str(tmp_path / "out"), "--rename", "0=wave"],
    )
    for edit in edits:
        assert main(["dataset", *edit]) == 1, edit
        said = capsys.readouterr().err
        assert "is of type string" in said, edit
        assert f"`smolpilot dataset repair {shlex.quote(str(root))} DST`" in said, edit
        assert not (tmp_path / "out").exists()
    assert main(["dataset", "view", str(root), "--out", str(tmp_path / "view")]) == 0
    assert main(["dataset", "repair", str(root), str(tmp_path / "fixed")]) == 0
    assert main(["dataset", "convert", str(tmp_path / "fixed"), str(tmp_path / "again")]) == 0


def test_instructions_in_the_place_of_task_indices(
    copy: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = copy("v21")
    for path, take in zip(tables_of(root), recorded(), strict=True):
        table = pq.read_table(path)
        place = table.column_names.index("task_index")
        pq.write_table(table.set_column(place, "task_index", pa.array([take.task] * len(take))), path)
    assert main(["dataset", "view", str(root), "--out", str(tmp_path / "view")]) == 0
    assert "The column 'task_index' holds values of type string" in capsys.readouterr().out
    assert main(["dataset", "convert", str(root), str(tmp_path / "out")]) == 1
    assert "'task_index'" in capsys.readouterr().err
    assert main(["dataset", "repair", str(root), str(tmp_path / "fixed")]) == 0
    table = pq.read_table(tables_of(tmp_path / "fixed")[1])
    assert set(table["task_index"].to_pylist()) == {1}


def test_a_page_of_a_recording_with_the_names_of_others(
    copy: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = copy("v3")
    renamed({"observation.state": "state", "action": "actions"})(root)
    assert main(["dataset", "view", str(root), "--out", str(tmp_path / "view")]) == 0
    document = (tmp_path / "view" / "data" / "index.js").read_text()
    assert '"name":"pan","unit":null' in document


def at_rest(made: list[Take]) -> None:
    """Two joints that never move, far from zero."""
    for take in made:
        take.state[:, 1:], take.action[:, 1:] = 12.3, 12.3


def test_statistics_of_a_joint_at_rest_are_judged_alike_everywhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_v3(tmp_path / "data", takes(at_rest, lengths=(40, 40)))
    stored = json.loads((root / "meta" / "stats.json").read_text())
    # What float32 sums of squares leave of a constant (LeRobot 0.6.1 over 210 rows of 12.3).
    stored["observation.state"]["std"][1] = 0.0148134
    (root / "meta" / "stats.json").write_text(json.dumps(stored))
    assert of(checked(root, capsys)[1], "statistics-wrong") == []
    assert main(["dataset", "stats", str(root), "--recompute"]) == 0
    stored["observation.state"]["std"][1] = 0.2
    (root / "meta" / "stats.json").write_text(json.dumps(stored))
    assert len(of(checked(root, capsys)[1], "statistics-wrong")) == 1
    assert main(["dataset", "stats", str(root), "--recompute"]) == 1


def exchange_places(root: Path, one: int, other: int, camera: str = "front") -> None:
    def change(columns: dict[str, list[Any]]) -> None:
        for what in ("from_timestamp", "to_timestamp"):
            values = columns[f"videos/observation.images.{camera}/{what}"]
            values[one], values[other] = values[other], values[one]

    change_table(episodes_v3(root), change)


@pytest.mark.parametrize("lengths", [(24, 27, 30, 25), (24, 24, 20, 24)], ids=["odd", "equal"])
def test_exchanged_places_are_repaired_as_the_check_says(
    lengths: tuple[int, int, int, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_v3(tmp_path / "data", takes(lengths=lengths))
    before = pq.read_table(episodes_v3(root)).to_pydict()
    exchange_places(root, 0, 1)
    code, found = checked(root, capsys)
    swapped = of(found, "video-swapped")
    assert code == 1
    assert swapped
    assert {one["fix"] for one in swapped} == {f"smolpilot dataset repair {root} DST"}
    assert main(["dataset", "repair", str(root), str(tmp_path / "fixed")]) == 0
    after = pq.read_table(episodes_v3(tmp_path / "fixed")).to_pydict()
    start = "videos/observation.images.front/from_timestamp"
    np.testing.assert_allclose(after[start][:2], before[start][:2], atol=1e-3)
    assert of(checked(tmp_path / "fixed", capsys)[1], "video-swapped") == []


@pytest.mark.parametrize("lengths", [(24, 27, 30, 25), (24, 24, 20, 24)], ids=["odd", "equal"])
def test_videos_that_lie_in_another_order_are_not_exchanged(
    lengths: tuple[int, int, int, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Episode 1's frames come first in the file, and the table says so."""
    made = takes(lengths=lengths)
    root = write_v3(tmp_path / "data", [made[i] for i in (1, 0, 2, 3)])
    ordered = write_v3(tmp_path / "ordered", made)
    for name in ("data", "meta"):
        shutil.copytree(ordered / name, root / name, dirs_exist_ok=True)
    first, second = lengths[0] / FPS, lengths[1] / FPS

    def change(columns: dict[str, list[Any]]) -> None:
        for camera in ("front", "wrist"):
            columns[f"videos/observation.images.{camera}/from_timestamp"][:2] = [second, 0.0]
            columns[f"videos/observation.images.{camera}/to_timestamp"][:2] = [second + first, second]

    change_table(episodes_v3(root), change)
    code, found = checked(root, capsys)
    assert of(found, "video-swapped") == []
    assert code == 0
    assert main(["dataset", "stats", str(root), "--recompute"]) == 0


@pytest.mark.parametrize("content", ["info.json", "tasks.parquet"])
def test_the_advice_for_pointers_is_the_same_in_every_verb(
    copy: Callable[[str], Path], content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = copy("v3")
    (root / "meta" / content).write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n")
    _, found = checked(root, capsys)
    (pointer,) = of(found, "lfs-pointer")
    assert main(["dataset", "info", str(root)]) == 1
    assert pointer["fix"] in capsys.readouterr().err
    assert "or download the dataset" in pointer["fix"]


def test_a_repair_beside_a_pointer_says_what_the_pointer_would_bring(
    copy: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = copy("v3")
    (root / "meta" / "info.json").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n")
    assert main(["dataset", "repair", str(root), str(tmp_path / "fixed")]) == 0
    assert "git lfs pull" in capsys.readouterr().out


def pictures(kind: str, size: tuple[int, int]) -> Callable[[int], list[Any]]:
    """A column of images as LeRobot stores them, for the 106 rows; of 16 bits and one channel, or 8 and three."""

    def one(number: int) -> dict[str, Any]:
        deep = kind == "depth"
        values = np.full(
            (*size, *(() if deep else (3,))), 600 if deep else 40 + number, np.uint16 if deep else np.uint8
        )
        values[: 4 + number % 9] = 200
        file = io.BytesIO()
        Image.fromarray(values).save(file, format="PNG")
        return {"bytes": file.getvalue(), "path": None}

    return lambda rows: [one(row) for row in range(rows)]


@pytest.mark.parametrize(("kind", "channels"), [("color", 3), ("depth", 1)])
def test_pictures_in_the_tables_survive_a_wrong_or_a_lost_description(
    kind: str, channels: int, copy: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = copy("v3")
    entry = {"dtype": "image", "shape": [480, 640, 3], "names": ["height", "width", "channels"]}
    added("observation.images.third", pictures(kind, (32, 40)), entry)(root)
    assert main(["dataset", "repair", str(root), str(tmp_path / "wrong")]) == 0
    (root / "meta" / "info.json").unlink()
    assert main(["dataset", "repair", str(root), str(tmp_path / "lost")]) == 0
    assert "left out" not in capsys.readouterr().out
    for name in ("wrong", "lost"):
        features = json.loads((tmp_path / name / "meta" / "info.json").read_text())["features"]
        assert features["observation.images.third"]["shape"] == [32, 40, channels]
        assert "observation.images.third" in pq.read_table(tables_of(tmp_path / name)[0]).column_names
        code, found = checked(tmp_path / name, capsys)
        assert code == 0
        assert of(found, "camera-black") == []


def test_a_guessed_profile_proposes_no_exclusion(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One joint of an SO-101 beyond its limits in one episode of four."""
    names = ["shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper"]
    names = [f"{name}.pos" for name in names]
    root = tmp_path / "data"
    with DatasetWriter(
        root, fps=FPS, state_names=names, action_names=names, cameras={}, robot_type="so101_follower"
    ) as writer:
        for episode in range(4):
            for i in range(30):
                state = 30 * np.sin(i / 6 + np.arange(6) + episode)
                state[5] = (62 if episode == 2 else 30) * np.sin(i / 6) + 40
                frame = {"observation.state": state.astype(np.float32), "action": state.astype(np.float32)}
                writer.add_frame({**frame, "task": "wave"})
            writer.end_episode()
    fixes = {one["fix"] for one in checked(root, capsys)[1] if one["code"].startswith("limit-")}
    assert fixes
    for fix in fixes:
        assert "exclude" not in fix
        assert f"smolpilot dataset check {root} --robot none" in fix
    named = {one["fix"] for one in checked(root, capsys, "--robot", "so101")[1] if one["code"].startswith("limit-")}
    assert any("exclude" in fix for fix in named)
    assert not [one for one in checked(root, capsys, "--robot", "none")[1] if one["code"].startswith("limit-")]
