"""History: each observation of an episode with those before it, for policies that read several."""

from __future__ import annotations

from collections import deque

from .observation import HISTORY, Observation


class History:
    """The last observations of an episode; one for each episode that runs."""

    def __init__(self, n_obs_steps: int) -> None:
        """n_obs_steps: `policy.spec.n_obs_steps`; with 1, observations pass unchanged and nothing is kept."""
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
