"""A cart on a line: the smallest world with two goals, and policies for it, as a stranger would write them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from smolpilot.common.errors import UsageError, did_you_mean
from smolpilot.common.keys import STATE, TASK
from smolpilot.contracts import (
    RANDOM,
    Embodiment,
    Environment,
    EnvironmentSpec,
    EpisodeInfo,
    Image,
    Leftover,
    Observation,
    Outcome,
    Policy,
    PolicyFacts,
    PolicyOptions,
    PolicySpec,
    make_observation,
)
from smolpilot.robots import Joint, RobotProfile

LIMIT = 12
TEXTS = {"left": "drive to the left end", "right": "drive to the right end"}
CART = RobotProfile(
    name="cart",
    description="a cart on a line",
    rate=5.0,
    joints=[Joint(name="place", unit="m", position_limits=(-2.0, 2.0), velocity_limit=None)],
)


class Line(Environment):
    """Drive to the end that the instruction names; odd seeds name the right one, even ones the left one."""

    def __init__(self, *, reach: float = 1.0, broken: int | None = None, endless: bool = False) -> None:
        """reach: of both ends, m; broken: the seed whose second step raises; endless: it never says that it ended."""
        self._reach, self._broken, self._endless = reach, broken, endless
        self.closed = False

    @property
    def spec(self) -> EnvironmentSpec:
        return EnvironmentSpec(
            name="line", profile=CART, rate=CART.rate, goal="the cart is at the end that the instruction names",
            max_steps=LIMIT, instructions=tuple(TEXTS.values()),
            labels={"other end": "went to the other end", "timeout": "ran out of time"},
        )  # fmt: skip

    def reset(self, seed: int, *, instruction: str | None = None) -> tuple[Observation, EpisodeInfo]:
        usual = "right" if seed % 2 else "left"
        end = usual if instruction is None else {text: end for end, text in TEXTS.items()}.get(instruction, "")
        if end not in TEXTS:
            raise UsageError(f"No end of the line is meant by '{instruction}'.", fix=did_you_mean(end, TEXTS.values()))
        self._seed, self._end, self._place, self._steps = seed, end, 0.0, 0
        others = tuple(text for other, text in TEXTS.items() if other != end)
        return self._observation(), EpisodeInfo(TEXTS[end], {"end": end}, others)

    def step(self, action: npt.ArrayLike) -> tuple[Observation, Outcome | None]:
        self._steps += 1
        if self._seed == self._broken and self._steps == 2:
            raise ZeroDivisionError("the wheel came off")
        self._place += float(np.asarray(action)[0])
        at = "right" if self._place >= self._reach else "left" if self._place <= -self._reach else None
        outcome = None
        if not self._endless and (at or self._steps == LIMIT):
            label = "timeout" if at is None else "there" if at == self._end else "other end"
            reached = () if at is None else (TEXTS[at],)
            outcome = Outcome(at == self._end, label, {"place_m": self._place}, reached=reached)
        return self._observation(), outcome

    def render(self) -> Image:
        picture = np.full((64, 64, 3), 200, dtype=np.uint8)
        picture[:, int(np.clip(32 + 25 * self._place, 0, 63))] = 0
        return picture

    def close(self) -> None:
        self.closed = True

    def _observation(self) -> Observation:
        return make_observation([self._place], {}, TEXTS[self._end])


class Driver(Policy):
    """Goes where `aim(instruction)` says, 0.25 m a step."""

    def __init__(self, aim: Callable[[str], float], **changes: Any) -> None:
        self.aim, self.resets = aim, 0
        self.batches: list[int] = []
        self.seeds: list[list[int]] = []
        facts = PolicyFacts(source="runs/driver", kind="test")
        settings: dict[str, Any] = {
                "name": "driver", "state_dim": 1, "action_dim": 1, "chunk_size": 8, "n_action_steps": 4,
                "capabilities": frozenset({RANDOM}), "facts": facts, **changes,
        }  # fmt: skip
        self._spec = PolicySpec(**settings)

    @property
    def spec(self) -> PolicySpec:
        return self._spec

    def predict(
        self,
        observations: Sequence[Observation],
        *,
        seeds: Sequence[int] | None = None,
        previous: Leftover | None = None,
    ) -> npt.NDArray[np.float32]:
        assert seeds is not None
        self.batches.append(len(observations))
        self.seeds.append(list(seeds))
        assert all(seen[STATE].shape == (1,) for seen in observations)
        steps = np.array([0.25 * self.aim(seen[TASK]) for seen in observations], dtype=np.float32)
        return np.broadcast_to(steps[:, None, None], (len(observations), 8, 1))

    def reset(self) -> None:
        self.resets += 1


def obedient(text: str) -> float:
    """The end that the instruction names."""
    return 1.0 if "right" in text else -1.0


def open_driver(source: str, options: PolicyOptions, embodiment: Embodiment | None) -> Policy:
    """As a stranger's entry point: `driver` obeys, `driver:right` always goes right."""
    options.only("the driver", "device")
    facts = PolicyFacts(source=f"driver:{source}" if source else "driver", kind="test")
    return Driver(obedient if source != "right" else lambda text: 1.0, facts=facts)
