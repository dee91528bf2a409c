"""Batches of an order without end: each frame once per epoch, the same from anywhere, the numbers of old runs."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from smolpilot.datasets import SampleOrder, open_dataset
from smolpilot.datasets.read.order import BatchOrder, OrderKind, whole_batches

# The frames at which groups of pictures begin in a made-up recording of episodes of 7, 6 and 8 frames.
GROUPS = np.array([0, 2, 4, 6, 7, 9, 11, 13, 14, 17, 20])


class Recording:
    """Frames of which only their number, or also their groups and episodes are known."""

    def __init__(self, size: int) -> None:
        self.size, self.episodes, self.meta = size, [0, 1, 2], SimpleNamespace(fingerprint="made-up")
        self.episode_index = np.repeat([0, 1, 2], [7, 6, 8])

    def __len__(self) -> int:
        return self.size

    def group_starts(self) -> npt.NDArray[Any]:
        return GROUPS


def batches(size: int, batch_size: int, seed: int, kind: OrderKind = "random", **settings: Any) -> BatchOrder:
    recording: Any = Recording(size)
    return BatchOrder(SampleOrder(recording, kind, seed=seed, **settings), batch_size)


def drawn(order: BatchOrder, start: int, stop: int) -> list[int]:
    return np.concatenate([order.batch(number) for number in range(start, stop)]).tolist()


def test_every_frame_comes_once_per_epoch_though_batches_span_epochs() -> None:
    order = batches(10, 4, 3)
    seen = np.concatenate([order.batch(k) for k in range(5)])
    assert sorted(seen[:10]) == list(range(10))
    assert sorted(seen[10:]) == list(range(10))
    assert seen[:10].tolist() != seen[10:].tolist()
    assert all(len(order.batch(k)) == 4 for k in range(5))
    assert order.epoch(5) == 2.0


@pytest.mark.parametrize("kind", ["random", "local", "sequential"])
def test_any_batch_is_the_same_in_any_order_of_asking(kind: OrderKind) -> None:
    forward = [batches(21, 3, 1, kind, window=6).batch(k).tolist() for k in range(20)]
    order = batches(21, 3, 1, kind, window=6)
    backward = [order.batch(k).tolist() for k in reversed(range(20))]
    assert forward == backward[::-1]
    units = list(batches(21, 3, 1, kind, window=6).units(5, 12))
    assert [rows.tolist() for unit in units for rows in unit] == forward[5:12]
    assert [len(unit) for unit in units] == ([1, 2, 2, 2] if kind == "local" else [1] * 7)
    other = [batches(21, 3, 2, kind, window=6).batch(k).tolist() for k in range(20)]
    assert (forward != other) == (kind != "sequential")


def test_a_batch_larger_than_the_data_holds_several_epochs() -> None:
    batch = batches(3, 8, 0).batch(0)
    assert np.bincount(batch).min() >= 2
    assert len(batch) == 8


def test_shares_of_a_batch_are_parts_of_it_with_their_places() -> None:
    whole = batches(21, 5, 2, "local", window=10)
    shares = [whole.share(part) for part in (slice(0, 2), slice(2, 5))]
    for number in (0, 3, 9):
        assert np.concatenate([share.batch(number) for share in shares]).tolist() == whole.batch(number).tolist()
        assert (
            np.concatenate([share.sample_ids(number) for share in shares]).tolist() == whole.sample_ids(number).tolist()
        )
    assert [[rows.tolist() for rows in unit] for unit in shares[1].units(1, 2)] == [[whole.batch(1)[2:].tolist()]]
    assert shares[0].values() == whole.values()


def test_the_numbers_are_those_of_the_runs_before_there_was_one_order() -> None:
    # Computed by the Sampler and Share that SampleOrder has replaced: a run that was begun then goes on the same.
    order = batches(7, 3, 1)
    assert [order.batch(k).tolist() for k in range(6)] == [
        [5, 0, 1], [4, 2, 6], [3, 6, 1], [4, 0, 3], [2, 5, 0], [6, 5, 1],
    ]  # fmt: skip
    assert order.values() == {"frames": 7, "batch_size": 3, "seed": 1}
    assert batches(1000, 8, 42).batch(12345).tolist() == [81, 44, 807, 479, 24, 935, 162, 592]
    order = batches(10, 4, 3)
    assert [order.batch(k).tolist() for k in (0, 2, 5, 1000)] == [
        [9, 6, 0, 2], [3, 8, 4, 1], [7, 4, 1, 8], [6, 0, 3, 2],
    ]  # fmt: skip
    share = order.share(slice(2, 4))
    assert share.batch(2).tolist() == [4, 1]
    assert share.sample_ids(2).tolist() == [10, 11]
    assert share.values() == {"frames": 10, "batch_size": 4, "seed": 3}


def test_the_numbers_of_epochs_are_those_of_saved_loaders() -> None:
    # Computed by SampleOrder before training used it, too.
    recording: Any = Recording(21)
    order = SampleOrder(recording, "local", seed=3, run=2, window=8)
    assert [order.indices(epoch).tolist() for epoch in (0, 1, 5)] == [
        [20, 1, 2, 4, 11, 5, 12, 0, 14, 8, 16, 7, 13, 15, 3, 9, 17, 19, 6, 18, 10],
        [18, 4, 7, 3, 5, 17, 8, 2, 13, 0, 10, 14, 19, 9, 15, 1, 16, 11, 12, 20, 6],
        [10, 9, 18, 1, 19, 0, 7, 17, 16, 13, 11, 8, 4, 14, 5, 15, 6, 12, 2, 3, 20],
    ]
    assert SampleOrder(recording, "local", seed=3, run=4).indices(1).tolist() == [
        1, 6, 12, 14, 2, 15, 3, 4, 13, 9, 0, 10, 20, 16, 8, 7, 18, 11, 19, 5, 17,
    ]  # fmt: skip
    assert SampleOrder(recording, "random", seed=3).indices(5).tolist() == [
        20, 6, 14, 10, 8, 2, 16, 7, 3, 5, 13, 0, 12, 4, 9, 18, 17, 19, 1, 11, 15,
    ]  # fmt: skip
    assert SampleOrder(recording, "local", seed=3).state_dict() == {
        "order": "local", "seed": 3, "run": 2, "window": 256, "recording": "made-up", "size": 21, "episodes": 3,
        "episodes_hash": "1d226b8db3e15d55", "epoch": 0, "position": 0,
    }  # fmt: skip


def test_local_windows_go_on_through_the_epochs() -> None:
    order = batches(21, 4, 3, "local", window=8)
    # The first epoch is a loader's.
    assert drawn(order, 0, 5) == order.order.samples(0, 20).tolist()
    recording: Any = Recording(21)
    assert order.order.samples(0, 21).tolist() == SampleOrder(recording, "local", seed=3, window=8).indices(0).tolist()
    for epoch in range(8):
        assert sorted(order.order.samples(21 * epoch, 21).tolist()) == list(range(21))
    # A group of pictures is split by the border of a window or an epoch at most.
    split = 0
    number = np.searchsorted(GROUPS, np.arange(21), side="right")
    for epoch in range(8):
        stream = order.order.samples(21 * epoch, 21)
        window = np.empty(21, dtype=int)
        window[stream] = (21 * epoch + np.arange(21)) // 8
        borders = len(set(window)) - 1
        torn = sum(len(set(window[number == group])) > 1 for group in np.unique(number))
        assert torn <= borders
        split += torn
    assert split, "windows without any border would show nothing"


def test_the_local_order_says_what_it_follows_from() -> None:
    assert batches(21, 4, 3, "local", window=8).values() == {
        "frames": 21, "batch_size": 4, "seed": 3, "order": "local", "run": 2, "window": 8,
    }  # fmt: skip
    assert [whole_batches(256, size) for size in (1, 32, 100, 300)] == [256, 256, 300, 300]


def test_a_window_of_a_recording_has_its_groups_of_pictures_whole(tiny_dataset: Any) -> None:
    dataset = open_dataset(tiny_dataset)
    order = BatchOrder(SampleOrder(dataset, "local", seed=1, window=32), 8)
    starts = dataset.group_starts()
    number = np.searchsorted(starts, np.arange(len(dataset)), side="right")
    for unit in itertools.islice(order.units(0, 40), 3, 10):
        rows = np.concatenate(unit)
        assert len(unit) == 4
        whole = sum(np.isin(np.flatnonzero(number == group), rows).all() for group in np.unique(number[rows]))
        assert whole >= len(np.unique(number[rows])) - 4
