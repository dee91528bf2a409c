"""Weighted drawing: shares as asked, every frame before any again, and the same frames from anywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from smolpilot.common.errors import UsageError
from smolpilot.datasets import SampleOrder, open_dataset
from smolpilot.datasets.read.order import BatchOrder, OrderKind, WeightedOrder

GROUPS = [np.arange(0, 7), np.arange(7, 40), np.arange(40, 140)]
WEIGHTS = [0.1, 0.2, 0.7]
WINDOW = 56  # whole batches of 7 and of 8; the blocks of 4096 samples are none of it


class Recording:
    """70 frames in episodes of 14, with a group of pictures at every second frame."""

    episode_index = np.repeat(np.arange(5), 14)

    def __len__(self) -> int:
        return 70

    def group_starts(self) -> npt.NDArray[Any]:
        return np.arange(0, 70, 2)


def order(batch_size: int = 8, seed: int = 3, kind: OrderKind = "random", weights: Any = WEIGHTS) -> BatchOrder:
    recordings: Any = [Recording(), Recording()]
    made = WeightedOrder(GROUPS, weights, kind, seed=seed, datasets=recordings, window=WINDOW)
    return BatchOrder(made, batch_size)


def drawn(one: BatchOrder, start: int, stop: int) -> npt.NDArray[Any]:
    return np.concatenate([one.batch(number) for number in range(start, stop)])


def test_each_group_gets_its_share_of_the_samples() -> None:
    rows = drawn(order(), 0, 2500)
    shares = [np.isin(rows, group).mean() for group in GROUPS]
    # 20,000 draws: four standard deviations of the largest share are 0.013.
    assert shares == pytest.approx(WEIGHTS, abs=0.013)


@pytest.mark.parametrize("kind", ["random", "local"])
def test_every_row_of_a_group_comes_once_before_any_comes_again(kind: OrderKind) -> None:
    rows = drawn(order(kind=kind), 0, 2500)
    for group in GROUPS:
        mine = rows[np.isin(rows, group)]
        whole = len(mine) // len(group)
        for epoch in range(whole):
            assert sorted(mine[epoch * len(group) : (epoch + 1) * len(group)]) == group.tolist()
        assert whole >= 10


@pytest.mark.parametrize("kind", ["random", "local"])
@pytest.mark.parametrize("start", [1, 511, 512, 1300])
def test_a_resumed_run_draws_what_the_first_would_have(start: int, kind: OrderKind) -> None:
    # A batch of 7 straddles the blocks of 4096 samples.
    straight = drawn(order(7, kind=kind), 0, start + 5)[start * 7 :]
    assert np.array_equal(drawn(order(7, kind=kind), start, start + 5), straight)
    units = list(order(7, kind=kind).units(start, start + 5))
    assert np.array_equal(np.concatenate([rows for unit in units for rows in unit]), straight)


@pytest.mark.parametrize("kind", ["random", "local"])
def test_the_order_does_not_depend_on_the_batch_size_but_on_the_seed(kind: OrderKind) -> None:
    assert np.array_equal(drawn(order(4, kind=kind), 0, 60), drawn(order(6, kind=kind), 0, 40))
    assert not np.array_equal(drawn(order(kind=kind), 0, 30), drawn(order(seed=4, kind=kind), 0, 30))


def test_what_decides_the_order_is_told_apart() -> None:
    other = order(weights=[0.2, 0.2, 0.6])
    assert order().values() == order().values() != other.values()
    assert order().values()["groups"] == [7, 33, 100]
    local = order(kind="local").values()
    assert local == {**order().values(), "order": "local", "run": 2, "window": WINDOW}


def test_the_numbers_are_those_of_the_runs_before_there_was_one_order() -> None:
    # Computed by the WeightedSampler that this order has replaced: a run that was begun then goes on the same.
    assert [order().batch(k).tolist() for k in (0, 1, 511, 512, 1300)] == [
        [2, 37, 124, 139, 1, 125, 123, 27],
        [56, 10, 44, 79, 130, 59, 137, 136],
        [139, 11, 61, 28, 109, 98, 104, 90],
        [119, 77, 136, 115, 96, 87, 56, 34],
        [63, 14, 137, 46, 109, 89, 125, 66],
    ]
    assert order().values() == {
        "frames": 140, "batch_size": 8, "seed": 3, "groups": [7, 33, 100], "weights": [0.1, 0.2, 0.7],
    }  # fmt: skip
    assert order(7, weights=[1, 2, 7]).batch(585).tolist() == [90, 119, 77, 136, 115, 96, 87]
    uneven = BatchOrder(WeightedOrder([np.array([5, 1, 9]), np.array([2, 3])], [1, 1], seed=0), 6)
    assert uneven.batch(700).tolist() == [3, 9, 2, 2, 3, 3]


def test_local_groups_keep_their_pictures_in_one_window() -> None:
    made = order(kind="local")
    # Group 1 begins and ends within a pair of frames (7 and 39), and has parts of three episodes.
    pair = np.arange(140) // 2
    neighbors = torn = 0
    for unit in range(3, 30):
        (batches,) = made.units(unit * 7, unit * 7 + 7)
        rows = np.concatenate(batches)
        assert len(rows) == WINDOW
        alone = [one for one in np.unique(pair[rows]) if np.unique(rows[pair[rows] == one]).size == 1]
        torn += len([one for one in alone if one not in (3, 19)])
        neighbors += int((np.diff(rows) == 1).sum())
    # Per window a group has at most a pair torn at either end, and at the end of an epoch; the small one has many.
    assert torn <= 27 * 6
    random = [np.concatenate([order().batch(k) for k in range(u * 7, u * 7 + 7)]) for u in range(3, 30)]
    assert torn < sum(int((np.bincount(pair[np.unique(rows)]) == 1).sum()) for rows in random) / 3
    assert neighbors < 27 * 6, "samples of a window are shuffled"


def test_the_datasets_of_a_mixture_are_counted_through(tiny_dataset: Any) -> None:
    halves = [open_dataset(tiny_dataset, episodes=chosen) for chosen in ([0, 2, 4], [1, 3, 5])]
    rows = np.arange(sum(map(len, halves)))
    groups = [rows[: len(halves[0])], rows[len(halves[0]) :]]
    made = WeightedOrder(groups, [0.3, 0.7], "local", datasets=halves, window=32)
    for group, starts, half in zip(groups, made._run_starts(), halves, strict=True):
        assert starts.tolist() == SampleOrder(half, "local")._run_starts().tolist()
        assert len(group) == len(half)
    seen = made.samples(0, 2000)
    assert sorted(set(seen.tolist())) == rows.tolist()


def test_no_sequential_order_of_groups() -> None:
    with pytest.raises(UsageError, match="no sequential order"):
        WeightedOrder(GROUPS, WEIGHTS, "sequential")
    with pytest.raises(UsageError, match="Unknown order 'locale'"):
        WeightedOrder(GROUPS, WEIGHTS, "locale")  # type: ignore[arg-type]
