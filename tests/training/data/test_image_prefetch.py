"""Batches read ahead while training: the same whoever reads them, each picture decoded once, nothing left running."""

from __future__ import annotations

import dataclasses
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from smolpilot.common.errors import DatasetError
from smolpilot.datasets import Dataset, open_dataset
from smolpilot.datasets.read.prefetch import THREAD, ahead
from smolpilot.smolvla import Policy, new_policy
from smolpilot.smolvla.network.inputs import PolicyInputs
from smolpilot.training.data.batches import Batches
from smolpilot.training.data.frames import to_device
from smolpilot.training.data.image_prefetch import prepared
from smolpilot.training.data.mixture import Mixture


def threads() -> int:
    return sum(thread.name.startswith(THREAD) for thread in threading.enumerate())


@pytest.fixture(scope="module")
def dataset(tiny_dataset: Path) -> Dataset:
    return open_dataset(tiny_dataset)


@pytest.fixture(scope="module")
def policy(dataset: Dataset) -> Policy:
    return new_policy("tiny", meta=dataset.meta, seed=1, device="cpu")


def batches(dataset: Dataset, policy: Policy, **settings: Any) -> Batches:
    return Batches(dataset, policy.transforms, torch.device("cpu"), chunk_size=policy.config.chunk_size, **settings)


def assert_equal(found: list[PolicyInputs], expected: list[PolicyInputs]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        for field in dataclasses.fields(PolicyInputs):
            left, right = getattr(one, field.name), getattr(other, field.name)
            assert (left is None) == (right is None), field.name
            assert left is None or torch.equal(left, right), field.name


@pytest.mark.parametrize("kind", ["random", "local"])
@pytest.mark.parametrize("workers", [0, 2])
def test_decoded_batches_equal_those_in_memory(dataset: Dataset, policy: Policy, workers: int, kind: Any) -> None:
    kept, decoded = batches(dataset, policy), batches(dataset, policy, memory_gb=0.0, workers=workers)
    order = kept.order(50, 0, kind)  # a window of six batches, of which the first is left out
    plain = [kept.batch(order.batch(number)) for number in range(1, 9)]
    assert_equal(list(kept.stream(order, 1, 9)), plain)
    assert_equal(list(decoded.stream(decoded.order(50, 0, kind), 1, 9)), plain)
    assert threads() == 0


def test_several_processes_decode_their_parts_of_the_same_batches(dataset: Dataset, policy: Policy) -> None:
    kept, decoded = batches(dataset, policy), batches(dataset, policy, memory_gb=0.0)
    whole = kept.order(50, 0, "local")
    shares = [list(decoded.stream(whole.share(part), 4, 8)) for part in (slice(0, 20), slice(20, 50))]
    for number, parts in enumerate(zip(*shares, strict=True), 4):
        expected = kept.batch(whole.batch(number))
        assert torch.equal(torch.cat([part.images for part in parts]), expected.images)
        assert torch.equal(torch.cat([part.state for part in parts]), expected.state)


def test_a_thread_changes_nothing(dataset: Dataset, policy: Policy) -> None:
    made = batches(dataset, policy)
    assert_equal(list(ahead(made.stream(made.order(4, 0), 3, 9))), list(made.stream(made.order(4, 0), 3, 9)))
    assert threads() == 0


def test_of_a_local_window_no_picture_is_decoded_twice(
    dataset: Dataset, policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[int]] = []
    plain = Dataset.batch_images

    def counted(self: Dataset, indices: Any, **settings: Any) -> dict[str, Any]:
        asked.append(sorted(indices.tolist()))
        return plain(self, indices, **settings)

    monkeypatch.setattr(Dataset, "batch_images", counted)
    made = batches(dataset, policy, memory_gb=0.0)
    order = made.order(32, 0, "local")
    assert len(list(made.stream(order, 0, 24))) == 24
    # A window is eight batches of 32: the whole recording of 123 frames twice, and some more.
    assert [len(frames) for frames in asked] == [256, 256, 256]
    assert asked[0] == sorted(order.order.samples(0, 256).tolist())
    asked.clear()
    assert len(list(made.stream(made.order(32, 0), 0, 4))) == 4
    assert [len(frames) for frames in asked] == [32] * 4


def test_only_the_cameras_that_fill_a_slot_are_decoded(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    plain = Dataset.batch_images

    def noted(self: Dataset, indices: Any, **settings: Any) -> dict[str, Any]:
        asked.append(settings["cameras"])
        return plain(self, indices, **settings)

    monkeypatch.setattr(Dataset, "batch_images", noted)
    front: Any = {"front": "top", "wrist": None}
    made = batches(dataset, new_policy("tiny", meta=dataset.meta, camera_map=front, device="cpu"), memory_gb=0.0)
    assert list(made.plans) == ["top"]
    (one,) = made.stream(made.order(4, 0), 0, 1)
    assert one.images.shape[1] == 1
    assert asked == [["front"]]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_torn_video_is_one_clear_error(tiny_dataset: Path, tmp_path: Path, workers: int) -> None:
    copy = Path(shutil.copytree(tiny_dataset, tmp_path / "copy"))
    dataset = open_dataset(copy)
    policy = new_policy("tiny", meta=dataset.meta, seed=1, device="cpu")
    dataset.group_starts()
    for path in (copy / "videos").rglob("*.mp4"):
        path.write_bytes(path.read_bytes()[:2000])
    made = batches(dataset, policy, memory_gb=0.0, workers=workers)
    stream = made.stream(made.order(4, 0, "local"), 0, 5)
    with pytest.raises(DatasetError, match=r"^The video file .* is torn or cannot be decoded") as caught:
        next(stream)
    assert "Traceback" not in str(caught.value)
    assert threads() == 0


@pytest.mark.parametrize("kind", ["random", "local"])
def test_a_stream_that_is_closed_early_leaves_no_thread(dataset: Dataset, policy: Policy, kind: Any) -> None:
    made = batches(dataset, policy, memory_gb=0.0)
    stream = made.stream(made.order(4, 0, kind), 0, 1000)
    next(stream)
    assert threads() > 0
    stream.close()
    assert threads() == 0


@pytest.mark.parametrize("workers", [0, 2])
def test_local_windows_of_a_mixture(tiny_dataset: Path, policy: Policy, workers: int) -> None:
    halves = [open_dataset(tiny_dataset, episodes=chosen) for chosen in ([0, 2, 4], [1, 3, 5])]
    made = []
    settings: Any
    for settings in ({}, {"memory_gb": 0.0, "workers": workers}):
        parts = [batches(half, policy, **settings) for half in halves]
        rows = torch.arange(sum(map(len, halves))).numpy()
        groups = [rows[: len(halves[0])], rows[len(halves[0]) :]]
        made.append(Mixture(parts, groups, [0.3, 0.7], workers=settings.get("workers", 0)))
    kept, decoded = ([*one.stream(one.order(32, 0, "local"), 2, 12)] for one in made)
    assert_equal(decoded, kept)


def test_pictures_are_prepared_in_small_parts_with_the_same_numbers(dataset: Dataset, policy: Policy) -> None:
    made = batches(dataset, policy)
    for plan in made.plans.values():
        pictures = torch.from_numpy(dataset.pictures(list(range(11)), plan.camera))
        assert torch.equal(prepared(plan, pictures), plan.prepare(pictures.permute(0, 2, 3, 1)))


def test_moving_to_the_place_where_it_is_costs_nothing() -> None:
    value = torch.ones(2)
    assert to_device(value, torch.device("cpu")) is value
