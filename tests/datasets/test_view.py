"""The page's files: clips hold the right packets or images, curves the right numbers, damage is named."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from smolpilot.cli.main import main
from smolpilot.common.errors import UsageError
from smolpilot.datasets import DatasetWriter, open_dataset, read_meta
from smolpilot.datasets.check import Finding
from smolpilot.datasets.media.video import decode_positions, read_index
from smolpilot.datasets.view import read_findings, write_page
from smolpilot.datasets.view.clips import write_clip


def document(path: Path) -> dict[str, Any]:
    text = path.read_text()
    return dict(json.loads(text[text.index("(") + 1 : text.rindex(")")]))


def packets(path: Path) -> list[bytes]:
    found: list[bytes] = []
    with av.open(str(path)) as container:
        found += [bytes(packet) for packet in container.demux(video=0) if packet.size]
    return found


def frames(path: Path) -> npt.NDArray[Any]:
    index = read_index(path)
    return np.stack(list(decode_positions(path, index, np.arange(len(index.pts)))))


def view(meta: Any, out: Path, **options: Any) -> Any:
    values = {"episodes": [episode.index for episode in meta.episodes], "findings": None, **options}
    return write_page(meta, out, **values)


def test_every_episode_has_its_own_packets_and_numbers(tiny_dataset: Path, tmp_path: Path) -> None:
    dataset = open_dataset(tiny_dataset)
    summary = view(dataset.meta, tmp_path / "page")
    assert (summary.episodes, summary.videos, summary.encoded, summary.problems) == (6, 12, {}, [])
    whole = {
        name: packets(tiny_dataset / "videos" / f"observation.images.{name}" / "chunk-000" / "file-000.mp4")
        for name in dataset.meta.cameras
    }
    at = 0
    for episode in dataset.meta.episodes:
        script = document(tmp_path / "page" / "data" / f"episode_{episode.index:06d}.js")
        for name in dataset.meta.cameras:
            clip = tmp_path / "page" / script["videos"][name]["src"]
            assert packets(clip) == whole[name][at : at + episode.length]
            assert read_index(clip).pts[0] == 0
        at += episode.length
        rows = dataset.episode_index == episode.index
        np.testing.assert_allclose(np.array(script["state"]).T, dataset.states[rows], rtol=1e-4, atol=1e-9)
        np.testing.assert_allclose(np.array(script["action"]).T, dataset.actions[rows], rtol=1e-4, atol=1e-9)


def test_units_come_from_a_profile(tmp_path: Path) -> None:
    path = tmp_path / "arm"
    joints = ["shoulder_pan", "shoulder_lift", "elbow_flex"]
    with DatasetWriter(path, fps=10, state_names=joints, action_names=joints, cameras={}) as writer:
        writer.add_frame({"observation.state": np.zeros(3), "action": np.ones(3), "task": "wait"})
    assert main(["dataset", "view", str(path), "--out", str(tmp_path / "page"), "--robot", "tabletop"]) == 0
    found = document(tmp_path / "page" / "data" / "index.js")["joints"]
    assert [(joint["name"], joint["unit"]) for joint in found] == [(name, "rad") for name in joints]


def test_states_and_actions_of_other_joints_have_their_own_charts(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "a", fps=10, state_names=["x", "y"], action_names=["y", "z"], cameras={}) as writer:
        writer.add_frame({"observation.state": np.zeros(2), "action": np.ones(2), "task": "wait"})
    view(read_meta(tmp_path / "a"), tmp_path / "page")
    joints = document(tmp_path / "page" / "data" / "index.js")["joints"]
    assert [(j["name"], j["state"], j["action"]) for j in joints] == [("x", 0, None), ("y", 1, 0), ("z", None, 1)]


@pytest.mark.parametrize("codec", ["hevc", "av1"])
def test_hevc_is_encoded_anew_and_av1_is_not(codec: Any, tmp_path: Path) -> None:
    path = tmp_path / "recording"
    cameras = {"front": (48, 64)}
    with DatasetWriter(path, fps=10, state_names=["a"], action_names=["a"], cameras=cameras, codec=codec) as writer:
        for number in range(5):
            picture = np.full((48, 64, 3), 40 * number, dtype=np.uint8)
            frame = {"observation.state": [0.0], "action": [0.0], "task": "wait"}
            writer.add_frame({**frame, "observation.images.front": picture})
    summary = view(read_meta(path), tmp_path / "page")
    clip = tmp_path / "page" / "videos" / "camera_0" / "episode_000000.mp4"
    with av.open(str(clip)) as container:
        name = container.streams.video[0].codec_context.codec.canonical_name
    assert name == ("h264" if codec == "hevc" else "av1")
    assert summary.encoded == ({"hevc does not play in every browser": 1} if codec == "hevc" else {})
    np.testing.assert_allclose(frames(clip).mean(axis=(1, 2, 3)), [0, 40, 80, 120, 160], atol=3)


def test_a_start_without_key_frame_is_encoded_from_there(tiny_dataset: Path, tmp_path: Path) -> None:
    span = read_meta(tiny_dataset).episodes[0].videos["front"]
    clip = write_clip(
        dataclasses.replace(span, start=0.3), read_index(span.path), 7, 10, tmp_path / "videos" / "clip.mp4"
    )
    assert (clip.frames, clip.encoded) == (7, "no key frame at the episode's start")
    wanted = frames(span.path)[3:10].astype(int)
    assert np.abs(frames(tmp_path / "videos" / "clip.mp4").astype(int) - wanted).mean() < 2


def test_pictures_in_tables_become_a_video(build_v21: Any, tmp_path: Path) -> None:
    summary = view(read_meta(build_v21(pictures_in_table=True)), tmp_path / "page")
    assert summary.encoded == {"images in the tables are no video": 3}
    clip = frames(tmp_path / "page" / "videos" / "camera_0" / "episode_000001.mp4")
    np.testing.assert_allclose(clip.mean(axis=(1, 2, 3)), 60 + 10 * np.arange(9), atol=3)


def test_damage_is_named_and_the_other_episodes_are_shown(build_v21: Any, tmp_path: Path) -> None:
    root = build_v21()
    video = next((root / "videos").rglob("episode_000001.mp4"))
    video.write_bytes(video.read_bytes()[:300])
    table = root / "data" / "chunk-000" / "episode_000002.parquet"
    table.write_bytes(table.read_bytes()[:-20])
    summary = view(read_meta(root), tmp_path / "page")
    assert len(summary.problems) == 2
    assert "Episode 1: The video file" in summary.problems[0]
    assert "Episode 2: The data file" in summary.problems[1]
    rows = document(tmp_path / "page" / "data" / "index.js")["episodes"]
    assert [row["counts"][0] for row in rows] == [0, 1, 1]
    assert document(tmp_path / "page" / "data" / "episode_000001.js")["state"][0][:2] == [100, 101]


def test_a_missing_number_is_a_gap(build_v21: Any, tmp_path: Path) -> None:
    root = build_v21()
    path = root / "data" / "chunk-000" / "episode_000000.parquet"
    table = pq.read_table(path)
    rows = table["action"].to_pylist()
    rows[3][1] = float("nan")
    column = pa.array(rows, table.schema.field("action").type)
    pq.write_table(table.set_column(table.column_names.index("action"), "action", column), path)
    view(read_meta(root), tmp_path / "page")
    action = document(tmp_path / "page" / "data" / "episode_000000.js")["action"]
    assert action[1][3] is None
    assert None not in action[0]


def test_rows_without_a_task_are_a_problem_of_their_episode(build_v21: Any, tmp_path: Path) -> None:
    root = build_v21()
    path = root / "data" / "chunk-000" / "episode_000000.parquet"
    table = pq.read_table(path)
    column = pa.nulls(table.num_rows, pa.int64())
    pq.write_table(table.set_column(table.column_names.index("task_index"), "task_index", column), path)
    assert main(["dataset", "view", str(root), "--out", str(tmp_path / "page"), "--no-check"]) == 0
    script = document(tmp_path / "page" / "data" / "episode_000000.js")
    assert script["problems"] == ["7 of 7 rows of episode 0 have no task index."]
    assert len(script["state"][0]) == 7
    assert document(tmp_path / "page" / "data" / "episode_000001.js")["problems"] == []


def test_findings_are_read_and_placed(tiny_dataset: Path, tmp_path: Path) -> None:
    file = tmp_path / "findings.json"
    rows = [
        {
            "code": "idle",
            "severity": "warning",
            "episode": 2,
            "frame": 4,
            "last": 9,
            "message": "stands still",
            "fix": "cut it",
        },
        {"code": "variety", "severity": "info", "message": "one robot"},
    ]
    file.write_text(json.dumps({"findings": rows}))
    found = read_findings(file)
    assert found == [
        Finding("idle", "warning", "stands still", "cut it", episode=2, frame=4, last=9),
        Finding("variety", "info", "one robot", ""),
    ]
    view(read_meta(tiny_dataset), tmp_path / "page", findings=found)
    index = document(tmp_path / "page" / "data" / "index.js")
    assert [row["counts"] for row in index["episodes"]] == [[0, int(i == 2), 0] for i in range(6)]
    assert [row["message"] for row in index["findings"]] == ["one robot"]
    assert document(tmp_path / "page" / "data" / "episode_000002.js")["findings"][0]["frame"] == 4


@pytest.mark.parametrize(
    "text", ["{", "[1]", '{"findings": 3}', '[{"severity": "odd", "message": "a"}]', '[{"severity": "error"}]']
)
def test_another_document_as_findings_is_misuse(text: str, tmp_path: Path) -> None:
    (tmp_path / "f.json").write_text(text)
    with pytest.raises(UsageError, match="finding"):
        read_findings(tmp_path / "f.json")


def test_the_check_is_made_unless_told_otherwise(build_v21: Any, tmp_path: Path) -> None:
    root = build_v21()
    path = root / "data" / "chunk-000" / "episode_000001.parquet"
    table = pq.read_table(path)
    state = np.array(table["observation.state"].to_pylist(), dtype=np.float32)
    state[4, 0] = np.nan
    column = pa.array(state.tolist(), table.schema.field("observation.state").type)
    pq.write_table(table.set_column(table.column_names.index("observation.state"), "observation.state", column), path)
    assert main(["dataset", "view", str(root), "--out", str(tmp_path / "page")]) == 0
    found = document(tmp_path / "page" / "data" / "episode_000001.js")["findings"]
    assert ("not-finite", 4, "error") in [(row["code"], row["frame"], row["severity"]) for row in found]
    assert main(["dataset", "view", str(root), "--out", str(tmp_path / "plain"), "--no-check"]) == 0
    assert document(tmp_path / "plain" / "data" / "index.js")["checked"] is False


def test_nothing_is_written_into_the_recording(copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(copy)
    before = sorted(copy.rglob("*"))
    assert main(["dataset", "view", ".", "--no-check"]) == 2
    assert "inside the dataset" in capsys.readouterr().err
    assert main(["dataset", "stats", ".", "--out", "meta/new.json"]) == 2
    assert sorted(copy.rglob("*")) == before


def test_command_line(tiny_dataset: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert main(["dataset", "view", str(tiny_dataset), "--episodes", "1,3-4", "--open", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["page"], report["episodes"], report["videos"]) == ("tiny_view/index.html", 3, 6)
    assert opened == [(tmp_path / "tiny_view" / "index.html").as_uri()]
    rows = document(tmp_path / "tiny_view" / "data" / "index.js")["episodes"]
    assert [(row["index"], row["length"]) for row in rows] == [(1, 19), (3, 21), (4, 22)]
    assert rows[0]["tasks"] == ["touch the blue block"]
    before = sorted(path.stat().st_mtime_ns for path in (tmp_path / "tiny_view").rglob("*"))
    assert main(["dataset", "view", str(tiny_dataset)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert sorted(path.stat().st_mtime_ns for path in (tmp_path / "tiny_view").rglob("*")) == before
