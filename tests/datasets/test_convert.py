"""Conversion between LeRobot versions: what stays, what is filled in, and what is refused."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from smolpilot.cli.main import main
from smolpilot.common.errors import DatasetError, UsageError
from smolpilot.datasets import open_dataset, read_meta
from smolpilot.datasets.check import check_dataset
from smolpilot.datasets.compare import compare
from smolpilot.datasets.convert import convert
from smolpilot.datasets.copy import MANIFEST, CopyOptions, pool
from smolpilot.datasets.copy import copy_plan as plan
from smolpilot.datasets.copy.video import mux
from smolpilot.datasets.media.encode import own_priority
from smolpilot.datasets.media.video import probe as video_probe
from smolpilot.datasets.read.reader import Dataset

from .conftest import Build
from .helpers_recordings import tree_hash

V21 = CopyOptions(version="v2.1")


def packets(path: Path) -> list[tuple[bytes, float]]:
    """Content and time of every packet, read without our own code."""
    with av.open(str(path)) as container:
        found = [(bytes(p), p.pts, p.time_base) for p in container.demux(video=0)]
    return [(content, float(pts * base)) for content, pts, base in found if pts is not None and base is not None]


def test_there_and_back_nothing_changes(tiny_dataset: Path, tmp_path: Path) -> None:
    before = tree_hash(tiny_dataset)
    convert(tiny_dataset, tmp_path / "v21", V21)
    convert(tmp_path / "v21", tmp_path / "v30")
    convert(tmp_path / "v30", tmp_path / "again", V21)
    assert tree_hash(tiny_dataset) == before
    tables = [pa.concat_tables(pq.read_table(p) for p in sorted((root / "data").rglob("*.parquet")))
              for root in (tiny_dataset, tmp_path / "v21", tmp_path / "v30")]  # fmt: skip
    for table in tables[1:]:
        assert table.schema.equals(tables[0].schema)
        assert table.equals(tables[0])
    # The second way back gives the very files of the first.
    first, second = tree_hash(tmp_path / "v21"), tree_hash(tmp_path / "again")
    del first[MANIFEST], second[MANIFEST]
    assert first == second
    for camera in ("front", "wrist"):
        key = f"observation.images.{camera}"
        source = packets(tiny_dataset / "videos" / key / "chunk-000" / "file-000.mp4")
        assert packets(tmp_path / "v30" / "videos" / key / "chunk-000" / "file-000.mp4") == source
        begin = 0
        for episode in range(6):
            mine = packets(tmp_path / "v21" / "videos" / "chunk-000" / key / f"episode_{episode:06d}.mp4")
            theirs = source[begin : begin + 18 + episode]
            assert [content for content, _ in mine] == [content for content, _ in theirs]
            assert np.allclose([t for _, t in mine], [t - theirs[0][1] for _, t in theirs], atol=1e-4)
            begin += 18 + episode
        assert begin == len(source)


def test_every_sample_is_the_same(tiny_dataset: Path, tmp_path: Path) -> None:
    convert(tiny_dataset, tmp_path / "v21", V21)
    ours, theirs = open_dataset(tmp_path / "v21"), open_dataset(tiny_dataset)
    ours.check_videos()
    for i in range(len(theirs)):
        assert ours.instruction(i) == theirs.instruction(i)
        for name, picture in theirs.images(i).items():
            assert np.array_equal(ours.images(i)[name], picture)
    assert np.array_equal(ours.states, theirs.states)


def test_v20_gets_statistics(build_v21: Build, tmp_path: Path) -> None:
    source = build_v21(version="v2.0")
    report = convert(source, tmp_path / "out")
    assert "action" in report.computed
    assert "observation.images.top" in report.computed
    statistics = read_meta(tmp_path / "out").statistics
    states = np.concatenate(
        [pq.read_table(p)["action"].to_pylist() for p in sorted((source / "data").rglob("*.parquet"))]
    )
    assert np.allclose(statistics["action"]["mean"], states.mean(axis=0))
    assert np.allclose(statistics["action"]["std"], states.std(axis=0))
    pictures = np.concatenate([picture for e in range(3) for picture in open_dataset(source).decode_episode("top", e)])
    found = statistics["observation.images.top"]
    assert found["mean"].shape == (3, 1, 1)
    assert np.allclose(found["mean"].ravel(), pictures.reshape(-1, 3).mean(axis=0) / 255, atol=1e-6)
    assert np.allclose(found["std"].ravel(), pictures.reshape(-1, 3).std(axis=0) / 255, atol=1e-6)
    row = pq.read_table(tmp_path / "out" / "meta" / "episodes" / "chunk-000" / "file-000.parquet").to_pylist()[1]
    assert row["stats/action/count"] == [9]
    assert (row["dataset_from_index"], row["dataset_to_index"]) == (7, 16)


def test_pictures_in_tables_and_their_statistics(build_v21: Build, tmp_path: Path) -> None:
    source = build_v21(pictures_in_table=True)
    report = convert(source, tmp_path / "out")
    assert "observation.images.top" in report.computed
    assert compare(source, tmp_path / "out").equal
    assert json.loads((tmp_path / "out" / "meta" / "info.json").read_text())["video_path"] is None


def test_rates_stay_fractional_and_names_are_filled_in(build_v21: Build, tmp_path: Path) -> None:
    convert(build_v21(fps=29.97), tmp_path / "out")
    info = json.loads((tmp_path / "out" / "meta" / "info.json").read_text())
    assert info["fps"] == 29.97
    assert info["features"]["action"]["names"] == ["joint_0", "joint_1"]
    assert info["features"]["timestamp"]["names"] is None
    assert info["features"]["observation.images.top"]["info"]["video.codec"] == "h264"
    open_dataset(tmp_path / "out").check_videos()


def test_tasks_with_gaps_and_stored_statistics_stay(build_v21: Build, tmp_path: Path) -> None:
    source = build_v21(tasks={2: "push", 7: "pull"}, statistics=True)
    convert(source, tmp_path / "out")
    convert(tmp_path / "out", tmp_path / "back", V21)
    assert read_meta(tmp_path / "back").tasks == {2: "push", 7: "pull"}
    before, after = ((root / "meta" / "episodes_stats.jsonl").read_text() for root in (source, tmp_path / "back"))
    for old, new in zip(before.splitlines(), after.splitlines(), strict=True):
        for name, stats in json.loads(old)["stats"].items():
            for key, value in stats.items():
                assert json.loads(new)["stats"][name][key] == value


def test_other_files_and_fields_come_along(build_v21: Build, tmp_path: Path) -> None:
    source = build_v21()
    (source / "README.md").write_text("---\nlicense: mit\n---\n# Card\n")
    (source / "LICENSE").write_text("MIT")
    (source / "meta" / "calibration").mkdir()
    (source / "meta" / "calibration" / "arm.json").write_text("{}")
    lines = (source / "meta" / "episodes.jsonl").read_text().splitlines()
    rows = [{**json.loads(line), "operator": f"o{i}"} for i, line in enumerate(lines)]
    (source / "meta" / "episodes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    info = json.loads((source / "meta" / "info.json").read_text())
    (source / "meta" / "info.json").write_text(json.dumps({**info, "license_holder": "us"}))
    convert(source, tmp_path / "out")
    convert(tmp_path / "out", tmp_path / "back", V21)
    for name in ("README.md", "LICENSE", "meta/calibration/arm.json"):
        assert (tmp_path / "back" / name).read_bytes() == (source / name).read_bytes()
    assert [
        json.loads(line) for line in (tmp_path / "back" / "meta" / "episodes.jsonl").read_text().splitlines()
    ] == rows
    assert json.loads((tmp_path / "back" / "meta" / "info.json").read_text())["license_holder"] == "us"


def test_file_modes_are_the_users(tiny_dataset: Path, tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        convert(tiny_dataset, tmp_path / "out")
    finally:
        os.umask(old)
    paths = list((tmp_path / "out").rglob("*"))
    assert {path.suffix for path in paths} >= {"", ".json", ".parquet", ".mp4"}
    for path in paths:
        assert stat.S_IMODE(path.stat().st_mode) == (0o750 if path.is_dir() else 0o640), path


def test_size_limits_begin_new_files_and_folders(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert(tiny_dataset, tmp_path / "v21", V21)
    monkeypatch.setattr(plan, "_MB", 1000)
    convert(tmp_path / "v21", tmp_path / "out", CopyOptions(data_file_mb=4, video_file_mb=5, chunk_files=2))
    assert len(list((tmp_path / "out" / "data").rglob("file-*.parquet"))) > 2
    assert (tmp_path / "out" / "videos" / "observation.images.front" / "chunk-001").is_dir()
    assert compare(tiny_dataset, tmp_path / "out").equal
    open_dataset(tmp_path / "out").check_videos()


def encode(
    path: Path, pictures: list[npt.NDArray[Any]], *, codec: str = "libx264", fps: int = 10, **options: str
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with own_priority(), av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=fps, options={"crf": "18", **options})
        stream.width, stream.height, stream.pix_fmt = pictures[0].shape[1], pictures[0].shape[0], "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def moving(count: int, seed: int) -> list[npt.NDArray[Any]]:
    generator = np.random.default_rng(seed)
    base = generator.integers(0, 255, (4, 4, 3), dtype=np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    return [np.roll(base, number, axis=1) for number in range(count)]


def test_mixed_codings_are_not_joined(build_v21: Build, tmp_path: Path) -> None:
    source = build_v21(lengths=(7, 9, 5, 6))
    folder = source / "videos" / "chunk-000" / "observation.images.top"
    encode(folder / "episode_000001.mp4", moving(9, 1), codec="libsvtav1")
    # The same codec with other settings: another header.
    encode(folder / "episode_000003.mp4", moving(6, 3), bf="0", profile="baseline")
    convert(source, tmp_path / "out")
    files = sorted((tmp_path / "out" / "videos").rglob("*.mp4"))
    assert len(files) == 4
    assert compare(source, tmp_path / "out").equal
    open_dataset(tmp_path / "out").check_videos()


def test_reordered_frames_keep_their_times(build_v21: Build, tmp_path: Path) -> None:
    """h264 with B frames: packets are stored in another order than they are shown."""
    source = build_v21()
    for episode, length in enumerate((7, 9, 5)):
        path = source / "videos" / "chunk-000" / "observation.images.top" / f"episode_{episode:06d}.mp4"
        encode(path, moving(length, episode), bf="2", g="30")
        with av.open(str(path)) as container:
            assert any(p.pts != p.dts for p in container.demux(video=0) if p.pts is not None)
    convert(source, tmp_path / "out")
    assert len(list((tmp_path / "out" / "videos").rglob("*.mp4"))) == 1
    convert(tmp_path / "out", tmp_path / "back", V21)
    assert compare(source, tmp_path / "back").equal
    ours, theirs = open_dataset(tmp_path / "out"), open_dataset(source)
    for i in range(len(theirs)):
        assert np.array_equal(ours.image(i, "top"), theirs.image(i, "top"))


def one_long_video(tmp_path: Path, tiny_dataset: Path) -> Path:
    """A v3.0 folder whose video has one key frame for all episodes."""
    root = Path(shutil.copytree(tiny_dataset, tmp_path / "long"))
    dataset = open_dataset(tiny_dataset)
    pictures = [dataset.image(i, "front") for i in range(len(dataset))]
    encode(root / "videos" / "observation.images.front" / "chunk-000" / "file-000.mp4", pictures, g="999", bf="0",
           sc_threshold="0")  # fmt: skip
    return root


def first_and_last(dataset: Dataset) -> list[int]:
    """Rows of the first and last frame of each episode, in their order."""
    edges = np.flatnonzero(np.diff(dataset.episode_index)) + 1
    return sorted([0, *edges, *(edges - 1), len(dataset) - 1])


def test_what_is_encoded_again_is_not_called_equal(
    tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = one_long_video(tmp_path, tiny_dataset)
    args = ["dataset", "convert", str(root), str(tmp_path / "out"), "--to", "v2.1", "--reencode"]
    assert main(args) == 0
    said = capsys.readouterr().out
    assert "Equal." not in said
    assert "Equal, except for 105 packets that were encoded again" in said
    assert "of 255 (mean absolute)" in said
    assert "(105 more encoded again, not equal)" in said


def test_what_is_encoded_again_is_declared_as_it_is(tiny_dataset: Path, tmp_path: Path) -> None:
    """A codec that is not written here becomes h264 in all of the camera's videos, and info.json says so."""
    root = Path(shutil.copytree(tiny_dataset, tmp_path / "long"))
    dataset = open_dataset(tiny_dataset)
    pictures = [dataset.image(i, "front") for i in range(len(dataset))]
    film = root / "videos" / "observation.images.front" / "chunk-000" / "file-000.mp4"
    encode(film, pictures, codec="mpeg4", g="600", bf="0", sc_threshold="1000000000")
    info = json.loads((root / "meta" / "info.json").read_text())
    info["features"]["observation.images.front"]["info"] |= {"video.codec": "mpeg4", "video.pix_fmt": "yuv420p"}
    (root / "meta" / "info.json").write_text(json.dumps(info))
    report = convert(root, tmp_path / "out", CopyOptions(version="v2.1", reencode=True))
    assert len(report.reencoded) == 6, "also the first episode, which could have been copied"
    folder = tmp_path / "out" / "videos" / "chunk-000"
    assert {video_probe(path)[0] for path in (folder / "observation.images.front").glob("*.mp4")} == {"h264"}
    declared = json.loads((tmp_path / "out" / "meta" / "info.json").read_text())["features"]
    assert declared["observation.images.front"]["info"]["video.codec"] == "h264"
    assert {"video-codec", "video-mixed"}.isdisjoint(one.code for one in check_dataset(tmp_path / "out").findings)


def test_cutting_needs_key_frames(tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = one_long_video(tmp_path, tiny_dataset)
    assert main(["dataset", "convert", str(root), str(tmp_path / "out"), "--to", "v2.1"]) == 1
    said = capsys.readouterr().err
    assert "camera 'front'" in said
    assert "episode 1" in said
    assert "--reencode" in said
    assert not (tmp_path / "out").exists()
    args = ["dataset", "convert", str(root), str(tmp_path / "out"), "--to", "v2.1", "--reencode", "--json"]
    assert main(args) == 0
    document = json.loads(capsys.readouterr().out)
    ours, theirs = open_dataset(tmp_path / "out"), open_dataset(root)
    assert len(document["reencoded"]) == 5
    counts = {row["check"]: (row["compared"], row["encoded_again"]) for row in document["proof"]["checks"]}
    again = sum(range(19, 24))
    assert counts["packets"] == (2 * 18 + again, again)
    assert counts["pictures"] == (2 * 7, 2 * 5)
    pairs = [(ours.image(i, "front"), theirs.image(i, "front")) for i in first_and_last(theirs)]
    measured = max(np.abs(a.astype(int) - b).mean() for a, b in pairs[2:])
    assert document["picture_difference"] == pytest.approx(measured, abs=0.2)
    assert document["picture_difference"] > 0
    ours.check_videos()
    for i in range(len(theirs)):
        assert np.abs(ours.image(i, "front").astype(int) - theirs.image(i, "front")).mean() < 8
        assert np.array_equal(ours.image(i, "wrist"), theirs.image(i, "wrist"))


def test_time_stamps_that_do_not_fit_are_refused(build_v21: Build, tmp_path: Path) -> None:
    source = build_v21()
    path = source / "data" / "chunk-000" / "episode_000001.parquet"
    table = pq.read_table(path)
    times = table["timestamp"].to_numpy() + np.linspace(0, 2.2, len(table), dtype=np.float32)
    pq.write_table(table.set_column(table.schema.get_field_index("timestamp"), "timestamp", pa.array(times)), path)
    with pytest.raises(DatasetError, match=r"episode 1 .*2\.200 s apart") as error:
        convert(source, tmp_path / "out")
    assert "repair" in error.value.fix
    report = convert(source, tmp_path / "out", CopyOptions(misaligned=True))
    assert "off the videos" in report.warnings[0]
    assert compare(source, tmp_path / "out").equal


def test_too_few_frames_or_rows_name_the_episode(build_v21: Build, tmp_path: Path) -> None:
    source = build_v21()
    encode(source / "videos" / "chunk-000" / "observation.images.top" / "episode_000002.mp4", moving(4, 2))
    with pytest.raises(DatasetError, match="4 frames for the 5 rows of episode 2"):
        convert(source, tmp_path / "out")
    shutil.rmtree(source)
    source = build_v21()
    path = source / "data" / "chunk-000" / "episode_000001.parquet"
    pq.write_table(pq.read_table(path).slice(0, 8), path)
    with pytest.raises(DatasetError, match="Episode 1 has 8 rows"):
        convert(source, tmp_path / "out")
    # The same command would meet the error again: nothing is kept for it.
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == []


def change_v21_column(source: Path, episode: int, name: str, values: pa.Array) -> None:
    path = source / "data" / "chunk-000" / f"episode_{episode:06d}.parquet"
    table = pq.read_table(path)
    pq.write_table(table.set_column(table.schema.get_field_index(name), name, values), path)


def test_rows_without_a_task_are_refused(build_v21: Build, tmp_path: Path) -> None:
    source = build_v21()
    change_v21_column(source, 1, "task_index", pa.array([0, None, *[0] * 7]))
    with pytest.raises(DatasetError, match="1 of 9 rows of episode 1 have no task_index") as error:
        convert(source, tmp_path / "out")
    assert "repair" in error.value.fix
    assert not (tmp_path / "out").exists()


def test_nans_are_copied_with_a_warning(build_v21: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = build_v21()
    change_v21_column(source, 1, "action", pa.array([[float("nan"), 1.0]] * 9, pa.list_(pa.float32())))
    assert main(["dataset", "convert", str(source), str(tmp_path / "out")]) == 0
    said = capsys.readouterr().err
    assert "NaN or infinite numbers in action:" in said
    assert f"smolpilot dataset check {source}" in said


def test_equal_texts_of_two_tasks_are_warned_of(build_v21: Build, tmp_path: Path) -> None:
    report = convert(build_v21(tasks={0: "push", 3: "push", 4: "pull"}), tmp_path / "out")
    assert [text for text in report.warnings if "0, 3" in text and "'push'" in text]
    assert len(report.warnings) == 1


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [("data_path", "../x_{episode_index}.parquet", "out of the dataset"), ("fps", "10", "fps")],
)
def test_errors_of_the_description_name_repair(
    build_v21: Build,
    tmp_path: Path,
    edit_info: Callable[[Path, Callable[[dict[str, Any]], object]], None],
    key: str,
    value: str,
    words: str,
) -> None:
    source = build_v21()
    edit_info(source, lambda info: info.update({key: value}))
    with pytest.raises(DatasetError, match=words) as error:
        convert(source, tmp_path / "out")
    assert "smolpilot dataset repair" in error.value.fix


def test_a_file_is_no_recording(build_v21: Build, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a file"):
        convert(build_v21() / "meta" / "info.json", tmp_path / "out")


def test_targets_that_cannot_be(tiny_dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(UsageError, match="exists already"):
        convert(tiny_dataset, tmp_path / "taken")
    with pytest.raises(UsageError, match=r"inside the (recording|dataset)"):
        convert(tiny_dataset, tiny_dataset / "out")
    with pytest.raises(UsageError, match="does not exist"):
        convert(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="which is a file"):
        convert(tiny_dataset, tmp_path / "file" / "out")


def test_a_full_disk_keeps_finished_parts(tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    whole = mux.write_segments

    def full(target: Path, segments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        whole(target, segments)

    monkeypatch.setattr("smolpilot.datasets.copy.video.mux.write_segments", full)
    with pytest.raises(DatasetError, match="disk is full") as error:
        convert(tiny_dataset, tmp_path / "out", V21)
    assert "run the same command again" in error.value.fix
    assert not (tmp_path / "out").exists()
    assert convert(tiny_dataset, tmp_path / "out", V21).resumed == 3
    assert compare(tiny_dataset, tmp_path / "out").equal


def test_no_room_is_said_before_anything_is_written(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr("smolpilot.datasets.copy.engine.shutil.disk_usage", lambda _: usage)
    with pytest.raises(DatasetError, match="too full"):
        convert(tiny_dataset, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_copy_that_went_wrong_is_not_put_in_place(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = mux.write_segments

    def swapped(target: Path, segments: Any) -> None:
        whole(target, [segments[0], *segments[:0:-1]])

    monkeypatch.setattr("smolpilot.datasets.copy.video.mux.write_segments", swapped)
    with pytest.raises(DatasetError, match="packet"):
        convert(tiny_dataset, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("large", ["_WORTH_A_THREAD", "_WORTH_A_PROCESS"])
def test_threads_and_processes_write_the_same_bytes(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: str
) -> None:
    convert(tiny_dataset, tmp_path / "one", V21)
    for name in ("_WORTH_A_THREAD", large):
        monkeypatch.setattr(pool, name, 1)
    convert(tiny_dataset, tmp_path / "two", CopyOptions(version="v2.1", jobs=2))
    assert tree_hash(tmp_path / "one") == tree_hash(tmp_path / "two")


def test_the_manifest_names_every_file(tiny_dataset: Path, tmp_path: Path) -> None:
    convert(tiny_dataset, tmp_path / "out")
    files = json.loads((tmp_path / "out" / MANIFEST).read_text())["files"]
    found = {
        path.relative_to(tmp_path / "out").as_posix(): hashlib.blake2b(path.read_bytes(), digest_size=32).hexdigest()
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    }
    del found[MANIFEST]
    assert {name: entry["blake2b"] for name, entry in files.items()} == found


def test_what_no_policy_here_takes_is_copied_all_the_same(build_v21: Build, tmp_path: Path) -> None:
    """Depth cameras, and recordings without actions."""
    source = build_v21(statistics=True)
    info = json.loads((source / "meta" / "info.json").read_text())
    info["features"]["observation.images.top"]["info"] = {"video.is_depth_map": True}
    del info["features"]["action"]
    (source / "meta" / "info.json").write_text(json.dumps(info))
    for path in (source / "data").rglob("*.parquet"):
        pq.write_table(pq.read_table(path).drop_columns("action"), path)
    with pytest.raises(DatasetError, match="'action'"):
        read_meta(source)
    report = convert(source, tmp_path / "out")
    assert "observation.images.top" not in report.computed
    assert compare(source, tmp_path / "out").equal
    found = json.loads((tmp_path / "out" / "meta" / "info.json").read_text())
    assert found["features"]["observation.images.top"]["info"]["video.is_depth_map"] is True


def test_columns_that_the_description_forgot_are_described(build_v21: Build, tmp_path: Path) -> None:
    """LeRobot cannot load a column that info.json does not name."""
    source = build_v21()
    for path in (source / "data").rglob("*.parquet"):
        table = pq.read_table(path)
        force = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(2.0 * len(table))), 2)
        pq.write_table(table.append_column("force", force).append_column("ok", pa.array([True] * len(table))), path)
    convert(source, tmp_path / "out")
    features = json.loads((tmp_path / "out" / "meta" / "info.json").read_text())["features"]
    assert features["force"] == {"dtype": "float64", "shape": [2], "names": ["joint_0", "joint_1"]}
    assert features["ok"] == {"dtype": "bool", "shape": [1], "names": None}
    assert compare(source, tmp_path / "out").equal
    assert read_meta(tmp_path / "out").statistics["force"]["max"][0] == 16.0


def test_gaps_in_episodes_are_kept_with_a_warning(build_v21: Build, tmp_path: Path) -> None:
    source = build_v21()
    lines = (source / "meta" / "episodes.jsonl").read_text().splitlines(keepends=True)
    (source / "meta" / "episodes.jsonl").write_text(lines[0] + lines[2])
    report = convert(source, tmp_path / "out")
    assert [episode.index for episode in read_meta(tmp_path / "out").episodes] == [0, 2]
    assert "gaps" in report.warnings[0]


def test_command_loads_neither_torch_nor_lerobot(tiny_dataset: Path, tmp_path: Path) -> None:
    program = (
        "import sys; from smolpilot.cli.main import main; "
        f"code = main(['dataset', 'convert', {str(tiny_dataset)!r}, {str(tmp_path / 'out')!r}]); "
        "print([name for name in ('torch', 'lerobot', 'matplotlib') if name in sys.modules]); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    assert "Equal." in done.stdout


def test_command_misuse(tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "taken").mkdir()
    for args, words in (
        ([str(tiny_dataset), str(tmp_path / "taken")], "exists already"),
        ([str(tmp_path / "no"), str(tmp_path / "out")], "does not exist"),
        ([str(tiny_dataset), str(tmp_path / "out"), "--jobs", "-1"], "--jobs"),
        ([str(tiny_dataset), str(tmp_path / "out"), "--data-file-mb", "0"], "--data-file-mb"),
    ):
        assert main(["dataset", "convert", *args]) == 2
        assert words in capsys.readouterr().err


@pytest.mark.real
def test_a_real_recording_there_and_back(real_data: Path, tmp_path: Path) -> None:
    source = real_data / "g1_bottle_v21"
    convert(source, tmp_path / "v30")
    convert(tmp_path / "v30", tmp_path / "v21", V21)
    assert compare(source, tmp_path / "v21").equal
    assert (tmp_path / "v30" / "LICENSE").read_bytes() == (source / "LICENSE").read_bytes()
    for episode in range(10):
        name = f"chunk-000/observation.images.cam_high/episode_{episode:06d}.mp4"
        assert packets(source / "videos" / name) == packets(tmp_path / "v21" / "videos" / name)
