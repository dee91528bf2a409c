"""A cart on a rail, drawn with numpy: an environment of your own. docs/own-environment.md makes it a package."""

import numpy as np
import numpy.typing as npt

from smolpilot.common.errors import UsageError
from smolpilot.contracts import Environment, EnvironmentSpec, EpisodeInfo, Image, Observation, Outcome, make_observation
from smolpilot.environments import checked_action
from smolpilot.robots import CameraProfile, Joint, RobotProfile

ENDS = {"drive to the left end": -1.0, "drive to the right end": 1.0}
RAIL = Joint(name="x", unit="m", position_limits=(-1.0, 1.0), velocity_limit=1.0)
CART = RobotProfile(name="cart", description="a cart on a rail of 2 m", rate=10, joints=[RAIL],
                    cameras=[CameraProfile(name="front", width=64, height=64)])  # fmt: skip


class Cart(Environment):
    spec = EnvironmentSpec(name="cart", profile=CART, rate=10, goal="it reaches the named end", max_steps=40,
                           labels={"other": "reached the other end", "none": "reached no end"})  # fmt: skip

    def __init__(self, start: float = 0.2) -> None:
        self.start = start  # a setting: how far from the middle an episode begins at most, in m

    def reset(self, seed: int, *, instruction: str | None = None) -> tuple[Observation, EpisodeInfo]:
        if instruction not in (None, *ENDS):
            raise UsageError(f"The cart has no instruction '{instruction}'.", expected=" or ".join(ENDS))
        rng = np.random.default_rng(seed)  # the same draws whatever the instruction
        self.x, drawn, self.steps = rng.uniform(-self.start, self.start), str(rng.choice([*ENDS])), 0
        self.task = instruction or drawn
        return self._see(), EpisodeInfo(self.task, {"end": self.task}, tuple(set(ENDS) - {self.task}))

    def step(self, action: npt.ArrayLike) -> tuple[Observation, Outcome | None]:
        self.x += np.clip(checked_action(action, 1)[0] - self.x, -0.1, 0.1)  # at most 1 m/s
        self.steps += 1
        away = float(abs(self.x - ENDS[self.task]))
        if abs(self.x) < 0.99 and self.steps < self.spec.max_steps:
            return self._see(), None
        label = "named" if away <= 0.01 else "other" if abs(self.x) >= 0.99 else "none"
        reached = tuple(text for text, end in ENDS.items() if abs(self.x - end) <= 0.01)
        return self._see(), Outcome(label == "named", label, {"distance_m": away}, reached=reached)

    def render(self) -> Image:
        image = np.full((64, 64, 3), 230, np.uint8)
        left = int(np.clip(28 + 27 * self.x, 0, 56))
        image[40:44], image[30:40, left : left + 8] = 90, (200, 60, 40)
        return image

    def _see(self) -> Observation:
        return make_observation([self.x], {"front": self.render()}, self.task)
