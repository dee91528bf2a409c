"""The decoder on files as other programs write them: long groups, reordered frames, all codecs."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest

from smolpilot.common.errors import DatasetError, UsageError
from smolpilot.datasets.media.encode import VideoEncoder
from smolpilot.datasets.media.video import VideoReader, decode_positions, probe, read_index


def pictures(count: int, size: tuple[int, int] = (48, 64)) -> list[npt.NDArray[Any]]:
    """Images whose level tells their number."""
    return [np.full((*size, 3), 5 + 4 * number, dtype=np.uint8) for number in range(count)]


def write(path: Path, options: dict[str, str], group: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(30), options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.gop_size = group
        for picture in pictures(50):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("options", "group"),
    [({"bf": "3"}, 12), ({"bf": "3", "x264-params": "open-gop=1:keyint=8:b-adapt=0"}, 8), ({"bf": "0"}, 250)],
    ids=["b-frames", "open groups", "one key frame"],
)
def test_random_access_is_exact(tmp_path: Path, options: dict[str, str], group: int) -> None:
    path = tmp_path / "v.mp4"
    write(path, {**options, "preset": "veryfast", "crf": "4"}, group)
    reader = VideoReader()
    index = reader.index(path)
    assert len(index.pts) == 50
    straight = list(decode_positions(path, index, np.arange(50)))
    order = [0, 49, 7, 8, 9, 3, 3, 30, 31, 25, 48, 1, *np.random.default_rng(1).permutation(50).tolist()]
    for position in order:
        picture = reader.frame(path, position)
        assert abs(float(picture.mean()) - (5 + 4 * position)) < 2
        assert np.array_equal(picture, straight[position])


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="Linux has this call")
def test_encoding_does_not_make_the_process_a_real_time_one(tmp_path: Path) -> None:
    """SVT-AV1 does where it may, as root; everything else on the machine would wait."""
    before = os.sched_getscheduler(0)
    encoder = VideoEncoder(tmp_path / "v.mp4", width=64, height=48, fps=15, codec="av1")
    for picture in pictures(3):
        encoder.add(picture)
        assert os.sched_getscheduler(0) == before
    encoder.close()
    assert os.sched_getscheduler(0) == before


@pytest.mark.parametrize(
    ("codec", "size"), [("h264", (48, 64)), ("hevc", (48, 64)), ("av1", (48, 64)), ("h264", (33, 47))]
)
def test_every_codec_comes_back(tmp_path: Path, codec: Any, size: tuple[int, int]) -> None:
    path = tmp_path / "v.mp4"
    encoder = VideoEncoder(path, width=size[1], height=size[0], fps=15, codec=codec)
    for number, picture in enumerate(pictures(11, size)):
        encoder.add(picture, key_frame=number == 5)
    encoder.close()
    assert probe(path)[0] == codec
    reader = VideoReader()
    assert len(reader.index(path).pts) == 11
    assert int(reader.index(path).keyframe[5]) == 5
    for position in (10, 0, 5, 6):
        picture = reader.frame(path, position)
        assert picture.shape == (*size, 3)
        assert abs(float(picture.mean()) - (5 + 4 * position)) < 4


def test_few_files_stay_open(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.mp4" for number in range(5)]
    for path in paths:
        write(path, {"preset": "ultrafast"}, 2)
    reader = VideoReader(open_files=2)
    for _ in range(2):
        for path in paths:
            assert abs(float(reader.frame(path, 20).mean()) - 85) < 4
    assert len(reader._idle) == 2
    reader.close()
    assert abs(float(reader.frame(paths[0], 3).mean()) - 17) < 4


def test_torn_and_foreign_files(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    write(path, {"preset": "ultrafast"}, 2)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DatasetError, match="torn or cannot be decoded"):
        read_index(path)
    path.write_bytes(b"not a video at all" * 100)
    with pytest.raises(DatasetError, match="torn or cannot be decoded"):
        read_index(path)
    with pytest.raises(DatasetError, match="is missing"):
        read_index(tmp_path / "none.mp4")


def test_sizes_that_an_encoder_cannot_take(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="hevc cannot encode images 47 pixels wide"):
        VideoEncoder(tmp_path / "v.mp4", width=47, height=48, fps=10, codec="hevc")
    with pytest.raises(UsageError, match="av1 cannot encode 65x48"):
        VideoEncoder(tmp_path / "v.mp4", width=65, height=48, fps=10, codec="av1")


def test_unknown_codec(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Unknown video codec 'vp9'"):
        VideoEncoder(tmp_path / "v.mp4", width=64, height=48, fps=10, codec="vp9")  # type: ignore[arg-type]
