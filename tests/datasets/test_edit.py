"""Edits: what is kept is kept bit for bit, what changes is what was asked for, sources stay as they are."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from smolpilot.cli.main import main
from smolpilot.common.errors import DatasetError, UsageError
from smolpilot.datasets import DatasetWriter, open_dataset, read_meta
from smolpilot.datasets.compare import compare
from smolpilot.datasets.copy import EpisodePlan, copy_episodes
from smolpilot.datasets.edit import list_instructions, merge, plan_parts, read_history, rename_tasks, split
from smolpilot.datasets.read.tables import load_tables
from smolpilot.datasets.statistics.recompute import find_deviations, recompute_statistics

from .helpers_recordings import tree_hash

RENUMBERED = {"index", "episode_index", "task_index"}


@pytest.fixture(autouse=True)
def sources_stay(tiny_dataset: Path) -> Iterator[None]:
    before = tree_hash(tiny_dataset)
    yield
    assert tree_hash(tiny_dataset) == before


def content(root: Path, index: int) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Values of the untouched columns and hashes of the video packets of one episode, read without our readers."""
    meta = read_meta(root)
    episode = meta.episode(index)
    rows = pq.read_table(episode.data_path).to_pylist()
    rows = [row for row in rows if row["episode_index"] == index]
    values = {name: [row[name] for row in rows] for name in rows[0] if name not in RENUMBERED}
    packets = {}
    for camera, span in episode.videos.items():
        with av.open(str(span.path)) as container:
            stream = container.streams.video[0]
            read = [(p.pts, p.time_base, bytes(p)) for p in container.demux(stream) if p.size]
        found = [(float(pts * base), data) for pts, base, data in read if pts is not None and base is not None]
        end = span.start + episode.length / meta.fps
        packets[camera] = [
            hashlib.sha256(data).hexdigest()
            for time, data in found
            if span.start - 0.5 / meta.fps <= time < end - 0.5 / meta.fps
        ]
        assert len(packets[camera]) == episode.length
    return values, packets


def assert_sound(root: Path) -> None:
    """Indices run, statistics are those of the data, every sample loads."""
    meta = read_meta(root)
    assert [episode.index for episode in meta.episodes] == list(range(len(meta.episodes)))
    tables = load_tables(meta, meta.episodes)
    assert find_deviations(meta, tables, recompute_statistics(meta, tables)) == []
    dataset = open_dataset(root)
    np.testing.assert_array_equal(tables.array("index"), np.arange(len(dataset)))
    for i in (0, len(dataset) // 2, len(dataset) - 1):
        assert set(dataset.images(i)) == set(meta.cameras)


def text_of(root: Path) -> list[list[str]]:
    return [episode.tasks for episode in read_meta(root).episodes]


def run(args: list[str]) -> int:
    """The exit status, also of misuse that the parser of options finds."""
    try:
        return main(args)
    except SystemExit as stop:
        return int(stop.code or 0)


def words_of(text: str) -> str:
    """Without the frame and the line breaks of a message."""
    return " ".join(text.replace("│", " ").split())


def test_exclude_keeps_the_other_episodes_bit_for_bit(tiny_dataset: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out"
    assert main(["dataset", "exclude", str(tiny_dataset), str(out), "--episodes", "1,3-4", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["excluded"] == [1, 3, 4]
    assert report["results"][0]["proof"]["equal"] is True
    for new, old in enumerate((0, 2, 5)):
        assert content(out, new) == content(tiny_dataset, old)
    assert text_of(out) == [["touch the red block"], ["touch the red block"], ["touch the blue block"]]
    assert_sound(out)
    assert read_history(read_meta(out))[-1]["episodes"] == "1,3-4"
    assert read_meta(out).version == "v3.0"


def test_exclude_refuses_unknown_and_all_episodes(tiny_dataset: Path, tmp_path: Path, capsys: Any) -> None:
    for wish, message in (
        ("9", "has no episode 9"),
        ("0-5", "All 6 episodes would be left out"),
        ("a", "cannot be"),
        ("", "no episode"),
    ):
        assert main(["dataset", "exclude", str(tiny_dataset), str(tmp_path / "out"), "--episodes", wish]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_tasks_with_gaps_keep_their_texts(build_v21: Any, tmp_path: Path) -> None:
    root = build_v21(tasks={3: "push", 8: "pull", 9: "never done"})
    assert main(["dataset", "exclude", str(root), str(tmp_path / "out"), "--episodes", "0"]) == 0
    meta = read_meta(tmp_path / "out")
    assert (meta.version, meta.tasks) == ("v2.1", {0: "pull", 1: "never done"})
    assert open_dataset(tmp_path / "out").instruction(0) == "pull"
    assert content(tmp_path / "out", 0) == content(root, 1)


@pytest.mark.parametrize("version", ["same", "v2.1"])
def test_split_by_share_is_stratified_seeded_and_whole(tiny_dataset: Path, tmp_path: Path, version: str) -> None:
    out = tmp_path / "parts"
    args = ["dataset", "split", str(tiny_dataset), str(out), "--parts", "train=0.67", "val=0.33", "--to", version]
    assert main(args) == 0
    meta = read_meta(tiny_dataset)
    chosen = plan_parts(meta, {"train": "0.67", "val": "0.33"}).episodes
    assert {name: len(episodes) for name, episodes in chosen.items()} == {"train": 4, "val": 2}
    assert sorted(chosen["train"] + chosen["val"]) == list(range(6))
    for name, episodes in chosen.items():
        assert {text for texts in text_of(out / name) for text in texts} == set(meta.tasks.values())
        for new, old in enumerate(episodes):
            assert content(out / name, new) == content(tiny_dataset, old)
        assert_sound(out / name)
        assert read_meta(out / name).version == ("v3.0" if version == "same" else "v2.1")
    assert sorted(path.name for path in out.iterdir()) == ["train", "val"]


def test_split_shares_depend_on_the_seed_alone(tiny_dataset: Path) -> None:
    meta = read_meta(tiny_dataset)
    wishes = {"a": "50%", "b": "0.2", "c": "0.3"}
    first = plan_parts(meta, wishes, seed=1)
    assert plan_parts(meta, wishes, seed=1) == first
    assert any(plan_parts(meta, wishes, seed=seed) != first for seed in range(2, 6))
    assert list(first.episodes) == ["a", "b", "c"]
    assert sorted(i for chosen in first.episodes.values() for i in chosen) == list(range(6))
    part = plan_parts(meta, {"a": "0.5"})
    assert len(part.episodes["a"]) == len(part.left_out) == 3


def test_split_by_lists_and_the_rest(tiny_dataset: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "parts"
    assert main(["dataset", "split", str(tiny_dataset), str(out), "--parts", "val=0,3-4", "train=rest"]) == 0
    assert "train: episodes 1-2,5" in capsys.readouterr().out
    assert [len(read_meta(out / name).episodes) for name in ("train", "val")] == [3, 3]
    assert content(out / "val", 2) == content(tiny_dataset, 4)


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({}, "No parts"),
        ({"a": "0.8", "b": "0.4"}, "add up to 1.2"),
        ({"a": "0.5", "b": "1-2"}, "mixes"),
        ({"a": "0-2", "b": "2-3"}, "Episode 2 is in more than one part"),
        ({"a": "rest", "b": "rest"}, "take the rest"),
        ({"a": "0-5", "b": "rest"}, "'b' would have no episode"),
        ({"../a": "0.5"}, "is no name"),
        ({"a": "0.0"}, "is none"),
        ({"a": "7"}, "no episode 7"),
        ({"train": "abc"}, "--parts train: 'abc' cannot be read"),
    ],
)
def test_wrong_parts_are_misuse(tiny_dataset: Path, wishes: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        plan_parts(read_meta(tiny_dataset), wishes)


def test_a_part_named_twice_is_misuse(tiny_dataset: Path, tmp_path: Path, capsys: Any) -> None:
    args = ["dataset", "split", str(tiny_dataset), str(tmp_path / "out"), "--parts", "train=0.5", "train=0.4"]
    assert run(args) == 2
    assert "'train' is given twice: train=0.5 and train=0.4" in words_of(capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_help_shows_no_empty_default(capsys: Any) -> None:
    assert run(["dataset", "split", "--help"]) == 0
    text = words_of(capsys.readouterr().out)
    assert "val=0,3-5 train=rest. --seed" in text
    assert "Default: 0." in text


def test_a_stopped_split_resumes(tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules[split.__module__]
    meta = read_meta(tiny_dataset)
    parts = plan_parts(meta, {"a": "0-1", "b": "rest"})
    split(meta, tmp_path / "whole", parts)
    real, written = module.write_episodes, []

    def stops_at(name: str) -> Any:
        def write(meta: Any, dst: Path, *rest: Any) -> Any:
            if dst.name == name:
                raise KeyboardInterrupt
            written.append(dst.name)
            return real(meta, dst, *rest)

        return write

    monkeypatch.setattr(module, "write_episodes", stops_at("b"))
    with pytest.raises(KeyboardInterrupt):
        split(meta, tmp_path / "out", parts)
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(module, "write_episodes", stops_at("nowhere"))
    split(meta, tmp_path / "out", parts)
    assert written == ["a", "b"]
    assert tree_hash(tmp_path / "out") == tree_hash(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "whole"]


def test_merge_joins_versions_and_equal_instructions(tiny_dataset: Path, tmp_path: Path, capsys: Any) -> None:
    for number, wish in enumerate(("0-3", "2-5")):
        args = [str(tiny_dataset), str(tmp_path / f"part{number}"), "--episodes", wish]
        assert main(["dataset", "exclude", *args, "--to", "v2.1" if number else "same"]) == 0
    sources = [tmp_path / "part0", tmp_path / "part1"]
    before = [tree_hash(path) for path in sources]
    assert main(["dataset", "merge", str(tmp_path / "all"), *map(str, sources)]) == 0
    assert "4 episodes" in capsys.readouterr().out
    meta = read_meta(tmp_path / "all")
    assert (meta.version, len(meta.episodes), meta.robot_type) == ("v3.0", 4, "toy_arm")
    assert sorted(meta.tasks.values()) == ["touch the blue block", "touch the red block"]
    for new, old in enumerate((4, 5, 0, 1)):
        values, packets = content(tmp_path / "all", new)
        assert (values, packets) == content(tiny_dataset, old)
        assert meta.episodes[new].tasks == read_meta(tiny_dataset).episode(old).tasks
    assert_sound(tmp_path / "all")
    assert [part["history"][0]["edit"] for part in read_history(meta)[0]["sources"]] == ["exclude", "exclude"]
    assert [tree_hash(path) for path in sources] == before


def test_merge_of_one_recording_closes_gaps(tiny_dataset: Path, tmp_path: Path) -> None:
    meta = read_meta(tiny_dataset)
    copy_episodes([EpisodePlan(meta, index) for index in (1, 4)], tmp_path / "gaps")
    assert [episode.index for episode in read_meta(tmp_path / "gaps").episodes] == [1, 4]
    assert main(["dataset", "merge", str(tmp_path / "out"), str(tmp_path / "gaps")]) == 0
    assert [content(tmp_path / "out", i) for i in (0, 1)] == [content(tiny_dataset, i) for i in (1, 4)]
    assert_sound(tmp_path / "out")


def record(path: Path, *, fps: float = 10, joints: Any = ("a", "b"), robot: str = "arm", camera: Any = None) -> Path:
    cameras = {"front": camera} if camera else {}
    with DatasetWriter(
        path, fps=fps, state_names=joints, action_names=joints, cameras=cameras, robot_type=robot
    ) as writer:
        for _ in range(3):
            frame = {"observation.state": np.ones(len(joints)), "action": np.zeros(len(joints)), "task": "wait"}
            pictures = {"observation.images.front": np.zeros((*camera, 3), np.uint8)} if camera else {}
            writer.add_frame({**frame, **pictures})
    return path


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"fps": 12}, "frames per second: 12.0 there, 10.0 here"),
        ({"joints": ("a", "c")}, "the names of 'observation.state', place 1: 'c' there, 'b' here"),
        ({"joints": ("a", "b", "c")}, "the shape of 'observation.state', place 0: 3 there, 2 here"),
        ({"robot": "leg"}, "robot: 'leg' there, 'arm' here"),
        ({"robot": "leg", "fps": 5}, "frames per second"),  # --robot-type would not help
        ({"camera": (64, 64)}, "one has no feature 'observation.images.front', two has one"),
    ],
)
def test_merge_names_the_difference(tmp_path: Path, other: dict[str, Any], message: str) -> None:
    sources = [read_meta(record(tmp_path / "one")), read_meta(record(tmp_path / "two", **other))]
    with pytest.raises(DatasetError, match=message):
        merge(sources, tmp_path / "all")
    assert not (tmp_path / "all").exists()


def test_merge_of_one_robot_under_two_names(tmp_path: Path, capsys: Any) -> None:
    paths = [str(record(tmp_path / "one")), str(record(tmp_path / "two", robot="arm_v2"))]
    out = tmp_path / "all"
    assert main(["dataset", "merge", str(out), *paths]) == 1
    assert "--robot-type NAME" in capsys.readouterr().err
    assert main(["dataset", "merge", str(out), *paths, "--robot-type", "arm"]) == 0
    assert read_meta(out).robot_type == "arm"
    assert main(["dataset", "merge", str(tmp_path / "b"), paths[0], paths[0]]) == 2
    assert "is given twice" in capsys.readouterr().err
    assert main(["dataset", "merge", *paths, str(tmp_path / "new")]) == 2
    assert "the new folder first" in words_of(capsys.readouterr().err)


def test_tasks_are_listed_with_their_episodes(tiny_dataset: Path, capsys: Any) -> None:
    assert main(["dataset", "tasks", str(tiny_dataset), "--json"]) == 0
    red, blue = json.loads(capsys.readouterr().out)["instructions"]
    assert red == {"index": 0, "text": "touch the red block", "episodes": [0, 2, 4], "frames": 60}
    assert (blue["episodes"], blue["frames"]) == ([1, 3, 5], 63)
    assert main(["dataset", "tasks", str(tiny_dataset)]) == 0
    assert "touch the blue block" in capsys.readouterr().out


def test_set_changes_the_chosen_episodes_and_nothing_else(tiny_dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    wishes = ["--set", "0-1=wave = hello", "5=touch the red block"]
    assert main(["dataset", "tasks", str(tiny_dataset), str(out), *wishes]) == 0
    wave, red, blue = "wave = hello", "touch the red block", "touch the blue block"
    assert text_of(out) == [[wave], [wave], [red], [blue], [red], [red]]
    dataset = open_dataset(out)
    assert [dataset.instruction(i) for i in (0, 18, 40, len(dataset) - 1)] == [wave, wave, red, red]
    for index in range(6):
        assert content(out, index) == content(tiny_dataset, index)
    assert_sound(out)


def test_rename_by_text_or_index_joins_equal_texts(tiny_dataset: Path, tmp_path: Path, capsys: Any) -> None:
    args = ["dataset", "tasks", str(tiny_dataset), str(tmp_path / "a"), "--rename", "touch the red block=go"]
    assert main(args) == 0
    assert read_meta(tmp_path / "a").tasks == {0: "go", 1: "touch the blue block"}
    assert main(["dataset", "tasks", str(tmp_path / "a"), str(tmp_path / "b"), "--rename", "1=go"]) == 0
    assert read_meta(tmp_path / "b").tasks == {0: "go"}
    assert [one.frames for one in list_instructions(read_meta(tmp_path / "b"))] == [123]
    capsys.readouterr()
    assert main(["dataset", "tasks", str(tiny_dataset), str(tmp_path / "c"), "--rename", "touch the rd block=x"]) == 2
    assert "Did you mean 'touch the red block'?" in capsys.readouterr().err


def test_changes_of_instructions_are_undone_one_by_one(tiny_dataset: Path, tmp_path: Path, capsys: Any) -> None:
    names = ["set", "renamed", "back", "start"]
    paths = [tiny_dataset, *(tmp_path / name for name in names)]
    wishes = [["--set", "1-2=wave"], ["--rename", "wave=touch the red block"], ["--undo"], ["--undo"]]
    for source, target, wish in zip(paths, paths[1:], wishes, strict=False):
        assert main(["dataset", "tasks", str(source), str(target), *wish]) == 0
    assert text_of(tmp_path / "back") == text_of(tmp_path / "set")
    assert compare(tiny_dataset, tmp_path / "start").equal
    assert len(read_history(read_meta(tmp_path / "start"))) == 4
    capsys.readouterr()
    assert main(["dataset", "tasks", str(tmp_path / "start"), str(tmp_path / "more"), "--undo"]) == 2
    assert "is undone already" in capsys.readouterr().err
    assert main(["dataset", "tasks", str(tiny_dataset), str(tmp_path / "more"), "--undo"]) == 2
    assert main(["dataset", "exclude", str(tmp_path / "set"), str(tmp_path / "fewer"), "--episodes", "0"]) == 0
    assert main(["dataset", "tasks", str(tmp_path / "fewer"), str(tmp_path / "more"), "--undo"]) == 2
    assert "numbered anew" in capsys.readouterr().err


def test_changes_from_before_episodes_went_are_not_undone(tiny_dataset: Path, tmp_path: Path, capsys: Any) -> None:
    paths = [tiny_dataset, *(tmp_path / name for name in ("u1", "u2", "u3", "u4"))]
    edits = [["tasks", "--set", "3=x"], ["exclude", "--episodes", "0"], ["tasks", "--set", "0=y"], ["tasks", "--undo"]]
    for source, target, (verb, *wish) in zip(paths, paths[1:], edits, strict=False):
        assert main(["dataset", verb, str(source), str(target), *wish]) == 0
    assert text_of(tmp_path / "u4") == text_of(tmp_path / "u2")
    capsys.readouterr()
    assert main(["dataset", "tasks", str(tmp_path / "u4"), str(tmp_path / "u5"), "--undo"]) == 2
    assert "cannot be undone after 'exclude'" in words_of(capsys.readouterr().err)
    assert not (tmp_path / "u5").exists()


def test_changes_of_merged_recordings_are_not_undone(tiny_dataset: Path, tmp_path: Path, capsys: Any) -> None:
    assert main(["dataset", "tasks", str(tiny_dataset), str(tmp_path / "a"), "--set", "3=x"]) == 0
    for source, name in (("a", "b"), ("b", "c")):
        assert main(["dataset", "merge", str(tmp_path / name), str(tmp_path / source)]) == 0
        assert main(["dataset", "tasks", str(tmp_path / name), str(tmp_path / "no"), "--undo"]) == 2
        assert "cannot be undone after 'merge'" in words_of(capsys.readouterr().err)
    assert main(["dataset", "merge", str(tmp_path / "d"), str(tiny_dataset)]) == 0
    assert main(["dataset", "tasks", str(tmp_path / "d"), str(tmp_path / "no"), "--undo"]) == 2
    assert "was changed" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_changes_are_not_undone_where_repair_left_episodes_out(tiny_dataset: Path, tmp_path: Path, capsys: Any) -> None:
    assert main(["dataset", "tasks", str(tiny_dataset), str(tmp_path / "a"), "--set", "3=x"]) == 0
    history = tmp_path / "a" / "meta" / "smolpilot_history.json"
    # As in a repaired copy: the history came along, an episode of the edited recording did not.
    assert '"episodes": 6' in history.read_text()
    history.write_text(history.read_text().replace('"episodes": 6', '"episodes": 7'))
    capsys.readouterr()
    assert main(["dataset", "tasks", str(tmp_path / "a"), str(tmp_path / "b"), "--undo"]) == 2
    assert "had 7 episodes then, now it has 6" in words_of(capsys.readouterr().err)


def test_new_numbers_are_said(tiny_dataset: Path, tmp_path: Path, build_v21: Any, capsys: Any) -> None:
    meta = read_meta(tiny_dataset)
    copy_episodes([EpisodePlan(meta, index) for index in (1, 2, 5)], tmp_path / "gaps")
    assert main(["dataset", "tasks", str(tmp_path / "gaps"), str(tmp_path / "out"), "--set", "1=wave"]) == 0
    text = words_of(capsys.readouterr().err)
    assert "Episodes are numbered anew: 1-2,5 are now 0-2" in text
    assert "Tasks are numbered anew, in the order of first use: 'touch the red block' was 0 and is 1" in text
    tasks = build_v21(tasks={3: "push", 8: "pull"})
    assert main(["dataset", "tasks", str(tasks), str(tmp_path / "two"), "--rename", "push=a", "pull=b"]) == 0
    assert "first use: 3,8 are now 0-1" in words_of(capsys.readouterr().err)
    assert main(["dataset", "tasks", str(tmp_path / "two"), str(tmp_path / "three"), "--rename", "a=c"]) == 0
    assert capsys.readouterr().err == ""


def test_instructions_that_change_within_an_episode_come_back(build_v21: Any, tmp_path: Path) -> None:
    root = build_v21(tasks={0: "reach", 1: "lift"})
    path = root / "data" / "chunk-000" / "episode_000000.parquet"
    table = pq.read_table(path)
    place = table.column_names.index("task_index")
    pq.write_table(table.set_column(place, "task_index", [np.array([0, 0, 0, 1, 1, 1, 1])]), path)
    lines = (root / "meta" / "episodes.jsonl").read_text().splitlines()
    lines[0] = json.dumps({**json.loads(lines[0]), "tasks": ["reach", "lift"]})
    (root / "meta" / "episodes.jsonl").write_text("\n".join(lines) + "\n")
    assert main(["dataset", "tasks", str(root), str(tmp_path / "one"), "--set", "0=do it"]) == 0
    assert text_of(tmp_path / "one")[0] == ["do it"]
    assert main(["dataset", "tasks", str(tmp_path / "one"), str(tmp_path / "two"), "--undo"]) == 0
    dataset = open_dataset(tmp_path / "two")
    assert [dataset.instruction(i) for i in range(7)] == ["reach"] * 3 + ["lift"] * 4


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--set", "0=x"], "needs a new folder"),
        (["DST"], "no change"),
        (["DST", "--set", "0=x", "--undo"], "one of them"),
        (["DST", "--set", "0-2=x", "2=y"], "two instructions"),
        (["DST", "--set", "0= "], "empty"),
        (["DST", "--set", "0="], "nothing after the '='"),
        (["DST", "--set", "x=y"], "--set: 'x' cannot be read"),
        (["DST", "--set", "0=x", "0=y"], "'0' is given twice"),
        (["DST", "--rename", "0=x", "touch the red block=y"], "two new texts"),
        (["DST", "--set", "0=touch the red block"], "would change"),
        (["DST", "--set", "17=x"], "no episode 17"),
    ],
)
def test_misuse_of_tasks(tiny_dataset: Path, tmp_path: Path, args: list[str], message: str, capsys: Any) -> None:
    words = [str(tmp_path / "out") if word == "DST" else word for word in args]
    assert run(["dataset", "tasks", str(tiny_dataset), *words]) == 2
    assert message in words_of(capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_a_damaged_history_is_an_error_not_a_traceback(copy: Path, tmp_path: Path) -> None:
    (copy / "meta" / "smolpilot_history.json").write_text('{"edits": 3}')
    with pytest.raises(DatasetError, match="history"):
        rename_tasks(read_meta(copy), tmp_path / "out", {"0": "x"})


def test_a_split_that_cannot_be_made_leaves_nothing(copy: Path, tmp_path: Path, capsys: Any) -> None:
    video = next((copy / "videos").rglob("*.mp4"))
    video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    assert main(["dataset", "split", str(copy), str(tmp_path / "out"), "--parts", "a=0-2", "b=rest"]) == 1
    assert video.name in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy"]


@pytest.mark.parametrize(
    "args",
    [["tasks", "{}"], ["stats", "{}", "--recompute"], ["exclude", "{}", "{out}", "--episodes", "0"],
     ["view", "{}", "--out", "{out}"]],
    ids=lambda args: args[0],
)  # fmt: skip
def test_the_verbs_load_neither_torch_nor_lerobot(tiny_dataset: Path, tmp_path: Path, args: list[str]) -> None:
    words = ["dataset", *(word.format(tiny_dataset, out=tmp_path / "out") for word in args)]
    code = (
        "import sys; from smolpilot.cli.main import main; code = main(sys.argv[1:]); "
        "sys.exit(code or sum(name in sys.modules for name in ('torch', 'lerobot', 'matplotlib')) * 50)"
    )
    result = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
