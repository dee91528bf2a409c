"""ActionQueue and the small parts of the contracts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smolpilot.common.errors import UsageError
from smolpilot.common.keys import STATE, TASK
from smolpilot.contracts import (
    CAPTURED_AT,
    HISTORY,
    ActionQueue,
    History,
    Leftover,
    Observation,
    Policy,
    PolicyOptions,
    PolicySpec,
    check_horizon,
    example_observation,
    make_observation,
)


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
    with pytest.raises(UsageError, match="--policy-stats-from is given, but an ACT policy has no such option"):
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


def test_a_history_gives_those_before_of_this_episode() -> None:
    history = History(3)
    found = [history.add({STATE: i})[HISTORY] for i in range(4)]
    assert [[one[STATE] for one in before] for before in found] == [[], [0], [0, 1], [1, 2]]
    assert all(HISTORY not in one for before in found for one in before), "a history holds no histories"
    history.clear()
    assert history.add({STATE: 9})[HISTORY] == ()
    one = {STATE: 1}
    assert History(1).add(one) is one


def test_a_queue_gives_a_policy_the_steps_between_its_plans() -> None:
    seen: list[list[int]] = []

    class Reader(Counter):
        @property
        def spec(self) -> PolicySpec:
            return PolicySpec("reader", 1, 2, chunk_size=4, n_action_steps=3, n_obs_steps=2)

        def predict(self, observations: Sequence[Observation], **more: Any) -> Any:
            seen.append([one[STATE] for one in (*observations[0][HISTORY], observations[0])])
            return super().predict(observations, **more)

    queue = ActionQueue(Reader())
    for step in range(7):
        queue.select_action({STATE: step})
    queue.clear()
    queue.select_action({STATE: 9})
    assert seen == [[0], [2, 3], [5, 6], [9]]


def test_a_made_up_observation_fits_the_spec() -> None:
    spec = PolicySpec("p", 2, 2, 4, 2, cameras=("a", "b"), image_sizes={"b": (6, 8)}, instructions=("do it",),
                      statistics={STATE: {"mean": np.array([1.0, 2.0])}})  # fmt: skip
    made = example_observation(spec, 3)
    assert made[STATE].tolist() == [1, 2]
    assert made[TASK] == "do it"
    assert made["observation.images.b"].shape == (6, 8, 3)
    assert made["observation.images.a"].shape == (480, 640, 3)
    np.testing.assert_array_equal(example_observation(spec, 3)["observation.images.b"], made["observation.images.b"])
    assert (example_observation(spec, 4)["observation.images.b"] != made["observation.images.b"]).any()
    assert HISTORY not in made
    assert example_observation(PolicySpec("p", 2, 2, 4, 2, n_obs_steps=2))[HISTORY] == ()
