"""Batches made ahead: the same ones in the same order, errors passed on, nothing left running."""

from __future__ import annotations

import threading
from collections.abc import Generator
from pathlib import Path

import pytest
import torch

from smolpilot.datasets import open_dataset
from smolpilot.policy import new_policy
from smolpilot.training.batches import Batches
from smolpilot.training.prefetch import ahead, to_device


def threads() -> int:
    return sum(thread.name == "batches" for thread in threading.enumerate())


def test_the_same_batches_in_the_same_order(tiny_dataset: Path) -> None:
    dataset = open_dataset(tiny_dataset)
    policy = new_policy("tiny", meta=dataset.meta, seed=1, device="cpu")
    batches = Batches(dataset, policy.transforms, policy.device, chunk_size=policy.config.chunk_size)
    plain = list(batches.stream(batches.sampler(4, 0), 3, 9))
    early = list(ahead(batches.stream(batches.sampler(4, 0), 3, 9)))
    assert len(early) == 6
    for one, other in zip(plain, early, strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.state, other.state)
        assert one.actions is not None
        assert other.actions is not None
        assert torch.equal(one.actions, other.actions)
    assert threads() == 0


def test_it_works_ahead_but_not_further_than_told() -> None:
    made: list[int] = []
    enough = threading.Event()

    def numbers() -> Generator[int]:
        for number in range(100):
            made.append(number)
            if number == 3:
                enough.set()
            yield number

    stream = ahead(numbers(), depth=2)
    assert next(stream) == 0
    # One handed out, two waiting, one in the hand of the thread.
    assert enough.wait(5)
    assert made == [0, 1, 2, 3]
    stream.close()
    assert threads() == 0
    assert len(made) <= 5


def test_an_error_comes_after_the_items_before_it() -> None:
    closed = []

    def failing() -> Generator[int]:
        try:
            yield 1
            raise OSError("torn file")
        finally:
            closed.append(True)

    stream = ahead(failing())
    assert next(stream) == 1
    with pytest.raises(OSError, match="torn file"):
        next(stream)
    assert closed == [True]
    assert threads() == 0


def test_moving_to_the_place_where_it_is_costs_nothing() -> None:
    value = torch.ones(2)
    assert to_device(value, torch.device("cpu")) is value
