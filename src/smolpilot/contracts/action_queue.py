"""ActionQueue: one action at a time from any policy's chunks. History: each observation with those before it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from smolpilot.common.errors import UsageError

from .observation import HISTORY, Observation

if TYPE_CHECKING:
    import numpy.typing as npt

    from .policy import Policy


class History:
    """The last observations of an episode; one for each episode that runs."""

    def __init__(self, n_obs_steps: int) -> None:
        """n_obs_steps: `policy.spec.n_obs_steps`; with 1, observations pass unchanged and nothing is kept."""
        self.n_obs_steps = n_obs_steps
        self._before: deque[Observation] = deque(maxlen=n_obs_steps - 1)

    def add(self, observation: Observation) -> Observation:
        """The observation with its `history`: those added before, oldest first, at most n_obs_steps - 1.

        Called once for each step of the control loop, also where no plan is due. At the start of an episode the history
        is shorter; the policy fills it up as it did in training.
        """
        if not self._before.maxlen:
            return observation
        whole = {**observation, HISTORY: tuple(self._before)}
        self._before.append(observation)
        return whole

    def clear(self) -> None:
        """Forget all: at the start of an episode."""
        self._before.clear()


class ActionQueue:
    """Plans when it is empty, then hands out `n_action_steps` actions of that plan."""

    def __init__(self, policy: Policy, n_action_steps: int | None = None) -> None:
        """n_action_steps: how many actions of a chunk are executed; default: as the policy says at each plan."""
        if n_action_steps is not None:
            check_horizon(n_action_steps, policy.spec.chunk_size)
        self._policy, self._steps = policy, n_action_steps
        self._waiting: deque[npt.NDArray[np.float32]] = deque()
        self._history = History(policy.spec.n_obs_steps)

    def __len__(self) -> int:
        return len(self._waiting)

    def select_action(self, observation: Observation, seed: int | None = None) -> npt.NDArray[np.float32]:
        """The next action float32 [A]; the observation is looked at only when a new plan is due, or as history."""
        observation = self._history.add(observation)
        if not self._waiting:
            chunk = self._policy.predict([observation], seeds=None if seed is None else [seed])[0]
            self._waiting.extend(chunk[: self._steps or self._policy.spec.n_action_steps])
        return self._waiting.popleft()

    def clear(self) -> None:
        """Drop what is left of the plan: at the start of an episode."""
        self._waiting.clear()
        self._history.clear()


def check_horizon(steps: int, chunk_size: int) -> int:
    """The execution horizon, where it lies within a chunk; UsageError otherwise."""
    if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= chunk_size:
        raise UsageError(
            f"The execution horizon n_action_steps is {steps!r}.",
            expected=f"1 to {chunk_size}, the length of a chunk",
        )
    return steps
