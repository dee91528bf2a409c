"""Datasets of which a part is not there: not recorded yet, interrupted, not downloaded, pointers; and other names."""

from __future__ import annotations

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

from smolpilot.cli.main import main
from smolpilot.common.errors import DatasetError
from smolpilot.datasets import open_dataset, read_meta

from .test_bad_input import POINTER, the_episodes, the_table, the_video

READERS: list[list[str]] = [
    ["dataset", "info", "{path}"],
    ["dataset", "stats", "{path}", "--recompute"],
    ["dataset", "view", "{path}", "--no-check", "--out", "{out}"],
    ["dataset", "tasks", "{path}"],
    ["dataset", "exclude", "{path}", "{out}", "--episodes", "1"],
    ["preflight", "--dataset", "{path}", "--json"],
]


@pytest.fixture
def say(tmp_path: Path, capsys: Any) -> Callable[[list[str], Path], tuple[int, str]]:
    """Run a verb on a dataset: exit code, and all that it printed, in one line."""

    def run(command: list[str], path: Path) -> tuple[int, str]:
        out = tmp_path / "out"
        shutil.rmtree(out, ignore_errors=True)
        code = main([part.format(path=path, out=out) for part in command])
        said = capsys.readouterr()
        return code, " ".join((said.out + said.err).split())

    return run


def test_a_dataset_without_episodes_says_so_in_every_verb(copy: Path, edit_info: Any, say: Any) -> None:
    for name in ("data", "videos", "meta/episodes"):
        shutil.rmtree(copy / name)
    for name in ("tasks.parquet", "stats.json"):
        (copy / "meta" / name).unlink()
    edit_info(copy, lambda info: info.update(total_episodes=0, total_frames=0))
    for command in READERS:
        code, said = say(command, copy)
        assert code == 1
        assert "has no episodes yet" in said, command
    left = copy / "images" / "observation.images.front" / "episode-000000"
    left.mkdir(parents=True)
    (left / "frame-000000.png").write_bytes(b"x")
    with pytest.raises(DatasetError, match="the recording of the first one was interrupted; its images are left in"):
        open_dataset(copy)


@pytest.mark.parametrize("episodes", ["torn", "gone"])
def test_a_recording_that_was_interrupted_is_called_that(copy: Path, say: Any, episodes: str) -> None:
    """As LeRobot 0.6 leaves it: it writes the footers of its tables at the end only."""
    for path in (the_table(copy), the_episodes(copy)):
        path.write_bytes(path.read_bytes()[:-200])
    if episodes == "gone":
        shutil.rmtree(copy / "meta" / "episodes")
    for command in READERS:
        code, said = say(command, copy)
        assert code == 1
        assert "was interrupted: its tables have no footer" in said, command
        assert "Copy or download" not in said


def test_one_torn_table_among_whole_ones_keeps_the_others(build_v21: Any) -> None:
    root = build_v21()
    path = sorted(root.rglob("*.parquet"))[1]
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(DatasetError, match="torn: it has no footer") as error:
        open_dataset(root)
    assert f"smolpilot dataset repair {root} DST` keeps the episodes of the other files" in error.value.fix


PLACES: dict[str, Callable[[Path], Path]] = {
    "info": lambda root: root / "meta" / "info.json",
    "tasks": lambda root: root / "meta" / "tasks.parquet",
    "episodes": the_episodes,
    "table": the_table,
    "video": the_video,
}


@pytest.mark.parametrize("place", PLACES)
def test_pointers_get_the_same_advice_at_every_verb(copy: Path, say: Any, place: str) -> None:
    (copy / ".git").mkdir()
    PLACES[place](copy).write_bytes(POINTER)
    for command in READERS:
        code, said = say(command, copy)
        assert f"`git -C {shlex.quote(str(copy))} lfs pull` fetches the files." in said, command
        assert "Git-LFS pointer" in said
        assert code == (0 if place in ("table", "video") and command[1] in ("info", "view") else 1), command


def test_info_shows_what_is_there_of_a_partial_download(copy: Path, say: Any, capsys: Any) -> None:
    whole = say(["dataset", "info", "{path}"], copy)[1]
    assert "123 at 10 per second" in whole
    shutil.rmtree(copy / "videos")
    code, said = say(["dataset", "info", "{path}"], copy)
    assert (code, "video of camera 'front'" in said, "data file" in said) == (0, True, False)
    shutil.rmtree(copy / "data")
    code, said = say(["dataset", "info", "{path}"], copy)
    assert code == 0
    assert "123 at 10 per second" in said
    assert "data file: not here (6 episodes)" in said
    assert f"hf download OWNER/NAME --repo-type dataset --local-dir {copy}" in said
    assert main(["dataset", "info", str(copy), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [(row["what"], row["files"], row["of"], row["episodes"]) for row in document["absent"]] == [
        ("data file", 1, 1, 6),
        ("video of camera 'front'", 1, 1, 6),
        ("video of camera 'wrist'", 1, 1, 6),
    ]
    assert document["instructions"][0] == {
        "task_index": 0, "text": "touch the red block", "episodes": 3, "frames": None,
    }  # fmt: skip
    shutil.rmtree(copy / "meta" / "episodes")
    code, said = say(["dataset", "info", "{path}"], copy)
    assert (code, "episodes 6" in said, "123 at 10" in said, "episode tables" in said) == (0, True, True, True)
    with pytest.raises(DatasetError, match=r"Only a part of the dataset .* is here"):
        open_dataset(copy)


def test_missing_files_name_their_episodes(build_v21: Any) -> None:
    root = build_v21(lengths=(5, 6, 5, 6))
    video = root / "videos" / "chunk-000" / "observation.images.top"
    for episode in (1, 3):
        (video / f"episode_{episode:06d}.mp4").unlink()
    with pytest.raises(DatasetError, match="That concerns episodes 1, 3") as error:
        open_dataset(root)
    assert f"smolpilot dataset repair {root} DST` keeps the other episodes" in error.value.fix
    for path in sorted((root / "data").rglob("*.parquet")):
        path.unlink()
    with pytest.raises(DatasetError, match="That concerns all episodes") as error:
        open_dataset(root)
    assert "keeps" not in error.value.fix


def test_files_in_another_folder_than_the_pattern_says(build_v21: Any, edit_info: Any) -> None:
    root = build_v21()
    edit_info(root, lambda info: info.update(data_path=info["data_path"].replace("episode_chunk", "episode_index")))
    with pytest.raises(DatasetError, match=r"episode_000001\.parquet is missing") as error:
        open_dataset(root)
    assert "finds the files and writes their places" in error.value.fix
    assert "hf download" not in error.value.fix


def test_a_camera_of_which_no_episode_has_a_video(build_v21: Any, edit_info: Any, copy: Path, say: Any) -> None:
    root = build_v21()
    key = "observation.images.egoview"
    described = {"dtype": "video", "shape": [32, 32, 3], "names": ["height", "width", "channel"]}
    for place in (root, copy):
        edit_info(place, lambda info: info["features"].update({key: described}))
        dataset = open_dataset(place)
        assert "egoview" not in dataset.meta.camera_names
        assert "no episode has a video" in dataset.meta.left_out[key]
        assert "egoview" not in read_meta(place, trainable=False).camera_names
        dataset.check_videos()
    code, said = say(["dataset", "info", "{path}"], root)
    assert code == 0
    assert f"--without {key}" in said
    shutil.copytree(root / "videos" / "chunk-000" / "observation.images.top", root / "videos" / "chunk-000" / key)
    assert "egoview" in open_dataset(root).meta.camera_names
    (root / "videos" / "chunk-000" / key / "episode_000002.mp4").unlink()
    with pytest.raises(DatasetError, match=r"video of camera 'egoview' .* episode 2"):
        open_dataset(root)


def test_a_byte_order_mark_and_unusual_line_ends(build_v21: Any) -> None:
    root = build_v21(tasks={0: "push\u2028it\x85over"}, statistics=True)
    expected = open_dataset(root)[0]
    for name in ("info.json", "tasks.jsonl", "episodes.jsonl", "episodes_stats.jsonl"):
        path = root / "meta" / name
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
        text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
        path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    found = open_dataset(root)[0]
    assert found["task"] == expected["task"] == "push\u2028it\x85over"
    assert found["observation.state"].tolist() == expected["observation.state"].tolist()


def other_names(root: Path, names: dict[str, str]) -> None:
    """Rename features wherever they are named."""
    info = root / "meta" / "info.json"
    document = json.loads(info.read_text())
    document["features"] = {names.get(key, key): value for key, value in document["features"].items()}
    info.write_text(json.dumps(document))
    stats = root / "meta" / "stats.json"
    stats.write_text(json.dumps({names.get(key, key): value for key, value in json.loads(stats.read_text()).items()}))
    for path in (the_table(root), the_episodes(root)):
        table = pq.read_table(path)
        columns = ["/".join(names.get(part, part) for part in name.split("/")) for name in table.column_names]
        pq.write_table(table.rename_columns(columns), path)
    for old, new in names.items():
        if (root / "videos" / old).exists():
            (root / "videos" / old).rename(root / "videos" / new)


@pytest.mark.parametrize(
    ("state", "action", "asked"),
    [
        ("state", "actions", "state=observation.state actions=action"),
        ("observation.qpos", "robot_actions", "observation.qpos=observation.state robot_actions=action"),
        ("left arm/state", "action", "'left arm/state'=observation.state"),
        ("foo", "bar", "NAME_OF_STATE=observation.state NAME_OF_ACTION=action"),
    ],
)
def test_features_by_other_names(copy: Path, say: Any, state: str, action: str, asked: str) -> None:
    other_names(copy, {"observation.state": state, "action": action, "observation.images.front": "image"})
    command = f"smolpilot dataset rename {copy} DST --feature {asked}"
    with pytest.raises(DatasetError) as error:
        open_dataset(copy)
    assert command in error.value.fix
    assert "foo, bar" in error.value.fix if state == "foo" else "NAME_OF" not in error.value.fix
    assert command in json.loads(say(["preflight", "--dataset", "{path}", "--json"], copy)[1])[0]["fix"]
    for reader in READERS[:4]:
        code, said = say(reader, copy)
        assert code == 0, said
    if state != "foo":
        code, said = say(["dataset", "info", "{path}"], copy)
        assert command in said
        assert "State statistics" in said


def test_time_stamps_of_a_wall_clock_are_not_called_a_short_video(copy: Path, edit_rows: Any, say: Any) -> None:
    """Rows and frames are one to one; only the times are those of a clock."""
    edit_rows(copy, lambda columns: columns.update(timestamp=[time * 1.3 + 0.02 for time in columns["timestamp"]]))
    dataset = open_dataset(copy)
    for look in (dataset.check_videos, lambda: dataset[17], lambda: list(dataset.decode_episode("front", 5))):
        with pytest.raises(DatasetError, match=r"time stamps of episode \d do not fit") as error:
            look()
        assert "shorter" not in error.value.found
        assert "as many as the table has rows" in error.value.found
        assert f"`smolpilot dataset repair {copy} DST` puts the time stamps right" in error.value.fix
    code, said = say(["dataset", "stats", "{path}", "--recompute"], copy)
    assert code == 1
    assert "do not fit" in said


@pytest.mark.parametrize("value", [{"min": "a", "max": [1]}, {"mean": [[1], [1, 2]]}, None, []])
def test_stored_statistics_of_others_that_cannot_be_read_stop_nothing(copy: Path, value: Any) -> None:
    path = copy / "meta" / "stats.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "note": value}))
    dataset = open_dataset(copy)
    assert "note" not in dataset.meta.statistics
    assert np.isfinite(dataset.meta.statistics["action"]["mean"]).all()


def test_an_episode_without_a_place_names_itself(copy: Path) -> None:
    table = pq.read_table(the_episodes(copy))
    column = "videos/observation.images.wrist/file_index"
    values = [None if i == 4 else v for i, v in enumerate(table[column].to_pylist())]
    place = table.column_names.index(column)
    pq.write_table(table.set_column(place, column, pa.array(values, pa.int64())), the_episodes(copy))
    with pytest.raises(DatasetError, match=r"for 1 episodes \(4\)") as error:
        open_dataset(copy)
    assert f"smolpilot dataset repair {copy} DST" in error.value.fix
