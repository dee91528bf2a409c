from __future__ import annotations

import numpy as np

from smolpilot.training.sampler import Sampler


def test_every_frame_comes_once_per_epoch_though_batches_span_epochs() -> None:
    sampler = Sampler(size=10, batch_size=4, seed=3)
    seen = np.concatenate([sampler.batch(k) for k in range(5)])
    assert sorted(seen[:10]) == list(range(10))
    assert sorted(seen[10:]) == list(range(10))
    assert seen[:10].tolist() != seen[10:].tolist()
    assert all(len(sampler.batch(k)) == 4 for k in range(5))
    assert sampler.epoch(5) == 2.0


def test_any_batch_is_the_same_in_any_order_of_asking() -> None:
    forward = [Sampler(7, 3, 1).batch(k).tolist() for k in range(9)]
    sampler = Sampler(7, 3, 1)
    backward = [sampler.batch(k).tolist() for k in reversed(range(9))]
    assert forward == backward[::-1]
    assert list(Sampler(7, 3, 1).batches(4, 9)) == forward[4:]
    assert forward != [Sampler(7, 3, 2).batch(k).tolist() for k in range(9)]


def test_a_batch_larger_than_the_data_holds_several_epochs() -> None:
    batch = Sampler(size=3, batch_size=8, seed=0).batch(0)
    assert np.bincount(batch).min() >= 2
    assert len(batch) == 8
