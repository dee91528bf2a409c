"""The adapter for gymnasium's environments: where state, images and success are found; what does not fit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import pytest

from smolpilot.common.errors import ProfileError, UsageError
from smolpilot.common.keys import STATE, TASK, image_key
from smolpilot.contracts import EnvironmentSpec
from smolpilot.environments.gymnasium import RENDER, GymnasiumEnvironment, Wiring, make_gymnasium
from smolpilot.robots import RobotProfile

from .helpers_conformance import check_environment

LAMP = """
name: lamp
description: a lamp with two arms
rate: 20
joints:
  - {name: a, unit: rad, position_limits: [-2.0, 2.0], velocity_limit: unknown}
  - {name: b, unit: rad, position_limits: [-2.0, 2.0], velocity_limit: unknown}
cameras:
  - {name: top, width: 8, height: 6}
  - {name: view, width: 7, height: 5}
default_instruction: light the page
"""


class Lamp(gymnasium.Env[Any, Any]):
    """Done right when both joints are near 1; ends badly beyond 1.9. Draws into one buffer."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012
    observation_space = gymnasium.spaces.Dict({})
    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)

    def __init__(self, render_mode: str | None = None, tells: bool = True, **more: Any) -> None:
        self.render_mode, self.tells, self.closed = render_mode, tells, 0
        self.seen: list[npt.NDArray[Any]] = []
        self._buffer = np.zeros((6, 8, 3), np.uint8)
        if more:
            raise ValueError(f"unknown option {', '.join(more)}\x1b[2J")
        print("a greeting")

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.joints = self.np_random.uniform(-0.5, 0.5, 2)
        return self._look(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.seen.append(np.array(action))
        self.joints = np.asarray(action, dtype=np.float64)
        light = 1.0 - float(np.abs(self.joints - 1).max())
        info: dict[str, Any] = {"light": light}
        if self.tells:
            info["lit"] = np.bool_(light > 0.9)
        return self._look(), light, bool((self.joints > 1.9).any()), False, info

    def render(self) -> Any:
        image = np.full((5, 7, 3), int(100 + 50 * self.joints[0]), np.uint8)
        image[0] = 0
        return image

    def close(self) -> None:
        self.closed += 1

    def _look(self) -> dict[str, Any]:
        self._buffer[:] = int(100 + 40 * self.joints.mean())
        return {"body": {"joints": self.joints.copy()}, "eyes": {"top": self._buffer}}


WIRING: dict[str, Any] = {"state": "body.joints", "images": {"top": "eyes.top", "view": RENDER}, "success": "lit"}


@pytest.fixture(autouse=True)
def lamp(tmp_path: Path) -> Iterator[Path]:
    gymnasium.register("Lamp-v0", Lamp, max_episode_steps=9)
    gymnasium.register("Endless-v0", Lamp)
    path = tmp_path / "lamp.yaml"
    path.write_text(LAMP)
    yield path
    del gymnasium.registry["Lamp-v0"], gymnasium.registry["Endless-v0"]


def make(lamp: Path, id: str = "Lamp-v0", **more: Any) -> Any:
    return make_gymnasium(id, str(lamp), **{**WIRING, **more})


def test_it_keeps_the_contract(lamp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check_environment(lambda: make(lamp))
    assert capsys.readouterr().out == ""


def test_state_images_and_facts_come_from_where_the_wiring_says(lamp: Path) -> None:
    env = make(lamp, facts={"light": "light"})
    observation, info = env.reset(4)
    inner = env._env.unwrapped
    np.testing.assert_allclose(observation[STATE], inner.joints, rtol=1e-6)
    assert (observation[image_key("top")] == inner._buffer).all()
    assert (observation[image_key("view")] == inner.render()).all()
    assert (observation[TASK], info.instruction, info.alternatives) == ("light the page",) * 2 + ((),)
    assert (env.spec.rate, env.spec.max_steps, env.spec.goal) == (20, 9, "the environment's own 'lit'")
    assert env.spec.action_range == tuple(zip(inner.action_space.low, inner.action_space.high, strict=True))
    _, outcome = env.step([1.0, 0.95])
    assert (outcome.success, outcome.label, outcome.facts) == (True, "success", {"light": pytest.approx(0.95)})
    assert env.render().shape == (6, 8, 3), "sides are made even"


def test_actions_pass_without_scaling_and_clipping(lamp: Path) -> None:
    env = make(lamp)
    env.reset(0)
    env.step([1.5, -1.25])
    (seen,) = env._env.unwrapped.seen
    assert seen.tolist() == [1.5, -1.25]
    assert seen.dtype == np.float32


def test_an_end_without_success_and_the_limit_of_steps_have_labels_of_their_own(lamp: Path) -> None:
    env = make(lamp)
    env.reset(0)
    _, outcome = env.step([1.95, 0.0])
    assert (outcome.success, outcome.label) == (False, "failed")
    for id, limit in (("Lamp-v0", 3), ("Endless-v0", 4)):
        env = make(lamp, id, max_steps=limit)
        env.reset(0)
        outcomes = [env.step([0.0, 0.0])[1] for _ in range(limit)]
        assert outcomes[:-1] == [None] * (limit - 1)
        assert outcomes[-1].label == "timeout"


def test_success_by_reward_and_the_best_of_an_episode(lamp: Path) -> None:
    env = make(lamp, success=None, success_reward=0.5)
    env.reset(0)
    assert env.step([0.4, 1.0])[1] is None
    assert env.step([0.6, 1.0])[1].success
    assert env.spec.goal == "a reward of at least 0.5"
    profile = RobotProfile.load(lamp)
    spec = EnvironmentSpec("lamp", profile, 20, "lit", 3, ("read",))
    inner = Lamp()
    best = GymnasiumEnvironment(inner, spec, Wiring(**WIRING, peaks={"most": "light"}, facts={"last": "light"}))
    for _ in range(2):
        best.reset(0)
        outcomes = [best.step(action)[1] for action in ([0.0, 0.0], [0.75, 0.75], [0.5, 0.5])]
        assert outcomes[-1] is not None
        assert outcomes[-1].facts == {"most": 0.75, "last": 0.5}
    best.close()
    best.close()
    assert inner.closed == 1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"state": "body.joint"}, r"has no 'body.joint'\.\nExpected: one of joints\nFix: Did you mean 'joints'"),
        ({"state": "body"}, r"The state of Lamp-v0 is a mapping\.\nFix: choose one of its keys: body\.joints"),
        ({"state": "eyes.top"}, r"The state of Lamp-v0 has shape \(6, 8, 3\)\.\nExpected: \(2,\)"),
        ({"state": "body.joints.x"}, r"has no 'body.joints.x'\.\nExpected: no key"),
        ({"images": {"top": RENDER, "view": RENDER}}, r"Camera 'top' of Lamp-v0 gives uint8 \(5, 7, 3\)\.\nExpected: "
                                                       r"uint8 \(6, 8, 3\)"),
        ({"images": {"top": "body.joints", "view": RENDER}}, "Camera 'top' of Lamp-v0 gives float64"),
        ({"images": {"top": "eyes.top"}}, "Camera 'view' of the profile 'lamp' has no image"),
        ({"images": {**WIRING["images"], "tpo": "x"}}, r"has no camera 'tpo'\.\nFix: Did you mean 'top'"),
        ({"success": None}, "How success in Lamp-v0 is known is said nowhere"),
        ({"success_reward": 1.0}, "How success in Lamp-v0 is known is said twice"),
        ({"id": "Lamb-v0"}, r"gymnasium cannot make 'Lamb-v0': NameNotFound: .*Did you mean: `Lamp`"),
        ({"id": "no_such_module:Lamp-v0"}, "gymnasium cannot make 'no_such_module:Lamp-v0': ModuleNotFoundError"),
        ({"options": {"bulb": 3}}, r"gymnasium cannot make 'Lamp-v0': ValueError: unknown option bulb\\x1b"),
        ({"id": "Endless-v0"}, "Endless-v0 has no limit of steps"),
        ({"robot": "pusht"}, "Camera 'image' of the profile 'pusht' has no image"),
        ({"robot": "so101", "instruction": "go"}, r"The action of Lamp-v0 is Box.*\nExpected: a Box of shape \(6,\)"),
        ({"max_steps": 0}, "max_steps is 0"),
        ({"rate": 0.0}, "rate is 0.0"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_error(lamp: Path, settings: dict[str, Any], words: str) -> None:
    wanted = {"id": "Lamp-v0", "robot": str(lamp), **WIRING, **settings}
    with pytest.raises(UsageError, match=words):
        make_gymnasium(**wanted).reset(0)


def test_other_errors_name_what_is_missing(lamp: Path) -> None:
    with pytest.raises(UsageError, match=r"The action of CartPole-v1 is Discrete\(2\)"):
        make(lamp, "CartPole-v1")
    with pytest.raises(ProfileError, match="no robot profile 'lampp'"):
        make_gymnasium("Lamp-v0", "lampp", success="lit")
    lamp.write_text(LAMP.replace("default_instruction: light the page", ""))
    with pytest.raises(UsageError, match="'lamp' has no default instruction"):
        make(lamp)
    assert make(lamp, instruction="read").spec.instructions == ("read",)


def test_an_info_without_the_key_of_success_is_an_error_not_a_failure(lamp: Path) -> None:
    env = make(lamp, options={"tells": False})
    env.reset(0)
    for _ in range(8):
        assert env.step([0.0, 0.0])[1] is None
    with pytest.raises(UsageError, match=r"The info of Lamp-v0 has no 'lit'\.\nExpected: one of light"):
        env.step([0.0, 0.0])


def test_a_step_needs_an_episode(lamp: Path) -> None:
    with pytest.raises(UsageError, match="no episode yet"):
        make(lamp).step([0.0, 0.0])
