"""What is given to decoders: formats that recorders write, of a size within bounds and as declared. No traceback."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from smolpilot.cli.main import main
from smolpilot.common.errors import DatasetError
from smolpilot.datasets import open_dataset

from .helpers_damage import change_info, video_v3, video_v21
from .helpers_media import KEY, NO_IMAGES, NO_VIDEOS, encoded, film, grown, huge_jpeg, huge_png, put_image
from .helpers_recordings import write_video

type Build = Callable[..., Path]


@pytest.fixture
def images(build_v21: Build) -> Path:
    """Three episodes of 32x32 images in the tables."""
    return build_v21(pictures_in_table=True)


def findings(root: Path, capsys: pytest.CaptureFixture[str], code: str) -> list[dict[str, Any]]:
    """The findings of a code that `dataset check` prints; that it fails is part of it."""
    assert main(["dataset", "check", str(root), "--json", "--jobs", "1"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert not [one for one in document["findings"] if one["code"] == "check-failed"]
    return [one for one in document["findings"] if one["code"] == code]


def refused(root: Path) -> str:
    """What training, eval and preflight say of a dataset before they begin."""
    dataset = open_dataset(root)
    with pytest.raises(DatasetError, match=r"episode|image|video") as caught:
        dataset.check_videos()
    with pytest.raises(DatasetError, match=r"episode|image|video"):
        # Whoever does not ask first gets a clear error, too.
        dataset.batch(range(len(dataset)), images="uint8", threads=1)
    return caught.value.found


@pytest.mark.parametrize("name", NO_IMAGES)
def test_only_images_that_recorders_write_are_decoded(
    images: Path, name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = tmp_path / "started"
    ghostscript = tmp_path / "bin" / "gs"
    ghostscript.parent.mkdir()
    ghostscript.write_text(f"#!/bin/sh\ntouch {started}\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ghostscript.parent}{os.pathsep}{os.environ['PATH']}")
    content, words = NO_IMAGES[name]
    put_image(images, 1, 4, content)
    found = findings(images, capsys, "picture-undecodable")
    assert [one["episode"] for one in found] == [1]
    assert found[0]["frame"] == 4
    assert main(["dataset", "view", str(images), "--no-check", "--out", str(tmp_path / "page")]) == 0
    assert "Episode 1: Row 4" in capsys.readouterr().out
    said = refused(images)
    assert "frame 4 of episode 1" in said
    for text in (said, found[0]["message"]):
        assert words in text
        assert "PNG and JPEG are decoded" in text
    assert not started.exists()


def test_images_that_recorders_write_are_decoded(images: Path) -> None:
    put_image(images, 0, 1, encoded(fmt="JPEG"))
    put_image(images, 0, 2, encoded(mode="L"))
    put_image(images, 0, 3, encoded(mode="RGBA"))
    dataset = open_dataset(images)
    dataset.check_videos()
    pictures = dataset.pictures(range(len(dataset)), "top")
    assert (np.ptp(pictures[1]), np.ptp(pictures[2])) == (0, 0)
    assert abs(int(pictures[1].mean()) - 128) <= 1
    assert int(pictures[2].mean()) == 120


def test_a_depth_image_in_a_color_camera_is_found_first(images: Path) -> None:
    put_image(images, 2, 4, encoded(mode="I;16"))
    said = refused(images)
    assert "frame 4 of episode 2 cannot be decoded: it is a depth image" in said


@pytest.mark.parametrize("fmt", ["TIFF", "PNG"])
def test_a_depth_camera_may_have_tiff(images: Path, capsys: pytest.CaptureFixture[str], fmt: str) -> None:
    info = json.loads((images / "meta" / "info.json").read_text())
    info["features"][KEY] |= {"shape": [32, 32, 1], "info": {"is_depth_map": True}}
    change_info(images, features=info["features"])
    for episode, length in enumerate((7, 9, 5)):
        for frame in range(length):
            put_image(images, episode, frame, encoded(fmt=fmt, mode="I;16"))
    main(["dataset", "check", str(images), "--json", "--jobs", "1"])
    document = json.loads(capsys.readouterr().out)
    codes = {one["code"] for one in document["findings"]}
    assert "camera-unusable" in codes
    assert not codes & {"picture-undecodable", "video-size", "check-failed"}
    assert document["decoded_frames"] == 0
    put_image(images, 2, 1, NO_IMAGES["EPS"][0])
    (found,) = findings(images, capsys, "picture-undecodable")
    assert (found["episode"], found["frame"]) == (2, 1)


@pytest.mark.parametrize(
    ("content", "size"),
    [
        (huge_png(20000, 20000), "20000x20000"),
        (huge_png(13000, 13000), "13000x13000"),
        (huge_png(2**31 - 1, 2**31 - 1), f"{2**31 - 1}x{2**31 - 1}"),
        (huge_jpeg(65500, 65500), "65500x65500"),
        (encoded((128, 96)), "128x96"),
        (encoded((128, 96), "JPEG"), "128x96"),
        (encoded((32, 33)), "32x33"),
    ],
    ids=["bomb", "half a GB", "largest", "JPEG", "another size", "another size, JPEG", "one row more"],
)
def test_images_of_another_size_are_found_by_their_headers(
    images: Path, content: bytes, size: str, capsys: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    put_image(images, 2, 3, content)
    (found,) = findings(images, capsys, "video-size")
    assert (found["episode"], found["frame"]) == (2, 3)
    assert f"is {size} with 3 channels; declared are 32x32" in found["message"]
    said = refused(images)
    assert "frame 3 of episode 2" in said
    assert f"is {size}, meta/info.json says 32x32" in said
    # Episodes without it can be used.
    open_dataset(images, episodes=[0, 1]).check_videos()
    assert not [one for one in recwarn if "Decompression" in str(one.category)]


def test_a_declared_bomb_is_one_all_the_same(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    info = json.loads((images / "meta" / "info.json").read_text())
    info["features"][KEY]["shape"] = [20000, 20000, 3]
    change_info(images, features=info["features"])
    put_image(images, 0, 0, huge_png(20000, 20000))
    found = findings(images, capsys, "picture-undecodable")
    assert "it has 20000x20000 pixels; at most 67,108,864" in found[0]["message"]


def test_an_image_that_is_a_path_to_no_file_is_not_waited_for(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(images / "pipe")
    put_image(images, 0, 2, None, path=str(images / "pipe"))
    (found,) = findings(images, capsys, "picture-undecodable")
    assert "it is a path to no image of the dataset" in found["message"]


@pytest.mark.parametrize("name", NO_VIDEOS)
def test_only_videos_that_recorders_write_are_decoded(
    build_v21: Build, name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    root = build_v21()
    spoil, words = NO_VIDEOS[name]
    spoil(video_v21(root, 1, "top"))
    found = findings(root, capsys, "video-torn")
    assert [one["episode"] for one in found] == [1]
    assert words in found[0]["message"]
    dataset = open_dataset(root)
    with pytest.raises(DatasetError, match=rf"{words}.* \(episode 1, camera 'top'\)"):
        dataset.check_videos()
    with pytest.raises(DatasetError, match=words):
        dataset.batch(range(len(dataset)), images="uint8", threads=1)
    assert main(["dataset", "convert", str(root), str(tmp_path / "out"), "--jobs", "1"]) == 1
    assert words in capsys.readouterr().err
    assert main(["dataset", "view", str(root), "--no-check", "--out", str(tmp_path / "page")]) == 0
    assert words in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("codec", "fmt"), [("libx264", "mp4"), ("libx264", "matroska"), ("libvpx-vp9", "mp4"), ("mpeg4", "mp4")]
)
def test_videos_that_recorders_write_are_decoded(broken: Callable[[str], Path], codec: str, fmt: str) -> None:
    root = broken("v21")
    film(video_v21(root, 0), codec, fmt)
    dataset = open_dataset(root, episodes=[0])
    dataset.check_videos()
    assert abs(int(dataset.image(4, "front").mean()) - 68) < 4


def test_titles_that_are_no_text_and_second_streams_do_not_matter(
    broken: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    root = broken("v21")
    path = video_v21(root, 0)
    before = open_dataset(root).image(3, "front")
    content = path.read_bytes()
    assert b"Lavf" in content
    path.write_bytes(content.replace(b"Lavf", b"\xff\xfe\x80f").replace(b"VideoHandler", b"\xff\xfedeoHandler"))
    assert main(["dataset", "check", str(root), "--json", "--jobs", "1"]) == 0
    assert main(["dataset", "info", str(root)]) == 0
    capsys.readouterr()
    np.testing.assert_array_equal(open_dataset(root).image(3, "front"), before)
    doubled = path.with_name("doubled.mp4")
    with av.open(str(video_v21(root, 1))) as source, av.open(str(doubled), "w", format="mp4") as out:
        streams = [out.add_stream_from_template(source.streams.video[0], opaque=True) for _ in range(2)]
        for packet in list(source.demux(source.streams.video[0])):
            if packet.pts is not None:
                content = bytes(packet)
                for stream in streams:
                    again = av.Packet(content)
                    again.pts, again.dts, again.duration = packet.pts, packet.dts, packet.duration
                    again.time_base = packet.time_base
                    again.is_keyframe = packet.is_keyframe
                    again.stream = stream
                    out.mux(again)
    expected = open_dataset(root, episodes=[1]).image(3, "front")
    doubled.replace(video_v21(root, 1))
    dataset = open_dataset(root, episodes=[1])
    dataset.check_videos()
    np.testing.assert_array_equal(dataset.image(3, "front"), expected)


@pytest.mark.parametrize("layout", ["v21", "v3"])
def test_videos_of_another_size_are_found_before_anything_begins(
    broken: Callable[[str], Path], layout: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    root = broken(layout)
    path, episode, length = (video_v21(root, 4), 4, 25) if layout == "v21" else (video_v3(root, 1), 3, 81)
    write_video(path, np.full((length, 96, 128, 3), 90, np.uint8))
    found = findings(root, capsys, "video-size")
    assert episode in [one["episode"] for one in found]
    assert "128x96" in found[0]["message"]
    said = refused(root)
    words = f"camera 'front' in episode {episode} is 128x96, meta/info.json says 64x48"
    assert words in said
    assert main(["dataset", "info", str(root)]) == 0
    assert words in capsys.readouterr().out
    run = tmp_path / "run"
    for verb in (
        ["preflight", "--dataset", str(root)],
        ["train", "--dataset", str(root), "--preset", "tiny", "--from-scratch", "--out", str(run), "--steps", "2"],
    ):
        assert main(verb) == 1
        printed = capsys.readouterr()
        assert "128x96" in printed.err + printed.out
        assert "Traceback" not in printed.err
    assert not run.exists()


def test_a_video_that_grows_is_an_error_and_a_finding(
    broken: Callable[[str], Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    root = broken("v21")
    path = video_v21(root, 0)
    grown(path)
    words = "a frame has 128x96 pixels, its header says 64x48"
    (found,) = [one for one in findings(root, capsys, "video-undecodable") if one["camera"] == "front"]
    assert (found["episode"], found["frame"]) == (0, 12)
    assert words in found["message"]
    dataset = open_dataset(root, episodes=[0])
    assert dataset.image(11, "front").shape == (48, 64, 3)
    with pytest.raises(DatasetError, match=words):
        dataset.image(12, "front")
    with pytest.raises(DatasetError, match=words):
        list(open_dataset(root, episodes=[0]).decode_episode("front", 0))
    # For the page the packets are copied, and the browser shows them.
    assert main(["dataset", "view", str(root), "--no-check", "--out", str(tmp_path / "page")]) == 0


def test_nothing_of_another_size_is_encoded_again(
    broken: Callable[[str], Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    root = broken("v3")
    # A key frame every twelve frames: the third episode cannot be cut out of the file.
    film(video_v3(root, 0), "mpeg4", "mp4", (128, 96), frames=24 + 27 + 27)
    assert main(["dataset", "convert", str(root), str(tmp_path / "out"), "--to", "v2.1", "--reencode"]) == 1
    assert "in episode 0 is 128x96, meta/info.json says 64x48" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_damaged_page_of_images_costs_its_rows(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = images / "data" / "chunk-000" / "episode_000001.parquet"
    table = pq.read_table(path)
    pq.write_table(table, path, write_page_checksum=True, use_dictionary=False)
    place = pq.ParquetFile(path).metadata.row_group(0)
    (column,) = [place.column(i) for i in range(place.num_columns) if place.column(i).path_in_schema == f"{KEY}.bytes"]
    content = bytearray(path.read_bytes())
    content[column.data_page_offset + column.total_compressed_size - 9] ^= 1
    path.write_bytes(content)
    (found,) = findings(images, capsys, "picture-undecodable")
    assert (found["episode"], found["frame"]) == (1, 0)
    assert found["message"].startswith("9 of 9 frames")
    assert "CRC" in found["message"]
    dataset = open_dataset(images)
    with pytest.raises(DatasetError, match=r"episode_000001\.parquet .*CRC"):
        dataset.check_videos()
    with pytest.raises(DatasetError, match=r"episode_000001\.parquet .*CRC"):
        dataset.image(8, "top")
