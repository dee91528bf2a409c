"""What is read of video files: the same however the work is spread, and damage is told with the right episode."""

from __future__ import annotations

import shutil
from pathlib import Path

import av
import numpy as np
import pytest

from smolpilot.common.errors import DatasetError
from smolpilot.datasets import read_meta
from smolpilot.datasets.copy import pool
from smolpilot.datasets.copy.pool import Pool
from smolpilot.datasets.copy.proof import content_digests as facts
from smolpilot.datasets.copy.proof.content_digests import ScanTask, digest_videos, scan
from smolpilot.datasets.copy.video import proof_images as pictures
from smolpilot.datasets.copy.video.packets import Span, clips_of, read_packets


def video_file(root: Path) -> Path:
    return next((root / "videos/observation.images.front").rglob("*.mp4"))


@pytest.mark.parametrize("together", [1, 4, 100])
@pytest.mark.parametrize("jobs", [1, 2])
def test_spreading_the_pictures_of_one_file_changes_nothing(
    tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch, together: int, jobs: int
) -> None:
    monkeypatch.setattr(pool, "_WORTH_A_THREAD", 1)
    meta = read_meta(tiny_dataset)
    spans = [Span(e.index, e.videos["front"].start, e.videos["front"].stop, e.length) for e in meta.episodes]
    whole = scan(ScanTask(video_file(tiny_dataset), spans, [span.start for span in spans], meta.fps))
    monkeypatch.setattr(facts, "_TOGETHER", together)
    reports = []
    with Pool(jobs, size=100) as workers:
        found = digest_videos(meta, range(6), workers, lambda *what: reports.append(what), "read")
    assert [found["front", episode] for episode in range(6)] == whole
    assert len({first for _, (first, _) in whole}) == 6, "each episode begins with another image"
    assert reports[-1][1] == reports[-1][2]


def test_the_seam_in_front_of_a_group_is_played_through(tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = video_file(tiny_dataset)
    meta = read_meta(tiny_dataset)
    packets = read_packets(path)
    spans = [Span(e.index, e.videos["front"].start, e.videos["front"].stop, e.length) for e in meta.episodes]
    clips = clips_of(path, packets, spans, [span.start for span in spans], meta.fps)
    seeks = []
    seek = pictures._Player._seek
    monkeypatch.setattr(pictures._Player, "_seek", lambda self, place: (seeks.append(place), seek(self, place))[1])
    alone = pictures.image_digests(path, packets, clips[3:4])
    sought_alone = seeks.copy()
    seeks.clear()
    played = pictures.image_digests(path, packets, clips[3:4], before=clips[2])
    assert played == alone
    first = int(np.flatnonzero(packets.pts == clips[3].first_pts)[0])
    assert first in sought_alone
    assert first not in seeks, "it is reached from the last frame of the episode before"


def test_planes_are_hashed_without_their_padding(tiny_dataset: Path) -> None:
    with av.open(str(video_file(tiny_dataset))) as container:
        frame = next(container.decode(video=0))
    assert frame.format.name == "yuv420p"
    assert frame.planes[1].line_size > frame.planes[1].width, "otherwise there is no padding to leave out"
    fresh = av.VideoFrame.from_ndarray(frame.to_ndarray(), format="yuv420p")
    other = frame.to_ndarray()
    other[-1, -1] ^= 1
    changed = av.VideoFrame.from_ndarray(other, format="yuv420p")
    assert pictures.image_digest(frame) == pictures.image_digest(fresh)
    assert pictures.image_digest(frame) != pictures.image_digest(changed)


def test_a_picture_of_a_later_group_that_cannot_be_decoded_is_named(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts, "_TOGETHER", 1)
    root = Path(shutil.copytree(tiny_dataset, tmp_path / "copy"))
    path, meta = video_file(root), read_meta(root)
    start = meta.episode(4).videos["front"].start
    with av.open(str(path)) as container:
        base = container.streams.video[0].time_base
        assert base is not None
        packet = next(p for p in container.demux(video=0) if p.pts is not None and float(p.pts * base) >= start)
        place, size = packet.pos, packet.size
    assert place is not None
    content = bytearray(path.read_bytes())
    content[place : place + size] = bytes(size)
    path.write_bytes(content)
    with Pool(1, size=0) as workers, pytest.raises(DatasetError) as caught:
        digest_videos(read_meta(root), range(6), workers, lambda *what: None, "read")
    assert f"The frame at {start:.3f} s" in caught.value.found
