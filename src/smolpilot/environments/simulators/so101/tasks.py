"""What is to be done: scenes by seed, the instructions that each of them allows, and when one is done."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .table import BIN_HEIGHT_M, BIN_M, COLORS, RATE, SHAPES, SLOTS, Shape, Thing

TASKS = ("touch", "pick_up", "place_in", "stack", "push")
MAX_STEPS = {"touch": 150, "pick_up": 300, "place_in": 450, "stack": 450, "push": 450}
GOALS = {
    "touch": "a jaw touches it for a tenth of a second",
    "pick_up": "both jaws hold it 5 cm above the table for half a second, nothing else touches it",
    "place_in": "it lies in the bin for half a second, and no jaw touches it",
    "stack": "it stands on the other for half a second, and no jaw touches it",
    "push": "it rests on the table 3 cm to that side of the other, which was not moved by more than 3 cm",
}
LABELS = {
    "none": "nothing touched",
    "other": "another task done",
    "wrong": "something else touched",
    "touched": "touched only",
}  # fmt: skip
# Where a gripper that points down gets to: distance from the pan axis, and angle.
PAN_AXIS_X = 0.0388
_NEAR, _FAR, _ANGLE = 0.155, 0.245, math.radians(50)
_APART, _BIN_APART = 0.068, 0.108  # between centers, m: the jaws need room
_LIFT, _ASIDE, _UNMOVED, _AT_REST, _ON_TABLE = 0.05, 0.03, 0.03, 0.02, 0.025
_DWELL = {"touch": 3, "pick_up": 15, "place_in": 15, "stack": 15, "push": 10}
_TRIES = 2_000
_OF_TWO = ("stack", "push")


@dataclass(frozen=True)
class Goal:
    """One instruction of a scene. thing, other: slots; side: +1 for left, as the arm sees it, -1 for right."""

    task: str
    thing: int
    text: str
    other: int | None = None
    side: int = 0


@dataclass(frozen=True)
class Scene:
    """What a seed gives: the things, where the bin is if there is one, and the goals; the first is the seed's own."""

    things: list[Thing]
    bin_at: tuple[float, float] | None
    goals: list[Goal]


def draw(
    rng: np.random.Generator, tasks: Sequence[str], colors: Sequence[str], shapes: Sequence[str], count: int
) -> Scene:
    """A scene for one of the tasks."""
    task = str(rng.choice(list(tasks)))
    for _ in range(_TRIES):
        found = _attempt(rng, task, colors, shapes, count)
        if found is not None:
            return found
    raise ValueError(f"No scene with {count} things was found.", "fewer of them", "set things=2")


def _attempt(
    rng: np.random.Generator, task: str, colors: Sequence[str], shapes: Sequence[str], count: int
) -> Scene | None:
    names = _names(rng, task, colors, shapes, count)
    bin_at = _place(rng, math.radians(65)) if task == "place_in" else None
    places = _places(rng, count, bin_at, aligned=task == "push")
    if places is None:
        return None
    things = [
        Thing(color, shape, *place, float(rng.uniform(-math.pi, math.pi)))
        for (color, shape), place in zip(names, places, strict=True)
    ]
    goals = goals_of(task, things, int(rng.choice((-1, 1))))
    return Scene(things, bin_at, goals)


def _names(
    rng: np.random.Generator, task: str, colors: Sequence[str], shapes: Sequence[str], count: int
) -> list[tuple[str, str]]:
    """All different: color and shape together tell which is meant."""
    every = [(color, shape) for color in colors for shape in usable_shapes(task, shapes)]
    return [every[place] for place in rng.choice(len(every), count, replace=False)]


def _place(rng: np.random.Generator, angle: float = _ANGLE) -> tuple[float, float]:
    """Somewhere within reach."""
    far, turn = rng.uniform(_NEAR, _FAR), rng.uniform(-angle, angle)
    return float(PAN_AXIS_X + far * math.cos(turn)), float(far * math.sin(turn))


def _places(
    rng: np.random.Generator, count: int, bin_at: tuple[float, float] | None, *, aligned: bool
) -> list[tuple[float, float]] | None:
    """So many within reach and apart; aligned: the second one right behind the first, neither left nor right of it."""
    found: list[tuple[float, float]] = []
    if aligned:
        x, y = float(rng.uniform(0.20, 0.235)), float(rng.uniform(-0.05, 0.05))
        found = [(x, y), (x + float(rng.uniform(0.062, 0.075)), y + float(rng.uniform(-0.012, 0.012)))]
    for _ in range(200):
        if len(found) == count:
            return found
        place = _place(rng)
        if aligned:  # where nothing is pushed to
            place = float(rng.uniform(0.10, 0.14)), float(rng.choice((-1, 1)) * rng.uniform(0.15, 0.22))
        if bin_at is not None and math.dist(place, bin_at) < _BIN_APART:
            continue
        if all(math.dist(place, other) >= _APART for other in found):
            found.append(place)
    return None


def goals_of(task: str, things: Sequence[Thing], side: int) -> list[Goal]:
    """The instructions that the things allow; the first one is of the first thing."""
    if task == "stack":
        return [Goal(task, a, f"stack the {things[a].name} on the {things[b].name}", b) for a, b in ((0, 1), (1, 0))]
    if task == "push":
        return [
            Goal(task, 0, f"push the {things[0].name} to the {word} of the {things[1].name}", 1, way)
            for way, word in ((side, _side(side)), (-side, _side(-side)))
        ]
    words = {"touch": "touch the {}", "pick_up": "pick up the {}", "place_in": "put the {} in the bin"}[task]
    return [Goal(task, slot, words.format(thing.name)) for slot, thing in enumerate(things)]


def every_instruction(tasks: Sequence[str], colors: Sequence[str], shapes: Sequence[str]) -> list[str]:
    """All that scenes of these tasks, colors and shapes may ask for."""
    found: dict[str, None] = {}
    for task in tasks:
        names = [Thing(color, shape, 0, 0, 0) for color in colors for shape in usable_shapes(task, shapes)]
        for one in names:
            others = [other for other in names if other != one] if task in _OF_TWO else names[:1]
            for other in others:
                found |= dict.fromkeys(goal.text for goal in goals_of(task, [one, other], 1)[: 1 + (task == "push")])
    return list(found)


def usable_shapes(task: str, shapes: Sequence[str]) -> list[str]:
    """Those with which the task can be done: a ball is neither stacked nor pushed."""
    return [shape for shape in shapes if SHAPES[shape].flat] if task in _OF_TWO else list(shapes)


def _side(side: int) -> str:
    return "left" if side > 0 else "right"


class Judge:
    """Sees after each step which goals hold, and for how long they have."""

    def __init__(self, scene: Scene, starts: Any) -> None:
        """starts: positions of the things [n, 3] at the beginning."""
        self._scene, self._starts = scene, starts
        self._held = [0] * len(scene.goals)
        self._before = starts
        self.reached: list[str] = []
        self.touched: set[int] = set()

    def look(self, positions: Any, touching: set[tuple[str, str]]) -> None:
        """positions [n, 3], and the pairs of names that touch, each in the order of the alphabet."""
        # By the way that was made: a cylinder that lies still has contacts and speed in one step, none in the next.
        speeds, self._before = np.linalg.norm(positions - self._before, axis=1) * RATE, positions.copy()
        for slot in range(len(self._scene.things)):
            if _meet(touching, "jaw", slot) or _meet(touching, "finger", slot):
                self.touched.add(slot)
        for place, goal in enumerate(self._scene.goals):
            holds = self._holds(goal, positions, speeds, touching)
            self._held[place] = self._held[place] + 1 if holds else 0
            if self._held[place] == _DWELL[goal.task] and goal.text not in self.reached:
                self.reached.append(goal.text)

    def label(self, goal: Goal) -> str:
        """What became of an episode that did not do what it was told."""
        if self.reached:
            return "other"
        if goal.thing in self.touched:
            return "touched"
        return "wrong" if self.touched else "none"

    def _holds(self, goal: Goal, positions: Any, speeds: Any, touching: set[tuple[str, str]]) -> bool:
        slot, shape = goal.thing, self._shape(goal.thing)
        where, jaw, finger = positions[slot], _meet(touching, "jaw", slot), _meet(touching, "finger", slot)
        if goal.task == "touch":
            return jaw or finger
        if goal.task == "pick_up":
            high = where[2] >= shape.half_height + _LIFT
            return bool(high and jaw and finger and not any(_meet(touching, one, slot) for one in self._supports(slot)))
        if speeds[slot] > _AT_REST:
            return False
        if goal.task == "push":
            assert goal.other is not None
            aside = goal.side * (where[1] - positions[goal.other][1]) >= _ASIDE
            unmoved = float(np.linalg.norm((positions[goal.other] - self._starts[goal.other])[:2])) <= _UNMOVED
            return bool(aside and unmoved and where[2] < _ON_TABLE)
        if jaw or finger:
            return False
        if goal.task == "place_in":
            assert self._scene.bin_at is not None
            inside = np.abs(where[:2] - np.array(self._scene.bin_at)).max() <= BIN_M
            return bool(inside and where[2] <= BIN_HEIGHT_M + shape.half_height)
        assert goal.other is not None
        below = positions[goal.other]
        step = where[2] - below[2] - shape.half_height - self._shape(goal.other).half_height
        return abs(step) < 0.006 and math.dist(where[:2], below[:2]) < 0.016

    def _supports(self, slot: int) -> list[str]:
        return ["table", "bin", *(f"thing{other}" for other in range(SLOTS) if other != slot)]

    def _shape(self, slot: int) -> Shape:
        return SHAPES[self._scene.things[slot].shape]


def _meet(touching: set[tuple[str, str]], one: str, slot: int) -> bool:
    a, b = sorted((one, f"thing{slot}"))
    return (a, b) in touching


def check_choice(name: str, chosen: Sequence[str], known: Sequence[str]) -> None:
    """ValueError for what is not known, twice, or nothing."""
    for one in chosen:
        if one not in known:
            raise ValueError(
                f"Setting '{name}' of the environment 'so101' has {one!r}.", f"some of {', '.join(known)}", ""
            )
    if not chosen or len(set(chosen)) != len(chosen):
        raise ValueError(
            f"Setting '{name}' of the environment 'so101' is {','.join(chosen)!r}.", "each at most once", ""
        )


EVERY_COLOR, EVERY_SHAPE = tuple(COLORS), tuple(SHAPES)
