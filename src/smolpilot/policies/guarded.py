"""A policy of another package: what it raises names it, and ends a command with one error."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from smolpilot.common.text import LIMIT, plain
from smolpilot.contracts import Observation, Policy, PolicySpec
from smolpilot.contracts.observation import Floats
from smolpilot.contracts.plugins import blamed
from smolpilot.contracts.policy import Leftover


class GuardedPolicy(Policy):
    """The policy itself in all it has (`guarded` is it); `predict`, `reset` and `close` raise SmolpilotError only."""

    def __init__(self, name: str, policy: Policy) -> None:
        """name: under which it is registered."""
        self._name, self.guarded = name, policy

    @property
    def spec(self) -> PolicySpec:
        """The policy's own, as it stands now."""
        return self.guarded.spec

    def predict(
        self,
        observations: Sequence[Observation],
        *,
        seeds: Sequence[int] | None = None,
        previous: Leftover | None = None,
    ) -> Floats:
        """The policy's own chunks."""
        # Who does not know `previous` need not take it: only GUIDED policies are given one.
        more = {} if previous is None else {"previous": previous}
        with self._blamed("predict"):
            return self.guarded.predict(observations, seeds=seeds, **more)

    def reset(self) -> None:
        """The policy's own."""
        with self._blamed("reset"):
            self.guarded.reset()

    def close(self) -> None:
        """The policy's own."""
        with self._blamed("close"):
            self.guarded.close()

    def __getattr__(self, name: str) -> Any:
        # What else it has, as capabilities do.
        if name == "guarded":
            raise AttributeError(name)
        return getattr(self.guarded, name)

    def _blamed(self, call: str) -> AbstractContextManager[None]:
        return blamed(
            f"The policy '{plain(self._name, LIMIT)}' fails in {call}",
            fix="report it to its makers (SMOLPILOT_TRACEBACK=1 shows where)",
        )
