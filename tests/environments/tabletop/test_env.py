"""The gymnasium environment inside: what it shows, what ends an episode, who succeeds."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from gymnasium.utils.env_checker import check_env

from smolpilot.common.errors import UsageError
from smolpilot.common.keys import STATE, TASK
from smolpilot.environments.tabletop import ScriptedExpert, TabletopEnv
from smolpilot.environments.tabletop.env import TIME_LIMIT, Frame
from smolpilot.environments.tabletop.scene import BLOCK_SIDE


class _Blind(TabletopEnv):
    """Without pictures, for tests of many episodes."""

    def image(self, camera: str, size: int) -> npt.NDArray[Any]:
        return np.zeros((size, size, 3), dtype=np.uint8)


def _run(
    env: TabletopEnv, act: Callable[[Frame], npt.NDArray[Any]], seed: int, **options: object
) -> tuple[dict[str, Any], int, float]:
    frame, info = env.reset(seed=seed, options=options)
    for steps in range(1, TIME_LIMIT + 1):
        frame, reward, terminated, truncated, info = env.step(act(frame))
        if terminated or truncated:
            return info, steps, reward
    raise AssertionError("the episode did not end")


def test_gymnasium_accepts_it() -> None:
    with warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("always")
        check_env(TabletopEnv(), skip_render_check=True)
    texts = [str(remark.message) for remark in remarks]
    # Actions are in rad on purpose.
    assert [text for text in texts if "symmetric and normalized" not in text] == []


def test_a_frame_has_lerobots_keys() -> None:
    env = TabletopEnv()
    frame, info = env.reset(seed=1, options={"target": "red", "colors": ["blue", "red"]})
    assert frame[TASK] == "touch the red block"
    assert frame[STATE].dtype == np.float32
    assert frame[STATE].shape == (3,)
    for camera in ("top", "side"):
        assert frame[f"observation.images.{camera}"].shape == (64, 64, 3)
        assert frame[f"observation.images.{camera}"].dtype == np.uint8
    assert info["colors"] == ["blue", "red"]
    assert info["instructions"] == ["touch the blue block", "touch the red block"]
    assert (info["success"], info["reached"], info["target"]) == (False, None, "red")


def test_a_seed_fixes_the_episode() -> None:
    def frames(seed: int) -> list[Frame]:
        env, expert = TabletopEnv(), ScriptedExpert()
        seen = [env.reset(seed=seed)[0]]
        seen += [env.step(expert.action(env))[0] for _ in range(5)]
        return seen

    first, again, other = frames(4), frames(4), frames(5)
    for a, b in zip(first, again, strict=True):
        assert all(np.array_equal(a[key], b[key]) for key in a)
    assert not np.array_equal(first[0][STATE], other[0][STATE])
    assert not np.array_equal(first[0]["observation.images.top"], other[0]["observation.images.top"])


def test_scenes_vary_and_blocks_stand_apart() -> None:
    env = _Blind(colors=["red", "green", "blue", "yellow"])
    targets, colors, places = set(), set(), []
    for seed in range(200):
        _, info = env.reset(seed=seed)
        a, b = env.blocks
        assert np.hypot(a.x - b.x, a.y - b.y) > BLOCK_SIDE * np.sqrt(2)
        assert min(block.distance(env.tip) for block in env.blocks) > 0.05
        targets.add(info["target"])
        colors.add(frozenset(info["colors"]))
        places.append((a.x, a.y))
    assert targets == {"red", "green", "blue", "yellow"}
    assert len(colors) == 6
    assert (np.std(places, axis=0) > 0.03).all()


def test_scenes_hold_a_red_and_a_blue_block_unless_told_otherwise() -> None:
    env = _Blind()
    infos = [env.reset(seed=seed)[1] for seed in range(50)]
    assert {frozenset(info["colors"]) for info in infos} == {frozenset(["red", "blue"])}
    assert {info["target"] for info in infos} == {"red", "blue"}
    assert {info["colors"][0] for info in infos} == {"red", "blue"}, "no color is always the first"


def test_the_expert_touches_the_named_block() -> None:
    env, expert = _Blind(), ScriptedExpert()
    results = [_run(env, lambda _: expert.action(env), seed) for seed in range(100)]
    assert all(info["success"] and info["reached"] == info["target"] and reward == 1.0 for info, _, reward in results)
    lengths = [steps for _, steps, _ in results]
    assert 18 <= np.mean(lengths) <= 30
    assert max(lengths) < TIME_LIMIT


def test_touching_another_block_ends_the_episode_without_success() -> None:
    env = _Blind()
    for seed in range(40):
        _, info = env.reset(seed=seed)
        other = next(color for color in info["colors"] if color != info["target"])
        expert = ScriptedExpert(other)
        info, steps, reward = _run(env, lambda _, expert=expert: expert.action(env), seed)  # type: ignore[misc]
        assert info["reached"] == other
        assert not info["success"]
        assert reward == 0.0
        assert steps < TIME_LIMIT


def test_doing_nothing_or_anything_seldom_succeeds() -> None:
    env = _Blind()
    rng = np.random.default_rng(0)
    space: Any = env.action_space
    low, high = space.low, space.high
    still = [_run(env, lambda frame: frame[STATE], seed)[0] for seed in range(30)]
    assert not any(info["reached"] for info in still)
    wild = [_run(env, lambda _: rng.uniform(low, high), seed)[0]["success"] for seed in range(60)]
    assert np.mean(wild) <= 0.2


def test_the_arm_can_be_pushed_off_and_the_expert_recovers() -> None:
    env, expert = _Blind(), ScriptedExpert()
    for seed in range(20):
        env.reset(seed=seed)
        for _ in range(8):
            env.step(expert.action(env) + np.array([0.3, 0.2, 0.0]))
        for _ in range(TIME_LIMIT):
            _, _, terminated, _, info = env.step(expert.action(env))
            if terminated:
                break
        assert info["reached"] is not None


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"target": "rde"}, "Did you mean 'red'"),
        ({"color": ["red"]}, "Did you mean 'colors'"),
        ({"colors": ["red", "pink"]}, "no pink block"),
        ({"colors": ["red", "red"]}, "different colors"),
        ({"colors": ["red", "blue"], "target": "green"}, "not among the blocks"),
    ],
)
def test_wrong_options(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        TabletopEnv().reset(seed=0, options=options)


def test_wrong_actions() -> None:
    env = TabletopEnv()
    with pytest.raises(UsageError, match="reset"):
        env.step([0.0, 1.0, -1.0])
    env.reset(seed=0)
    with pytest.raises(UsageError, match="shape"):
        env.step([0.0, 1.0])
    with pytest.raises(UsageError, match="not finite"):
        env.step([0.0, np.nan, 0.0])
    with pytest.raises(UsageError, match="Did you mean 'top'"):
        env.image("topp", 64)
