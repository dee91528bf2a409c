"""A policy that breaks a promise of the contract is found out. The others' tests use the same check."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import numpy as np
import pytest

from smolpilot.common.errors import SmolpilotError
from smolpilot.contracts import RANDOM, Policy, PolicyFacts, PolicySpec
from smolpilot.policies.checked_observations import read_state, refuse_previous

from .helpers_conformance import check_policy


class Odd(Policy):
    """A policy that breaks one promise."""

    def __init__(self, breach: str) -> None:
        self.breach, self.calls = breach, 0

    @property
    def spec(self) -> PolicySpec:
        spec = PolicySpec("odd", 3, 3, 4, 2, facts=PolicyFacts(source="odd", kind="odd"))
        changes: dict[str, dict[str, Any]] = {
            "spec": {"n_action_steps": 9},
            "names": {"action_names": ("a",)},
            "camera": {"cameras": ("front",)},
            "capability": {"capabilities": frozenset({RANDOM})},
        }
        return dataclasses.replace(spec, **changes.get(self.breach, {}))

    def predict(self, observations: Any, *, seeds: Any = None, previous: Any = None) -> Any:
        if self.breach != "previous":
            refuse_previous(previous, "odd")
        self.calls += 1
        chunks = np.stack([np.tile(read_state(one, 3), (4, 1)) for one in observations]).astype(np.float32)
        if self.breach == "shape":
            return chunks[:, :3]
        if self.breach == "dtype":
            return chunks.astype(np.float64)
        if self.breach == "state":
            observations[0]["observation.state"][0] += 1
        if self.breach == "memory":
            chunks += self.calls
        if self.breach == "batch":
            chunks += np.arange(len(chunks), dtype=np.float32)[:, None, None]
        if self.breach == "seed" and seeds is not None:
            chunks += np.array(seeds, np.float32)[:, None, None]
        return chunks


BREACHES = {
    "spec": "PolicySpec 'odd': n_action_steps is 9",
    "names": r"PolicySpec 'odd': action_names is",
    "camera": "DID NOT RAISE",
    "capability": "other chunks for other seeds",
    "shape": r"the shape \(3, 3, 3\)",
    "dtype": "chunks are float64",
    "state": "an observation was changed",
    "memory": "the same seeds give the same chunks",
    "batch": "the order in a batch does not matter",
    "seed": "does not look at seeds",
    "previous": "DID NOT RAISE",
}


@pytest.mark.parametrize("breach", BREACHES)
def test_a_broken_promise_is_found(breach: str, observations: list[dict[str, Any]]) -> None:
    with pytest.raises((AssertionError, SmolpilotError, pytest.fail.Exception), match=BREACHES[breach]):
        check_policy(Odd(breach), copy.deepcopy(observations))


def test_a_kept_one_is_not(observations: list[dict[str, Any]]) -> None:
    check_policy(Odd("none"), observations)
