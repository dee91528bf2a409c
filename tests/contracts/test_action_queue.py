"""ActionQueue and the small parts of the contracts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smolpilot.contracts import (
    CAPTURED_AT,
    ActionQueue,
    Leftover,
    Observation,
    Policy,
    PolicyOptions,
    PolicySpec,
    check_horizon,
    make_observation,
)
from smolpilot.errors import UsageError
from smolpilot.keys import STATE, TASK


class Counter(Policy):
    """Each plan has one number more in all of its actions; the seed is added."""

    def __init__(self) -> None:
        self.plans = 0

    @property
    def spec(self) -> PolicySpec:
        return PolicySpec("counter", 1, 2, chunk_size=4, n_action_steps=3)

    def predict(
        self, observations: Sequence[Observation], *, seeds: Sequence[int] | None = None,
        previous: Leftover | None = None,
    ) -> Any:  # fmt: skip
        self.plans += 1
        first = 100 * self.plans + (seeds[0] if seeds else 0)
        return np.broadcast_to(first + np.arange(4, dtype=np.float32)[None, :, None], (1, 4, 2)).copy()


def test_a_queue_hands_out_a_plan_and_makes_the_next() -> None:
    policy = Counter()
    queue = ActionQueue(policy)
    taken = [float(queue.select_action({})[0]) for _ in range(7)]
    assert taken == [100, 101, 102, 200, 201, 202, 300]
    assert len(queue) == 2
    queue.clear()
    assert queue.select_action({}, seed=7).tolist() == [407, 407]


def test_a_queue_takes_another_execution_horizon() -> None:
    queue = ActionQueue(Counter(), n_action_steps=1)
    assert [float(queue.select_action({})[0]) for _ in range(3)] == [100, 200, 300]


@pytest.mark.parametrize("steps", [0, 5, True, 2.0])
def test_an_execution_horizon_outside_the_chunk_is_refused(steps: Any) -> None:
    with pytest.raises(UsageError, match=r"n_action_steps is .*\nExpected: 1 to 4"):
        check_horizon(steps, 4)
    with pytest.raises(UsageError, match="n_action_steps is"):
        ActionQueue(Counter(), n_action_steps=steps)


def test_a_policy_that_inherits_needs_no_reset_nor_close() -> None:
    policy = Counter()
    policy.reset()
    policy.close()
    assert isinstance(policy, Policy)


def test_an_observation_has_lerobots_keys() -> None:
    image = np.zeros((4, 6, 3), np.uint8)
    made = make_observation([1, 2], {"front": image}, "go", captured_at={STATE: 12.5})
    assert set(made) == {STATE, "observation.images.front", TASK, CAPTURED_AT}
    assert made[STATE].dtype == np.float32
    assert made[CAPTURED_AT] == {STATE: 12.5}
    assert set(make_observation([1], {})) == {STATE}


def test_options_that_a_policy_does_not_have_are_named() -> None:
    options = PolicyOptions(device="cpu", stats_from=Path("data"))
    options.only("an ACT policy", "device", "stats_from")
    with pytest.raises(UsageError, match="--stats-from is given, but an ACT policy has no such option"):
        options.only("an ACT policy", "device")
    with pytest.raises(UsageError, match="--num-steps is given"):
        PolicyOptions(num_steps=3).only("a baseline")
    PolicyOptions().only("a baseline")


def test_the_contracts_load_no_torch_and_no_policy() -> None:
    code = (
        "import sys, smolpilot.contracts, smolpilot.contracts.registry as r\n"
        "[one.names() for one in r.REGISTRIES]\n"
        "heavy = {'torch', 'lerobot', 'gymnasium', 'pandas', 'av', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
