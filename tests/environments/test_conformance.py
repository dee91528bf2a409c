"""What ships keeps the contract; and an environment that breaks it is found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from smolpilot.contracts import Observation, Outcome
from smolpilot.environments import environment_factory
from smolpilot.environments.tabletop.adapter import Tabletop
from smolpilot.environments.tabletop.env import TabletopEnv

from .helpers_conformance import check_environment


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("tabletop", {}),
        ("tabletop", {"colors": "red,green,blue,yellow", "target": "green"}),
        ("pusht", {"max_steps": 20}),
        (
            "gymnasium",
            {"id": "gym_pusht:gym_pusht/PushT-v0", "robot": "pusht", "state": "agent_pos", "images": "image:pixels",
             "options": "obs_type:pixels_agent_pos", "success": "is_success", "max_steps": "15"},
        ),
    ],
)  # fmt: skip
def test_what_ships_keeps_the_contract(name: str, settings: dict[str, Any]) -> None:
    check_environment(environment_factory(name, settings))


class _Forgetful(Tabletop):
    """Draws something that no seed fixes."""

    def step(self, action: Any) -> tuple[Observation, Outcome | None]:
        return super().step(np.asarray(action) + np.random.default_rng().normal(size=3))


class _Endless(Tabletop):
    def step(self, action: Any) -> tuple[Observation, Outcome | None]:
        return super().step(action)[0], None


class _Restless(Tabletop):
    """Another instruction, another scene."""

    def reset(self, seed: int, *, instruction: str | None = None, **more: Any) -> Any:
        own, info = super().reset(seed)
        if instruction in (None, info.instruction):
            return own, info
        other, there = super().reset(seed, instruction=instruction)
        return {**super().reset(seed + 1)[0], "task": other["task"]}, there


class _Sharing(Tabletop):
    """Draws every image into one buffer."""

    def step(self, action: Any) -> tuple[Observation, Outcome | None]:
        observation, outcome = super().step(action)
        self._first["observation.images.top"][:] = observation["observation.images.top"]
        return observation, outcome

    def reset(self, seed: int, *, instruction: str | None = None, **more: Any) -> Any:
        self._first, info = super().reset(seed, instruction=instruction)
        return self._first, info


class _Careless(Tabletop):
    """Acts on what is not a number."""

    def step(self, action: Any) -> tuple[Observation, Outcome | None]:
        return super().step(np.nan_to_num(action))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (_Forgetful, "differs"),
        (_Endless, "no outcome"),
        (_Restless, "observation.* differs"),
        (_Sharing, "images.top differs"),
    ],
)
def test_an_environment_that_breaks_it_is_found(kind: type[Tabletop], words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        check_environment(lambda: kind(TabletopEnv()))


def test_one_that_acts_on_nan_is_found() -> None:
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        check_environment(lambda: _Careless(TabletopEnv()))
