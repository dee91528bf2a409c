"""The policy process with policies that misbehave: `NAME` as source."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from smolpilot.common.errors import CheckpointError, NotFiniteError
from smolpilot.contracts import GUIDED, TWO_STAGE, Leftover, Policy, PolicySpec
from smolpilot.contracts.policy import PolicyFacts
from smolpilot.policies import policy_process
from smolpilot.robots import RobotProfile

PROFILE = RobotProfile.load("so101")


class Made(Policy):
    """Chunk row k is the state, plus k; its last column is the brightness of the image."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        late = {TWO_STAGE, GUIDED} if kind == "late" else {GUIDED} if kind == "guided" else set()
        self._spec = PolicySpec(
            kind, 6, 6, 5, 3, cameras=("front",), profile=PROFILE, instructions=("do it",), rate=30.0,
            image_sizes={"front": (4, 6)}, capabilities=frozenset(late), facts=PolicyFacts(kind="made"),
        )  # fmt: skip

    @property
    def spec(self) -> PolicySpec:
        return self._spec

    def predict(
        self, observations: Sequence[Mapping[str, Any]], *, seeds: Any = None, previous: Leftover | None = None
    ) -> Any:
        if self.kind == "nan":
            raise NotFiniteError("The chunk is not finite.")
        if self.kind == "raises":
            raise ZeroDivisionError("somebody's code")
        if self.kind == "dies":
            os._exit(3)
        if self.kind == "prints":
            print("this goes", "nowhere", flush=True)
            os.write(1, b'{"kind":"chunk","id":5}\n')
        if self.kind == "hangs":
            time.sleep(60)
        one = observations[0]
        chunk = self._chunk(one["observation.state"], one["observation.images.front"], previous)
        if self.kind == "infinite":
            chunk[2, 1] = np.inf
        return (chunk[:, :5] if self.kind == "narrow" else chunk)[None]

    def begin(self, images: Mapping[str, Any], instruction: str | None = None) -> int:
        self._image = images["front"]
        time.sleep(0.3)  # meanwhile the arm goes on
        return 1

    def finish(self, state: Any, *, ticket: int | None = None, seed: int | None = None,
               previous: Leftover | None = None) -> Any:  # fmt: skip
        return self._chunk(state, self._image, previous)

    def _chunk(self, state: Any, image: Any, previous: Leftover | None) -> Any:
        chunk = np.asarray(state, dtype=np.float32)[None] + np.arange(5, dtype=np.float32)[:, None]
        chunk[:, 5] = image.mean()
        if previous is not None:
            chunk[0, 0], chunk[0, 1], chunk[0, 2] = previous.actions[0, 0], previous.delay, len(previous.actions)
        return chunk


def open_for(request: Any) -> Policy:
    if request.source == "refused":
        raise CheckpointError("There is nothing in it.", expected="a policy", fix="train one")
    if request.source == "crashes":
        raise RuntimeError("of the loader")
    if request.source == "slow":
        time.sleep(60)
    return Made(request.source)


policy_process.open_for = open_for
sys.exit(policy_process.main())
