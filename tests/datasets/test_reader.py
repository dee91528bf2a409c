"""Frames, chunks, instructions and statistics of v3.0 and v2.1 folders."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from smolpilot.common.errors import UsageError
from smolpilot.datasets import compute_statistics, open_dataset, read_meta
from smolpilot.datasets.format.features import flatten_names

from .conftest import Build


def test_facts_of_the_recording(tiny_dataset: Path) -> None:
    meta = open_dataset(tiny_dataset).meta
    assert (meta.version, meta.fps, meta.robot_type) == ("v3.0", 10.0, "toy_arm")
    assert meta.state_names == meta.action_names == ["pan", "lift", "gripper"]
    assert meta.camera_names == ["front", "wrist"]
    camera = meta.cameras["front"]
    assert (camera.width, camera.height, camera.codec, camera.pix_fmt) == (64, 48, "h264", "yuv420p")
    assert [episode.length for episode in meta.episodes] == [18, 19, 20, 21, 22, 23]
    assert meta.total_frames == 123
    assert meta.episodes[1].tasks == ["touch the blue block"]


def test_a_frame_has_lerobots_keys_types_and_shapes(tiny_dataset: Path) -> None:
    item = open_dataset(tiny_dataset, chunk_size=5)[3]
    shapes = {key: (value.dtype, tuple(value.shape)) for key, value in item.items() if key != "task"}
    assert shapes == {
        "observation.images.front": (torch.float32, (3, 48, 64)),
        "observation.images.wrist": (torch.float32, (3, 48, 64)),
        "observation.state": (torch.float32, (3,)),
        "action": (torch.float32, (5, 3)),
        "action_is_pad": (torch.bool, (5,)),
        "timestamp": (torch.float32, ()),
        "frame_index": (torch.int64, ()),
        "episode_index": (torch.int64, ()),
        "index": (torch.int64, ()),
        "task_index": (torch.int64, ()),
    }
    assert item["task"] == "touch the red block"
    assert 0.1 < float(item["observation.images.front"].mean()) < 0.9
    assert "observation.images.front" not in open_dataset(tiny_dataset).sample(0, images=False)


def test_chunks_stop_at_the_end_of_their_episode(tiny_dataset: Path) -> None:
    dataset = open_dataset(tiny_dataset, chunk_size=6)
    actions, is_pad = dataset.chunk(15)
    assert is_pad.tolist() == [False, False, False, True, True, True]
    assert np.array_equal(actions[:3], dataset.actions[15:18])
    assert np.array_equal(actions[3:], np.repeat(dataset.actions[17:18], 3, axis=0))
    _, last = dataset.chunk(-1)
    assert last.tolist() == [False, True, True, True, True, True]


def test_pictures_show_the_frame_that_was_recorded(tiny_dataset: Path) -> None:
    dataset = open_dataset(tiny_dataset)
    for i in [*range(0, len(dataset), 7), len(dataset) - 1]:
        state, task = dataset.states[i], dataset.instruction(i)
        x, y = int(24 + 20 * state[0]), int(18 + 14 * state[1])
        block = dataset.images(i)["wrist"][y + 2 : y + 6, x + 2 : x + 6].mean(axis=(0, 1))
        assert (block[0] > block[2] + 80) == ("red" in task)
        assert (block[2] > block[0] + 80) == ("blue" in task)


def test_any_order_gives_the_same_pictures(tiny_dataset: Path) -> None:
    dataset = open_dataset(tiny_dataset)
    order = np.random.default_rng(0).permutation(len(dataset))[:60]
    jumping = {int(i): dataset.images(int(i))["front"] for i in order}
    compared = 0
    for episode in dataset.episodes:
        first = int(np.flatnonzero(dataset.episode_index == episode)[0])
        pictures = list(dataset.decode_episode("front", episode))
        assert len(pictures) == dataset.meta.episode(episode).length
        for number, picture in enumerate(pictures):
            if first + number in jumping:
                assert np.array_equal(picture, jumping[first + number])
                compared += 1
    assert compared == 60


def test_one_camera_by_name(tiny_dataset: Path) -> None:
    dataset = open_dataset(tiny_dataset)
    assert np.array_equal(dataset.image(30, "wrist"), dataset.images(30)["wrist"])
    for ask in (lambda: dataset.image(0, "wirst"), lambda: list(dataset.decode_episode("wirst", 0))):
        with pytest.raises(UsageError, match=r"no camera 'wirst'[\s\S]*Did you mean 'wrist'"):
            ask()


def test_returned_pictures_belong_to_the_caller(tiny_dataset: Path) -> None:
    dataset = open_dataset(tiny_dataset)
    before = dataset.images(4)["front"].copy()
    dataset.images(4)["front"][:] = 0
    assert np.array_equal(dataset.images(4)["front"], before)


def test_selecting_episodes(tiny_dataset: Path) -> None:
    dataset = open_dataset(tiny_dataset)
    chosen = dataset.select([4, 1])
    assert chosen.episodes == [1, 4]
    assert len(chosen) == 19 + 22
    assert set(chosen.episode_index.tolist()) == {1, 4}
    first = int(np.flatnonzero(dataset.episode_index == 4)[0])
    assert np.array_equal(chosen.states[19:], dataset.states[first : first + 22])
    assert torch.equal(chosen[19]["observation.images.front"], dataset[first]["observation.images.front"])
    assert int(chosen[19]["index"]) == first
    limited = open_dataset(tiny_dataset, episodes=[2])
    assert len(limited) == 20
    assert limited.select([5]).episodes == [5]
    assert len(limited.meta.episodes) == 6
    assert len(list(limited.decode_episode("front", 3))) == 21
    with pytest.raises(UsageError, match="no episode 17"):
        dataset.select([17])
    with pytest.raises(UsageError, match="chunk_size"):
        open_dataset(tiny_dataset, chunk_size=0)


def test_indices_behave_like_a_sequence(tiny_dataset: Path) -> None:
    dataset = open_dataset(tiny_dataset, episodes=[0])
    assert torch.equal(dataset[-1]["observation.state"], dataset[17]["observation.state"])
    with pytest.raises(IndexError, match="frame 18 of 18"):
        dataset[18]
    with pytest.raises(IndexError, match="frame -19 of 18"):
        dataset[-19]
    assert sum(1 for _ in cast(Any, dataset)) == 18


def test_pickling_and_worker_processes(tiny_dataset: Path) -> None:
    dataset = open_dataset(tiny_dataset)
    expected = [dataset[i]["observation.images.front"] for i in range(0, 40, 3)]
    again = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(again[3]["observation.images.front"], expected[1])
    for method, workers in (("fork", 2), ("spawn", 1)):
        loader: Any = torch.utils.data.DataLoader(
            cast(Any, dataset),
            sampler=range(0, 40, 3),
            batch_size=None,
            num_workers=workers,
            multiprocessing_context=multiprocessing.get_context(method),
        )
        for item, picture in zip(loader, expected, strict=True):
            assert torch.equal(item["observation.images.front"], picture)


def test_v21_with_gaps_in_task_indices(build_v21: Build) -> None:
    root = build_v21(tasks={2: "push", 7: "pull"}, names=[["a", "b"]], statistics=True)
    dataset = open_dataset(root, chunk_size=4)
    assert dataset.meta.version == "v2.1"
    assert [dataset.instruction(i) for i in (0, 7, 16)] == ["push", "pull", "push"]
    assert dataset.instructions == {"push": 12, "pull": 9}
    assert dataset.meta.state_names == ["a", "b"]
    assert dataset.states[7].tolist() == [100.0, 1.0]
    assert [round(float(dataset.images(i)["top"].mean()) / 10) for i in (0, 3, 7, 9, 20)] == [0, 3, 6, 8, 16]
    seen = []
    dataset.check_videos(progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    direct, stored = compute_statistics(dataset), dataset.meta.statistics
    for name in ("mean", "std", "min", "max", "count"):
        np.testing.assert_allclose(stored["action"][name], direct["action"][name], atol=1e-9)


def test_pictures_inside_the_tables(build_v21: Build) -> None:
    dataset = open_dataset(build_v21(pictures_in_table=True))
    camera = dataset.meta.cameras["top"]
    assert (camera.codec, camera.is_video) == ("image", False)
    assert np.array_equal(dataset.images(9)["top"], np.full((32, 32, 3), 80, dtype=np.uint8))
    assert dataset[9]["observation.images.top"].shape == (3, 32, 32)
    assert len(list(dataset.decode_episode("top", 1))) == 9
    dataset.check_videos()


def test_a_single_observation_image(build_v21: Build) -> None:
    dataset = open_dataset(build_v21(camera_key="observation.image"))
    assert dataset.meta.camera_names == ["image"]
    item = dataset[0]
    assert torch.equal(item["observation.image"], item["observation.images.image"])


@pytest.mark.parametrize("fps", [29.97, 12.5, 50])
def test_any_frame_rate(build_v21: Build, fps: float) -> None:
    dataset = open_dataset(build_v21(fps=fps, lengths=(25,)))
    assert dataset.meta.fps == fps
    dataset.check_videos()
    assert [round(float(dataset.images(i)["top"].mean()) / 10) for i in (0, 13, 24)] == [0, 13, 24]


@pytest.mark.parametrize(
    ("names", "flat"),
    [
        (None, None),
        (["a", "b"], ["a", "b"]),
        ([["a", "b"]], ["a", "b"]),
        ({"motors": ["a", "b"]}, ["a", "b"]),
        ({"left": ["a"], "right": ["b"]}, ["a", "b"]),
        ({"b": 1, "a": 0}, ["a", "b"]),
        (["motors"], None),
    ],
)
def test_names_as_they_occur(
    names: list[str] | list[list[str]] | dict[str, list[str]] | dict[str, int] | None, flat: list[str] | None
) -> None:
    assert flatten_names(names, [2]) == flat


def test_unnamed_joints_are_numbered(build_v21: Build) -> None:
    assert open_dataset(build_v21(names=None)).meta.action_names == ["joint_0", "joint_1"]


def test_missing_statistics_are_computed(copy: Path) -> None:
    stored = open_dataset(copy).meta.statistics
    (copy / "meta" / "stats.json").unlink()
    dataset = open_dataset(copy)
    found = dataset.meta.statistics
    assert set(found) == {"observation.state", "action"}
    states = dataset.states.astype(np.float64)
    np.testing.assert_array_equal(found["observation.state"]["std"], states.std(axis=0))
    np.testing.assert_array_equal(found["observation.state"]["q90"], np.quantile(states, 0.9, axis=0))
    for name in ("mean", "std", "min", "max"):
        np.testing.assert_allclose(stored["action"][name], found["action"][name], atol=1e-6)


def test_partial_statistics_are_replaced(copy: Path) -> None:
    path = copy / "meta" / "stats.json"
    stats = json.loads(path.read_text())
    del stats["action"]["std"]
    stats["observation.state"]["mean"] = [None, 0.0, 0.0]
    path.write_text(json.dumps(stats))
    dataset = open_dataset(copy)
    np.testing.assert_array_equal(
        dataset.meta.statistics["action"]["std"], compute_statistics(dataset)["action"]["std"]
    )


def test_fingerprint_follows_the_content_not_the_place(
    tiny_dataset: Path, copy: Path, edit_rows: Callable[[Path, Callable[[dict[str, list[Any]]], object]], None]
) -> None:
    original = read_meta(tiny_dataset).fingerprint
    assert read_meta(copy).fingerprint == original
    edit_rows(copy, lambda columns: columns["action"][5].__setitem__(0, 9.0))
    assert read_meta(copy).fingerprint != original


def test_the_source_is_not_touched(tiny_dataset: Path, copy: Path) -> None:
    before = {path: path.read_bytes() for path in Path(copy).rglob("*") if path.is_file()}
    dataset = open_dataset(copy)
    dataset[0]
    dataset.check_videos()
    assert {path: path.read_bytes() for path in Path(copy).rglob("*") if path.is_file()} == before
    shutil.rmtree(copy)
    assert len(open_dataset(tiny_dataset)) == 123
