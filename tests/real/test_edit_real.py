"""Edits and the page of a real recording: AV1 packets and values stay, the page's clips are the source's packets."""

from __future__ import annotations

import hashlib
from pathlib import Path

import av
import numpy as np
import pytest

from smolpilot.cli.main import main
from smolpilot.datasets import open_dataset, read_meta

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def source(real_data: Path) -> Path:
    path = real_data / "g1_bottle_v21"
    if not path.is_dir():
        pytest.skip("this recording is not here")
    return path


def packets(path: Path) -> list[str]:
    found: list[str] = []
    with av.open(str(path)) as container:
        found += [hashlib.sha256(bytes(packet)).hexdigest() for packet in container.demux(video=0) if packet.size]
    return found


def test_split_and_merge_again(source: Path, tmp_path: Path) -> None:
    assert main(["dataset", "split", str(source), str(tmp_path / "parts"), "--parts", "val=8-9", "train=rest"]) == 0
    train, val = tmp_path / "parts" / "train", tmp_path / "parts" / "val"
    assert main(["dataset", "merge", str(tmp_path / "all"), str(train), str(val), "--to", "v3.0"]) == 0
    before, after = open_dataset(source), open_dataset(tmp_path / "all")
    np.testing.assert_array_equal(after.states, before.states)
    np.testing.assert_array_equal(after.actions, before.actions)
    np.testing.assert_array_equal(after.timestamps, before.timestamps)
    joined = [packet for path in after.meta.episodes[:1] for packet in packets(path.videos["cam_high"].path)]
    assert joined == [packet for one in before.meta.episodes for packet in packets(one.videos["cam_high"].path)]


def test_view_copies_the_packets(source: Path, tmp_path: Path) -> None:
    args = ["--episodes", "2,5", "--no-check", "--robot", "unitree_g1_inspire"]
    assert main(["dataset", "view", str(source), "--out", str(tmp_path / "page"), *args]) == 0
    for index in (2, 5):
        clip = tmp_path / "page" / "videos" / "camera_0" / f"episode_{index:06d}.mp4"
        assert packets(clip) == packets(read_meta(source).episode(index).videos["cam_high"].path)
