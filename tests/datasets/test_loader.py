"""Batches, orders and the Loader: the same samples as one by one, in an order that can be taken up again."""

from __future__ import annotations

import itertools
import json
import pickle
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, default_collate

from smolpilot.common.errors import UsageError
from smolpilot.datasets import Dataset, Loader, SampleOrder, open_dataset

from .conftest import Build

FRONT = "observation.images.front"
type Order = Literal["random", "local", "sequential"]


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    assert set(a) == set(b)
    return all(
        torch.equal(value, b[key]) and value.dtype == b[key].dtype
        if isinstance(value, torch.Tensor)
        else value == b[key]
        for key, value in a.items()
    )


@pytest.fixture(scope="module")
def dataset(tiny_dataset: Path) -> Dataset:
    return open_dataset(tiny_dataset, chunk_size=5)


def test_a_batch_is_its_samples_stacked(dataset: Dataset) -> None:
    indices = [40, 3, 122, 41, 3, -1, 0]
    expected = default_collate([dataset[i] for i in indices])
    for found in (
        dataset.batch(indices),
        dataset[indices],
        dataset[np.array(indices)],
        dataset.batch(indices, threads=3),
    ):
        assert same(found, expected)
    for sample, i in zip(dataset.__getitems__(indices), indices, strict=True):
        assert same(sample, dataset[i])
    with pytest.raises(IndexError, match="frame 123 of 123"):
        dataset.batch([0, 123])


def test_slices_tensors_and_masks_are_batches(dataset: Dataset) -> None:
    expected = dataset[[0, 2, 4]]
    mask = np.isin(np.arange(123), [0, 2, 4])
    for key in (
        slice(0, 6, 2),
        (0, 2, 4),
        range(0, 6, 2),
        torch.tensor([0, 2, 4]),
        np.array([0, 2, -119], dtype=np.int32),
        [np.int64(0), torch.tensor(2), 4],
        mask,
        torch.from_numpy(mask),
        mask.tolist(),
        list(mask),
    ):
        assert same(dataset[cast(Any, key)], expected)
        assert same(dataset.batch(cast(Any, key)), expected)
    assert np.array_equal(dataset.pictures(mask, "front"), dataset.pictures([0, 2, 4], "front"))
    assert dataset[-3:]["index"].tolist() == [120, 121, 122]
    assert dataset[::-1]["index"].tolist() == list(range(122, -1, -1))
    nothing: Any
    for nothing in ([], slice(5, 5), np.zeros(123, dtype=bool)):
        assert dataset[nothing][FRONT].shape[0] == len(dataset[nothing]["task"]) == 0
    one: Any
    for one in (np.int64(3), torch.tensor(3), np.array(3)):
        assert same(dataset[one], dataset[3])


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (1.0, r"1\.0 \(float\) is no index"),
        (np.float32(1), "is no index"),
        (True, r"True \(bool\) is no index"),
        (None, "is no index"),
        ("12", "is no index"),
        ([0, 1.5], r"1\.5 \(float\) is no index"),
        ([True, 1], "is no index"),
        (torch.tensor([0.0, 1.0]), "is no index"),
        (np.zeros((2, 2), dtype=np.int64), r"\[0, 0\] \(list\) is no index"),
        (np.array([True, False]), "The mask has 2 entries, the dataset has 123 frames"),
        (torch.ones(124, dtype=torch.bool), "The mask has 124 entries"),
        ([False] * 122, "The mask has 122 entries"),
        (slice(0, 1.5), "The slice"),
        (slice(0, 5, 0), "The slice"),
    ],
)
def test_what_is_no_index_is_refused(dataset: Dataset, key: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        dataset[key]


def test_a_batch_takes_several_frames_and_known_options(dataset: Dataset) -> None:
    with pytest.raises(UsageError, match="3 is a single frame"):
        dataset.batch(3)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="images is 'foo'"):
        dataset.batch([0], images="foo")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="threads is 0"):
        dataset.batch([0], threads=0)
    with pytest.raises(IndexError, match="frame 123 of 123"):
        dataset[torch.tensor([0, 123])]


def test_a_batch_of_bytes_or_without_pictures(dataset: Dataset) -> None:
    whole, small = dataset.batch([5, 60]), dataset.batch([5, 60], images="uint8")
    assert small[FRONT].dtype == torch.uint8
    assert torch.equal(small[FRONT].to(torch.float32) / 255, whole[FRONT])
    assert np.array_equal(small[FRONT].permute(0, 2, 3, 1)[1].numpy(), dataset.image(60, "front"))
    assert np.array_equal(small["observation.images.wrist"].numpy(), dataset.pictures([5, 60], "wrist"))
    bare = dataset.batch([5, 60], images=None)
    assert set(whole) - set(bare) == {FRONT, "observation.images.wrist"}
    assert torch.equal(bare["action"], whole["action"])


def test_batches_of_pictures_in_tables(build_v21: Build) -> None:
    dataset = open_dataset(build_v21(pictures_in_table=True))
    assert same(dataset.batch([9, 0, 20]), default_collate([dataset[9], dataset[0], dataset[20]]))
    assert len(SampleOrder(dataset, "local").indices(0)) == 21


def test_memory_is_used_again_only_when_nobody_holds_it(dataset: Dataset) -> None:
    kept = [dataset.batch([i, i + 1])[FRONT] for i in range(20)]
    view = dataset.batch([50, 51])[FRONT][1, 0]
    array = dataset.batch([70, 71])[FRONT][0].numpy()
    for _ in range(20):
        dataset.batch([100, 101])
    assert all(torch.equal(picture, dataset.batch([i, i + 1])[FRONT]) for i, picture in enumerate(kept))
    assert torch.equal(view, dataset[51][FRONT][0])
    assert np.array_equal(array, dataset[70][FRONT].numpy())


def test_an_order_is_a_function_of_seed_and_epoch(dataset: Dataset) -> None:
    for kind in ("random", "local"):
        order = SampleOrder(dataset, kind, seed=3, window=32)
        first, second = list(order), list(order)
        assert sorted(first) == sorted(second) == list(range(123))
        assert first != second
        assert SampleOrder(dataset, kind, seed=3, window=32).indices(1).tolist() == second
        assert SampleOrder(dataset, kind, seed=4, window=32).indices(0).tolist() != first
    assert list(SampleOrder(dataset, "sequential")) == list(range(123))


def test_local_order_keeps_groups_of_pictures_in_one_window(dataset: Dataset) -> None:
    starts = dataset.group_starts()
    # The recording has a key frame at least every second frame and at the start of each episode.
    assert np.diff(starts).max() == 2
    assert set(np.flatnonzero(dataset.frame_index == 0)) <= set(starts)
    group = np.searchsorted(starts, np.arange(123), side="right")
    order = SampleOrder(dataset, "local", seed=1, window=32).indices(0)
    window = np.empty(123, dtype=int)
    window[order] = np.arange(123) // 32
    split = sum(len(set(window[group == number])) > 1 for number in np.unique(group))
    assert split <= 3  # at most the one at each border between windows
    together = sum(abs(a - b) == 1 for a, b in itertools.pairwise(order.tolist()))
    assert together < 20
    wide = SampleOrder(dataset, "local", run=8, window=1000)
    assert all(stop - start <= 9 for start, stop in itertools.pairwise(wide._run_starts()))
    selected = dataset.select([2, 4])
    assert len(SampleOrder(selected, "local").indices(0)) == len(selected)


def test_a_sampler_resumes_in_a_dataloader(dataset: Dataset) -> None:
    whole = list(BatchSampler(SampleOrder(dataset, seed=5), 10, False))
    order = SampleOrder(dataset, seed=5)
    batches: Any = DataLoader(
        cast(Any, dataset), batch_size=None, sampler=BatchSampler(order, 10, False), num_workers=2
    )
    for number, batch in enumerate(batches):
        assert batch["index"].tolist() == whole[number]
        assert torch.equal(batch[FRONT], dataset.batch(whole[number])[FRONT])
        if number == 4:
            taken = order.position
            state = pickle.loads(pickle.dumps(order.state_dict(prefetched=taken - 50)))
            break
    resumed = SampleOrder(dataset, seed=5)
    resumed.load_state_dict(state)
    assert [list(batch) for batch in BatchSampler(resumed, 10, False)] == whole[5:]
    assert (resumed.epoch, resumed.position) == (1, 0)


def test_state_of_another_order_is_refused(dataset: Dataset) -> None:
    state = SampleOrder(dataset, "random", seed=5).state_dict()
    for other in (SampleOrder(dataset, seed=6), SampleOrder(dataset, "local", seed=5)):
        with pytest.raises(UsageError, match="The saved order has"):
            other.load_state_dict(state)
    with pytest.raises(UsageError, match="size 123"):
        SampleOrder(dataset.select([1]), seed=5).load_state_dict(state)
    with pytest.raises(UsageError, match="Unknown order 'locale'"):
        SampleOrder(dataset, "locale")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="window is 0"):
        SampleOrder(dataset, window=0)


def test_state_of_another_recording_is_refused(dataset: Dataset, copy: Path) -> None:
    states = SampleOrder(dataset, seed=5).state_dict(), Loader(dataset, 8, seed=5).state_dict()
    # The same contents at another place are the same recording.
    SampleOrder(open_dataset(copy), seed=5).load_state_dict(states[0])
    info = copy / "meta" / "info.json"
    info.write_text(info.read_text() + "\n")
    other = open_dataset(copy)
    assert len(other) == len(dataset)
    made: Any
    for made, state in zip((SampleOrder(other, seed=5), Loader(other, 8, seed=5)), states, strict=True):
        with pytest.raises(UsageError, match=f"has recording '{dataset.meta.fingerprint}'"):
            made.load_state_dict(state)


def test_state_of_other_episodes_is_refused(dataset: Dataset) -> None:
    some, others = dataset.select([0, 3]), dataset.select([1, 2])
    assert len(some) == len(others)
    state = Loader(some, 4).state_dict()
    assert state["episodes"] == 2
    Loader(dataset.select([3, 0]), 4).load_state_dict(state)
    with pytest.raises(UsageError, match="has episodes_hash"):
        Loader(others, 4).load_state_dict(state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"position": 9999}, "position is 9999"),
        ({"position": 124}, "position is 124"),
        ({"position": -3}, "position is -3"),
        ({"position": "3"}, "position is '3'"),
        ({"epoch": -1}, "epoch is -1"),
    ],
)
def test_a_place_that_does_not_exist_is_refused(dataset: Dataset, change: dict[str, Any], message: str) -> None:
    for made in (SampleOrder(dataset), Loader(dataset, 1)):
        before = made.state_dict()
        with pytest.raises(UsageError, match=message):
            made.load_state_dict({**before, **change})
        assert made.state_dict() == before


def test_a_loader_takes_only_states_that_a_loader_like_it_saved(dataset: Dataset) -> None:
    loader = Loader(dataset, 10, drop_last=True)
    with pytest.raises(UsageError, match="has drop_last False, this one has True"):
        loader.load_state_dict(Loader(dataset, 10).state_dict())
    for position in (5, 120, 123):
        with pytest.raises(UsageError, match=f"position is {position}"):
            loader.load_state_dict({**loader.state_dict(), "position": position})
    loader.load_state_dict({**loader.state_dict(), "position": 110})
    assert loader.state_dict()["position"] == 110
    for made in (loader, SampleOrder(dataset)):
        state: Any
        for state in (None, [1], "state"):
            with pytest.raises(UsageError, match="The saved order is"):
                made.load_state_dict(state)
        for name in ("recording", "position"):
            state = made.state_dict()
            del state[name]
            with pytest.raises(UsageError, match=f"The saved order has no '{name}'"):
                made.load_state_dict(state)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 2.5}, "batch_size is 2.5"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": True}, "batch_size is True"),
        ({"images": "foo"}, "images is 'foo'"),
        ({"images": True}, "images is True"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": "a"}, "seed is 'a'"),
        ({"threads": 0}, "threads is 0"),
        ({"threads": 1.5}, "threads is 1.5"),
        ({"workers": -1}, "workers is -1"),
        ({"workers": None}, "workers is None"),
        ({"ahead": 0}, "ahead is 0"),
        ({"window": -5}, "window is -5"),
        ({"run": 0.5}, "run is 0.5"),
        ({"workers": 1, "start_method": "foo"}, "start_method is 'foo'"),
    ],
)
def test_a_loader_refuses_settings_when_it_is_made(dataset: Dataset, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Loader(dataset, **{"batch_size": 2, **settings})


def test_a_loader_takes_numpy_numbers(dataset: Dataset) -> None:
    state = Loader(dataset, np.int64(8), seed=np.int64(3)).state_dict()  # type: ignore[arg-type]
    same = Loader(dataset, 8, seed=3)
    same.load_state_dict(json.loads(json.dumps(state)))
    assert same.state_dict() == state


@pytest.mark.parametrize("order", ["random", "local", "sequential"])
@pytest.mark.parametrize("images", ["float32", "uint8", None])
def test_a_loader_gives_every_sample_once(
    dataset: Dataset, order: Order, images: Literal["float32", "uint8"] | None
) -> None:
    loader = Loader(dataset, 10, order=order, images=images, seed=2, window=30)
    batches = list(loader)
    assert len(batches) == len(loader) == 13
    assert [len(batch["task"]) for batch in batches] == [10] * 12 + [3]
    seen = torch.cat([batch["index"] for batch in batches]).tolist()
    assert seen == SampleOrder(dataset, order, seed=2, window=30).indices(0).tolist()
    for batch in (batches[0], batches[7], batches[12]):
        assert same(batch, dataset.batch(batch["index"].tolist(), images=images))


@pytest.mark.parametrize("order", ["random", "local"])
def test_a_loader_resumes_within_an_epoch(dataset: Dataset, order: Order) -> None:
    def make() -> Loader:
        return Loader(dataset, 8, order=order, seed=9, window=32, images="uint8", drop_last=True)

    straight = make()
    expected = [batch["index"].tolist() for _ in range(2) for batch in straight]
    assert len(expected) == 30
    first = make()
    found = []
    for batch in first:
        found.append(batch["index"].tolist())
        if len(found) == 6:
            break
    again = make()
    again.load_state_dict(pickle.loads(pickle.dumps(first.state_dict())))
    found += [batch["index"].tolist() for _ in range(2) for batch in again]
    assert found == expected
    with pytest.raises(UsageError, match="batch_size 8"):
        Loader(dataset, 4, order=order, seed=9).load_state_dict(first.state_dict())
    with pytest.raises(UsageError, match="workers is"):
        Loader(dataset, 4, workers=-1)


@pytest.mark.parametrize(("method", "order"), [("fork", "local"), ("fork", "random"), ("spawn", "random")])
def test_a_loader_with_worker_processes(dataset: Dataset, method: Any, order: str) -> None:
    dataset.batch([0, 50, 100], threads=2)  # decoders and threads of the parent are open
    settings: dict[str, Any] = {"order": order, "seed": 1, "window": 40}
    plain = Loader(dataset, 20, **settings)
    for a, b in zip(Loader(dataset, 20, workers=2, start_method=method, **settings), plain, strict=True):
        assert same(a, b)


def test_errors_reach_the_training_loop(copy: Path, tmp_path: Path) -> None:
    dataset = open_dataset(copy)
    dataset.group_starts()
    for path in (copy / "videos").rglob("*.mp4"):
        path.write_bytes(path.read_bytes()[:2000])
    for workers in (0, 1):
        with pytest.raises(Exception, match="torn or cannot be decoded"):
            list(Loader(dataset, 16, workers=workers))
    assert len(list(Loader(dataset, 16, images=None))) == 8


def test_many_threads_read_at_once(dataset: Dataset) -> None:
    from concurrent.futures import ThreadPoolExecutor

    order = np.random.default_rng(0).permutation(123)[:60].tolist()
    expected = [dataset[i] for i in order]
    with ThreadPoolExecutor(4) as pool:
        assert all(same(a, b) for a, b in zip(pool.map(dataset.__getitem__, order), expected, strict=True))


def test_the_standard_dataloader_reads_batches_together(dataset: Dataset) -> None:
    expected = default_collate([dataset[i] for i in range(30, 40)])
    loader: Any = DataLoader(cast(Any, dataset), batch_size=10, sampler=range(30, 40), num_workers=1)
    assert same(next(iter(loader)), expected)
