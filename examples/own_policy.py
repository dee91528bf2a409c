"""The nearest recorded state's next actions: a policy of your own. docs/own-policy.md makes it a package."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from smolpilot.common.errors import UsageError
from smolpilot.contracts import Embodiment, Leftover, Observation, Policy, PolicyFacts, PolicyOptions, PolicySpec
from smolpilot.datasets import open_dataset
from smolpilot.policies.checked_observations import read_state, refuse_previous


class Nearest(Policy):
    spec: PolicySpec

    def __init__(self, source: str, options: PolicyOptions, embodiment: Embodiment | None) -> None:
        """source: a LeRobot dataset folder, as in `nearest:DATASET`."""
        options.only("nearest", "device", "camera_map")
        if not source:
            raise UsageError("nearest needs recorded motions.", fix="name a dataset: nearest:DATASET")
        data = open_dataset(source)
        self.states, self.actions = data.states, data.actions
        self.scale = self.states.std(axis=0) + 1e-6
        self.last = np.array([np.flatnonzero(data.episode_index == e)[-1] for e in data.episode_index])
        self.spec = PolicySpec(
            name="nearest", state_dim=self.states.shape[1], action_dim=self.actions.shape[1], chunk_size=20,
            n_action_steps=5, action_names=tuple(data.meta.action_names), rate=data.meta.fps,
            statistics=data.meta.statistics, facts=PolicyFacts(source=source, kind="nearest"),
        )  # fmt: skip

    def predict(self, observations: Sequence[Observation], *, seeds: Sequence[int] | None = None,
                previous: Leftover | None = None) -> npt.NDArray[np.float32]:  # fmt: skip
        refuse_previous(previous, "nearest")
        chunks = np.empty((len(observations), 20, self.actions.shape[1]), np.float32)
        for i, observation in enumerate(observations):
            state = read_state(observation, self.spec.state_dim)
            row = (((self.states - state) / self.scale) ** 2).sum(axis=1).argmin()
            chunks[i] = self.actions[np.minimum(row + np.arange(20), self.last[row])]  # an episode's end is held
        return chunks
