"""What is to be done: scenes by seed, the instructions that each of them allows, and when one is done."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .scene import BIN_HEIGHT_M, BIN_M, COLORS, SHAPES, SLOTS, Shape, Thing

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
    "none": "nothing was touched", "other": "another of the scene's tasks was done", "wrong": "something else was touched",
    "touched": "touched, and no more",
}  # fmt: skip
# Where a gripper that points down gets to: distance from the pan axis, and angle.
PAN_AXIS_X = 0.0388
_NEAR, _FAR, _ANGLE = 0.155, 0.245, math.radians(50)
_APART = 0.068
_LIFT, _ASIDE, _UNMOVED, _AT_REST = 0.05, 0.03, 0.03, 0.03
_DWELL = {"touch": 3, "pick_up": 15, "place_in": 15, "stack": 15, "push": 10}
_MOMENT = 6  # steps
_TRIES = 2_000


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
    places = _places(rng, count + (task == "place_in"), aligned=task == "push")
    if places is None:
        return None
    things = [
        Thing(color, shape, *place, float(rng.uniform(-math.pi, math.pi)))
        for (color, shape), place in zip(names, places, strict=False)
    ]
    goals = goals_of(task, things, int(rng.choice((-1, 1))))
    return Scene(things, places[count] if task == "place_in" else None, goals)


def _names(
    rng: np.random.Generator, task: str, colors: Sequence[str], shapes: Sequence[str], count: int
) -> list[tuple[str, str]]:
    """Different ones; of two with the same shape the color tells which is meant, of two with the same color the shape."""
    usable = [shape for shape in shapes if SHAPES[shape].flat] if task in ("stack", "push") else list(shapes)
    every = [(color, shape) for color in colors for shape in usable]
    return [every[place] for place in rng.choice(len(every), count, replace=False)]


def _places(rng: np.random.Generator, count: int, *, aligned: bool) -> list[tuple[float, float]] | None:
    """So many within reach and apart; aligned: the first two one behind the other, neither left nor right."""
    found: list[tuple[float, float]] = []
    if aligned:
        x, y = rng.uniform(0.20, 0.235), rng.uniform(-0.05, 0.05)  # the nearer one is pushed, before the other
        found = [(x, y), (x + rng.uniform(0.062, 0.075), y + rng.uniform(-0.012, 0.012))]
    for _ in range(200):
        if len(found) == count:
            return found
        far, angle = rng.uniform(_NEAR, _FAR), rng.uniform(-_ANGLE, _ANGLE)
        place = PAN_AXIS_X + far * math.cos(angle), far * math.sin(angle)
        if aligned:  # out of the way, on the far side of both
            place = rng.uniform(0.10, 0.14), rng.choice((-1, 1)) * rng.uniform(0.15, 0.22)
        if any(math.dist(place, other) < _APART for other in found):
            continue
        found.append((float(place[0]), float(place[1])))
    return None


def goals_of(task: str, things: Sequence[Thing], side: int) -> list[Goal]:
    """The instructions that the things allow; the first one is of the first thing."""
    if task == "stack":
        pairs = [(a, b) for a in range(len(things)) for b in range(len(things)) if a != b][:2]
        pairs = [(0, 1), (1, 0)] if len(pairs) > 1 else pairs
        return [Goal(task, a, f"stack the {things[a].name} on the {things[b].name}", b) for a, b in pairs]
    if task == "push":
        return [
            Goal(task, 0, f"push the {things[0].name} to the {word} of the {things[1].name}", 1, way)
            for way, word in ((side, _side(side)), (-side, _side(-side)))
        ]
    words = {"touch": "touch the {}", "pick_up": "pick up the {}", "place_in": "put the {} in the bin"}[task]
    return [Goal(task, slot, words.format(thing.name)) for slot, thing in enumerate(things)]


def _side(side: int) -> str:
    return "left" if side > 0 else "right"


class Judge:
    """Sees after each step which goals hold, and for how long they have."""

    def __init__(self, scene: Scene, starts: Any) -> None:
        """starts: positions of the things [n, 3] at the beginning."""
        self._scene, self._starts = scene, starts
        self._held = [0] * len(scene.goals)
        self._step, self._met = 0, dict[tuple[str, str], int]()
        self.reached: list[str] = []
        self.touched: set[int] = set()

    def look(self, positions: Any, speeds: Any, touching: set[tuple[str, str]]) -> None:
        """positions [n, 3], speeds [n] in m/s, and the pairs of names that touch, each in the order of the alphabet."""
        self._step += 1
        self._met.update(dict.fromkeys(touching, self._step))
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
            return bool(aside and unmoved and self._rests_on("table", slot))
        if jaw or finger:
            return False
        if goal.task == "place_in":
            assert self._scene.bin_at is not None
            inside = np.abs(where[:2] - np.array(self._scene.bin_at)).max() <= BIN_M
            return bool(inside and where[2] <= BIN_HEIGHT_M + shape.half_height and self._rests_on("bin", slot))
        assert goal.other is not None
        below = positions[goal.other]
        step = where[2] - below[2] - shape.half_height - self._shape(goal.other).half_height
        upon = abs(step) < 0.006 and math.dist(where[:2], below[:2]) < 0.016
        return upon and self._rests_on(f"thing{goal.other}", slot) and not _meet(touching, "table", slot)

    def _rests_on(self, one: str, slot: int) -> bool:
        """Whether they touched a moment ago: what stands still may lose its contacts for a step."""
        a, b = sorted((one, f"thing{slot}"))
        return self._step - self._met.get((a, b), -_MOMENT) < _MOMENT

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
            raise ValueError(f"Setting '{name}' of the environment 'so101' has {one!r}.", f"some of {', '.join(known)}", "")
    if not chosen or len(set(chosen)) != len(chosen):
        raise ValueError(f"Setting '{name}' of the environment 'so101' is {','.join(chosen)!r}.", "each at most once", "")


EVERY_COLOR, EVERY_SHAPE = tuple(COLORS), tuple(SHAPES)
