"""What a policy does with its observations and its own arrays afterwards changes no number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from smolpilot.common.errors import CheckpointError
from smolpilot.common.keys import STATE
from smolpilot.contracts import Policy, PolicySpec
from smolpilot.datasets import open_dataset
from smolpilot.evaluation import evaluate
from smolpilot.evaluation.checked_policy import checked_chunks


class Careless(Policy):
    """Writes into what it is given, where `writes`, and hands out the same array again and again."""

    def __init__(self, writes: bool = False, made: type = float) -> None:
        self.writes = writes
        self.chunks: npt.NDArray[Any] = np.zeros((1, 4, 3), np.float32).astype(made)

    @property
    def spec(self) -> PolicySpec:
        return PolicySpec("careless", 3, 3, chunk_size=4, n_action_steps=2)

    def predict(self, observations: Any, *, seeds: Any = None, previous: Any = None) -> Any:
        for observation in observations if self.writes else ():
            observation[STATE][:] = 1e6
        self.chunks += 1
        return self.chunks


def test_a_policy_cannot_change_what_holding_still_would_give(tiny_dataset: Path) -> None:
    found = [
        evaluate(Careless(writes), open_dataset(tiny_dataset), "0", batch_size=1, latency=False).document
        for writes in (False, True)
    ]
    assert [joint["hold_mae"] for joint in found[0]["joints"]] == [joint["hold_mae"] for joint in found[1]["joints"]]


def test_chunks_are_kept_though_the_policy_uses_its_array_again() -> None:
    policy = Careless(made=np.float32)
    first = checked_chunks(policy, [{}], [0])
    checked_chunks(policy, [{}], [1])
    assert (first == 1).all()


def test_complex_numbers_are_no_actions() -> None:
    with pytest.raises(CheckpointError, match="a ndarray that is no array of real numbers"):
        checked_chunks(Careless(made=complex), [{}], [0])
