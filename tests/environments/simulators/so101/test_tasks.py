"""The scenes of a seed, the instructions they allow, and when one of them is done."""

from __future__ import annotations

import math

import numpy as np
import pytest

from smolpilot.environments.simulators.so101.table import BIN_HEIGHT_M, COLORS, SHAPES, Thing
from smolpilot.environments.simulators.so101.tasks import (
    EVERY_COLOR,
    EVERY_SHAPE,
    GOALS,
    TASKS,
    Goal,
    Judge,
    Scene,
    draw,
    every_instruction,
    goals_of,
)

RED, BLUE = Thing("red", "cube", 0.2, 0.0, 0.0), Thing("blue", "brick", 0.27, 0.005, 0.0)
HALF = SHAPES["cube"].half_height


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("count", [2, 3, 4])
def test_things_of_a_scene_differ_and_lie_apart_within_reach(task: str, count: int) -> None:
    for seed in range(15):
        scene = draw(np.random.default_rng(seed), (task,), EVERY_COLOR, EVERY_SHAPE, count)
        names = [thing.name for thing in scene.things]
        assert len(set(names)) == count
        assert (scene.bin_at is not None) == (task == "place_in")
        for place, one in enumerate(scene.things):
            assert 0.09 < math.hypot(one.x, one.y) < 0.33
            if scene.bin_at is not None:
                assert math.dist((one.x, one.y), scene.bin_at) > 0.1
            for other in scene.things[:place]:
                assert math.dist((one.x, one.y), (other.x, other.y)) > 0.06
        texts = [goal.text for goal in scene.goals]
        assert len(set(texts)) == len(texts) >= 2
        assert set(texts) <= set(every_instruction((task,), EVERY_COLOR, EVERY_SHAPE))
        assert scene.goals[0].thing == 0


def test_a_seed_gives_one_scene_and_another_seed_another() -> None:
    scenes = [draw(np.random.default_rng(seed), TASKS, EVERY_COLOR, EVERY_SHAPE, 3) for seed in (1, 1, 2)]
    assert scenes[0] == scenes[1]
    assert scenes[0] != scenes[2]


def test_nothing_is_to_the_left_or_right_before_it_is_pushed() -> None:
    for seed in range(40):
        scene = draw(np.random.default_rng(seed), ("push",), EVERY_COLOR, EVERY_SHAPE, 3)
        assert abs(scene.things[0].y - scene.things[1].y) < 0.02
        assert {goal.side for goal in scene.goals} == {-1, 1}


def test_the_instructions_of_settings() -> None:
    assert every_instruction(("touch",), ("red", "blue"), ("cube",)) == ["touch the red cube", "touch the blue cube"]
    assert every_instruction(("stack",), ("red", "blue"), ("cube", "ball")) == [
        "stack the red cube on the blue cube", "stack the blue cube on the red cube",
    ]  # fmt: skip
    pushes = every_instruction(("push",), ("red", "blue"), ("cube",))
    assert "push the red cube to the left of the blue cube" in pushes
    assert len(pushes) == 4
    assert set(GOALS) == set(TASKS)
    assert len(every_instruction(("pick_up",), tuple(COLORS), tuple(SHAPES))) == 24


def judged(task: str, side: int = 1, bin_at: tuple[float, float] | None = None) -> tuple[Judge, Goal]:
    goals = goals_of(task, [RED, BLUE], side)
    starts = np.array([[RED.x, RED.y, HALF], [BLUE.x, BLUE.y, HALF]])
    return Judge(Scene([RED, BLUE], bin_at, goals), starts), goals[0]


def seen(
    judge: Judge, steps: int, red: tuple[float, float, float], *pairs: tuple[str, str], blue_y: float = 0.0
) -> None:
    for _ in range(steps):
        judge.look(np.array([red, (BLUE.x, blue_y + BLUE.y, HALF)]), set(pairs))


ON_TABLE = ("table", "thing0")
JAWS = (("jaw", "thing0"), ("finger", "thing0"))


def test_touching_takes_three_steps_and_either_jaw() -> None:
    judge, goal = judged("touch")
    seen(judge, 2, (0.2, 0, HALF), ON_TABLE, ("finger", "thing0"))
    assert judge.label(goal) == "touched"
    assert judge.reached == []
    seen(judge, 1, (0.2, 0, HALF), ON_TABLE, ("jaw", "thing0"))
    assert judge.reached == [goal.text]
    other, goal = judged("touch")
    seen(other, 3, (0.2, 0, HALF), ("jaw", "thing1"))
    assert other.reached == ["touch the blue brick"]
    assert other.label(goal) == "other"


@pytest.mark.parametrize(
    ("height", "pairs", "done"),
    [
        (0.051, JAWS, True),
        (0.049, JAWS, False),
        (0.06, JAWS[:1], False),
        (0.06, (*JAWS, ("thing0", "thing1")), False),
        (0.06, (*JAWS, ON_TABLE), False),
    ],
)
def test_picked_up_is_what_only_the_jaws_hold(height: float, pairs: tuple[tuple[str, str], ...], done: bool) -> None:
    judge, goal = judged("pick_up")
    seen(judge, 15, (0.2, 0, HALF + height), *pairs)
    assert (goal.text in judge.reached) == done


def test_half_a_second_without_a_break() -> None:
    judge, goal = judged("pick_up")
    seen(judge, 14, (0.2, 0, HALF + 0.06), *JAWS)
    seen(judge, 1, (0.2, 0, HALF + 0.06))
    seen(judge, 14, (0.2, 0, HALF + 0.06), *JAWS)
    assert judge.reached == []
    seen(judge, 1, (0.2, 0, HALF + 0.06), *JAWS)
    assert judge.reached == [goal.text]


@pytest.mark.parametrize(
    ("at", "pairs", "done"),
    [
        ((0.15, 0.1, HALF + 0.003), (), True),
        ((0.15, 0.1, HALF + 0.003), JAWS[:1], False),
        ((0.15, 0.149, HALF + 0.003), (), False),
        ((0.15, 0.1, BIN_HEIGHT_M + HALF + 0.002), (), False),
    ],
)
def test_in_the_bin(at: tuple[float, float, float], pairs: tuple[tuple[str, str], ...], done: bool) -> None:
    judge, goal = judged("place_in", bin_at=(0.15, 0.1))
    seen(judge, 16, at, *pairs)
    assert (goal.text in judge.reached) == done


def test_what_still_moves_is_not_placed() -> None:
    judge, _ = judged("place_in", bin_at=(0.15, 0.1))
    for step in range(30):
        seen(judge, 1, (0.15 + 0.002 * (step % 2), 0.1, HALF + 0.003))
    assert judge.reached == []


@pytest.mark.parametrize(("aside", "height", "done"), [(0.0, 0.0, True), (0.02, 0.0, False), (0.0, 0.01, False)])
def test_stacked(aside: float, height: float, done: bool) -> None:
    judge, goal = judged("stack")
    seen(judge, 16, (BLUE.x + aside, BLUE.y, HALF + 2 * HALF + height))
    assert (goal.text in judge.reached) == done


@pytest.mark.parametrize(("side", "y", "moved", "done"), [
    (1, 0.04, 0.0, True), (-1, -0.04, 0.0, True), (1, -0.04, 0.0, False), (1, 0.02, 0.0, False),
    (1, 0.09, 0.035, False),
])  # fmt: skip
def test_pushed_to_the_side_that_was_said(side: int, y: float, moved: float, done: bool) -> None:
    """Left is where y grows, as the arm sees it; the other thing stays about where it was."""
    judge, goal = judged("push", side)
    seen(judge, 12, (0.2, BLUE.y + y, HALF), ON_TABLE, blue_y=moved)
    assert (goal.text in judge.reached) == done
