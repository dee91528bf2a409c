from __future__ import annotations

import numpy as np

from smolpilot.training.sampler import Sampler, Share


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


def test_shares_of_a_batch_are_parts_of_it_with_their_places() -> None:
    whole = Sampler(11, 5, seed=2)
    shares = [Share(whole.anew(), part) for part in (slice(0, 2), slice(2, 5))]
    for number in (0, 3):
        assert np.concatenate([share.batch(number) for share in shares]).tolist() == whole.batch(number).tolist()
        assert np.concatenate([share.places(number) for share in shares]).tolist() == whole.places(number).tolist()
    assert list(shares[1].anew().batches(1, 2)) == [whole.batch(1)[2:].tolist()]
    assert shares[0].values() == whole.values()
