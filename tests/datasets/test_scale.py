"""Cost grows as the recording does: four times the episodes, at most five times the operations, function by function.

Counted, not timed: calls and turns of loops of every function of smolpilot, and the sizes of what it hands to the
parts of Python and numpy that go through a whole collection. A search in a list inside a loop shows in its function,
however little it weighs beside the rest.
"""

from __future__ import annotations

import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType
from typing import Any

import numpy as np
import pytest

from smolpilot.cli.main import main
from smolpilot.datasets import DatasetWriter, open_dataset
from smolpilot.datasets.convert import convert
from smolpilot.datasets.rewrite import RewriteOptions

SMALL, LARGE = 8, 32
FRAMES = 3
GROWTH = 5
# Work that begins with the larger recording: a few turns for each episode.
ROOM = 15 * LARGE
ROOM_BYTES = 1_000_000
_PACKAGE = "smolpilot"
_TOOL = 4
_WHOLE = {"set", "frozenset", "list", "tuple", "sorted", "min", "max", "sum", "any", "all", "dict"}
_SEARCH = {"count", "index", "remove", "copy"}
_ARRAY = {
    "nonzero",
    "argsort",
    "sort",
    "cumsum",
    "any",
    "all",
    "sum",
    "min",
    "max",
    "mean",
    "argmin",
    "argmax",
    "reduce",
}


class Operations:
    """Counts by function while it watches: calls and loop turns, and what is gone through in one go."""

    def __init__(self) -> None:
        self.counts: Counter[CodeType] = Counter()
        self._own: dict[CodeType, bool] = {}

    @contextmanager
    def watched(self) -> Iterator[None]:
        events = sys.monitoring.events
        sys.monitoring.use_tool_id(_TOOL, "test_scale")
        try:
            sys.monitoring.register_callback(_TOOL, events.PY_START, self._turn)
            sys.monitoring.register_callback(_TOOL, events.JUMP, self._turn)
            sys.monitoring.register_callback(_TOOL, events.CALL, self._call)
            sys.monitoring.set_events(_TOOL, events.PY_START | events.JUMP | events.CALL)
            yield
        finally:
            sys.monitoring.set_events(_TOOL, 0)
            sys.monitoring.free_tool_id(_TOOL)

    def by_name(self) -> dict[str, int]:
        return {
            f"{Path(code.co_filename).name}:{code.co_qualname}:{code.co_firstlineno}": number
            for code, number in self.counts.items()
        }

    def _turn(self, code: CodeType, *_: Any) -> Any:
        if not self._is_own(code):
            # Never asked for again, here; the next counting begins anew.
            return sys.monitoring.DISABLE
        self.counts[code] += 1
        return None

    def _call(self, code: CodeType, _: int, called: Any, first: Any) -> Any:
        if not self._is_own(code):
            return sys.monitoring.DISABLE
        name = getattr(called, "__name__", "")
        if isinstance(first, np.ndarray):
            if name in _ARRAY or name in ("flatnonzero", "unique", "isin", "argwhere"):
                self.counts[code] += first.size
        elif (name in _WHOLE and hasattr(first, "__len__")) or (name in _SEARCH and isinstance(first, list)):
            self.counts[code] += len(first)
        return None

    def _is_own(self, code: CodeType) -> bool:
        if code not in self._own:
            self._own[code] = f"/{_PACKAGE}/" in code.co_filename
        return self._own[code]


def write(root: Path, episodes: int) -> Path:
    """A v3.0 folder of tiny episodes, with a text for every four of them."""
    rng = np.random.default_rng(0)
    with DatasetWriter(
        root, fps=10, state_names=["a", "b"], action_names=["a", "b"], cameras={"top": (32, 32)}, robot_type="toy"
    ) as writer:
        for episode in range(episodes):
            start = rng.uniform(-1, 1, 2)
            picture = np.full((32, 32, 3), 40 + episode % 150, dtype=np.uint8)
            for frame in range(FRAMES):
                state = (start + 0.1 * frame * (1 + start)).astype(np.float32)
                picture[4 * frame : 4 * frame + 4] = 250
                writer.add_frame(
                    {
                        "observation.state": state,
                        "action": state + np.float32(0.1),
                        "observation.images.top": picture.copy(),
                        "task": f"put object {episode // 4} away",
                    }
                )
            writer.end_episode()
    return root


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """By number of episodes: a folder with `v30`, `copy` and `v21`."""
    found = {}
    for episodes in (SMALL, LARGE):
        root = found[episodes] = tmp_path_factory.mktemp(f"scale{episodes}")
        write(root / "v30", episodes)
        convert(root / "v30", root / "v21", RewriteOptions(version="v2.1"))
        convert(root / "v21", root / "copy")
    return found


def even(episodes: int) -> str:
    return ",".join(str(index) for index in range(0, episodes, 2))


def cli(*words: Any) -> None:
    # 1 where a verb has something to say of made-up demonstrations.
    assert main(["dataset", *map(str, words)]) in ((0, 1) if words[0] in ("check", "stats", "repair") else (0,))


VERBS: dict[str, Callable[[Path, Path, int], None]] = {
    "open_dataset": lambda root, out, n: open_dataset(root / "v30", episodes=range(n)).batch_numbers(range(n)),
    "info": lambda root, out, n: cli("info", root / "v30"),
    "check": lambda root, out, n: cli("check", root / "v30"),
    "stats": lambda root, out, n: cli("stats", root / "v30", "--recompute", "--json"),
    "compare": lambda root, out, n: cli("compare", root / "v30", root / "v21"),
    "convert to v2.1": lambda root, out, n: cli("convert", root / "v30", out, "--to", "v2.1"),
    "convert to v3.0": lambda root, out, n: cli("convert", root / "v21", out),
    "exclude": lambda root, out, n: cli("exclude", root / "v30", out, "--episodes", even(n)),
    "merge": lambda root, out, n: cli("merge", out, root / "v30", root / "copy"),
    "split by share": lambda root, out, n: cli("split", root / "v30", out, "--parts", "a=0.5", "b=0.5"),
    "split by list": lambda root, out, n: cli("split", root / "v21", out, "--parts", f"a={even(n)}", "b=rest"),
    "tasks": lambda root, out, n: cli("tasks", root / "v30"),
    "tasks --set": lambda root, out, n: cli(
        "tasks", root / "v21", out, "--set", *(f"{i}=new text {i}" for i in range(0, n, 2))
    ),
    "repair": lambda root, out, n: cli("repair", root / "v30", out),
    "view": lambda root, out, n: cli("view", root / "v30", "--out", out),
}


@pytest.mark.parametrize("verb", VERBS)
def test_four_times_the_episodes_take_at_most_five_times_the_operations(
    verb: str, recordings: dict[int, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, after = (
        count(verb, recordings[episodes], tmp_path / f"out{episodes}", episodes) for episodes in (SMALL, LARGE)
    )
    faster = {
        name: (before.get(name, 0), number)
        for name, number in after.items()
        if number > GROWTH * before.get(name, 0) + ROOM
    }
    assert faster == {}
    assert LARGE < sum(after.values()) <= GROWTH * sum(before.values())


def count(verb: str, root: Path, out: Path, episodes: int) -> dict[str, int]:
    operations = Operations()
    with operations.watched():
        VERBS[verb](root, out, episodes)
    return operations.by_name()


@pytest.mark.parametrize("verb", ["check", "exclude"])
def test_memory_grows_as_the_recording_does(
    verb: str, recordings: dict[int, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    peak: dict[int, int] = {}
    for episodes in (SMALL, LARGE):
        tracemalloc.start(1)
        try:
            VERBS[verb](recordings[episodes], tmp_path / f"out{episodes}", episodes)
            peak[episodes] = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak[LARGE] <= GROWTH * peak[SMALL] + ROOM_BYTES


def test_a_search_in_a_list_inside_a_loop_is_seen() -> None:
    """The counting itself: what it is there for makes it exceed its bounds."""

    def search(numbers: list[int]) -> int:
        return sum(numbers.count(number) for number in numbers)

    def counted(length: int) -> int:
        operations = Operations()
        operations._own = dict.fromkeys((search.__code__, *_inner(search.__code__)), True)
        with operations.watched():
            search(list(range(length)))
        return sum(operations.counts.values())

    assert counted(LARGE) > GROWTH * counted(SMALL) + ROOM


def _inner(code: CodeType) -> list[CodeType]:
    return [constant for constant in code.co_consts if isinstance(constant, CodeType)]
