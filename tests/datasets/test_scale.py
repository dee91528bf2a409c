"""Cost grows as the recording does: four times the episodes, at most five times the operations, function by function.

Counted, not timed: calls and turns of loops of every function of smolpilot, and the sizes of what it hands to the
parts of Python and numpy that go through a whole collection. A search in a list inside a loop shows in its function,
however little it weighs beside the rest.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import CodeType
from typing import Any

import numpy as np
import pytest

import smolpilot.cli
from smolpilot import datasets
from smolpilot.cli.main import main
from smolpilot.datasets import DatasetWriter, SampleOrder, open_dataset, parse_episodes, split_episodes
from smolpilot.datasets.convert import convert
from smolpilot.datasets.copy import CopyOptions

SMALL, LARGE = 8, 32
FRAMES = 3
GROWTH = 5
# Work that begins with the larger recording: a few turns for each episode.
ROOM = 15 * LARGE
ROOM_BYTES = 1_000_000
_PACKAGE = str(Path(smolpilot.__file__).parent)
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
        # By id: hashing a code object goes through all of its instructions.
        self.counts: Counter[int] = Counter()
        self.own: dict[int, CodeType] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch from here on. What is not ours is asked for once only: so all countings share one watch."""
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
            sys.monitoring.restart_events()
            sys.monitoring.free_tool_id(_TOOL)

    def of(self, work: Callable[[], Any]) -> dict[str, int]:
        """What a piece of work takes, by function."""
        self.counts = Counter()
        work()
        return self.by_name()

    def by_name(self) -> dict[str, int]:
        found = ((self.own[key], number) for key, number in self.counts.items())
        return {
            f"{Path(code.co_filename).name}:{code.co_qualname}:{code.co_firstlineno}": number for code, number in found
        }

    def count(self, *codes: CodeType) -> None:
        """Count these functions, too, though they are not part of the package."""
        self.own |= {id(code): code for code in codes}

    def _turn(self, code: CodeType, *_: Any) -> Any:
        if not self._is_own(code):
            return sys.monitoring.DISABLE
        self.counts[id(code)] += 1
        return None

    def _call(self, code: CodeType, _: int, called: Any, first: Any) -> Any:
        if not self._is_own(code):
            return sys.monitoring.DISABLE
        name = getattr(called, "__name__", "")
        if isinstance(first, np.ndarray):
            if name in _ARRAY or name in ("flatnonzero", "unique", "isin", "argwhere"):
                self.counts[id(code)] += first.size
        elif (name in _WHOLE and hasattr(first, "__len__")) or (name in _SEARCH and isinstance(first, list)):
            self.counts[id(code)] += len(first)
        return None

    def _is_own(self, code: CodeType) -> bool:
        key = id(code)
        if key not in self.own:
            mine = code.co_filename.startswith(_PACKAGE)
            # What is kept alive keeps its id; of others each place is asked for once.
            if not mine:
                return False
            self.own[key] = code
        return True


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
    # Imports would count for the first recording only.
    for package, prefix in ((datasets, "smolpilot.datasets."), (smolpilot.cli, "smolpilot.cli.dataset")):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if module.name.startswith(prefix):
                importlib.import_module(module.name)
    found = {}
    for episodes in (SMALL, LARGE):
        root = found[episodes] = tmp_path_factory.mktemp(f"scale{episodes}")
        write(root / "v30", episodes)
        convert(root / "v30", root / "v21", CopyOptions(version="v2.1"))
        convert(root / "v21", root / "copy")
    # Loads torch, which nobody wants to watch.
    open_dataset(found[SMALL] / "v30").batch_numbers(range(1))
    return found


@pytest.fixture(scope="module")
def operations() -> Iterator[Operations]:
    found = Operations()
    with found.watching():
        yield found


def even(episodes: int) -> str:
    return ",".join(str(index) for index in range(0, episodes, 2))


def cli(*words: Any) -> None:
    # 1 where a verb has something to say of made-up demonstrations.
    assert main(["dataset", *map(str, words)]) in ((0, 1) if words[0] in ("check", "stats", "repair") else (0,))


def library(path: Path, episodes: int) -> None:
    """What training does with a dataset before its first step."""
    half = list(range(0, episodes, 2))
    dataset = open_dataset(path)
    dataset.select(half)
    split_episodes(dataset.meta)
    assert parse_episodes(even(episodes), dataset.meta) == half
    assert len(SampleOrder(dataset, "local").indices(0)) == len(dataset)
    assert dataset.meta.fingerprint
    dataset.batch(slice(0, len(dataset), 5))
    assert len(open_dataset(path, episodes=half)) == FRAMES * len(half)


VERBS: dict[str, Callable[[Path, Path, int], object]] = {
    "open_dataset": lambda root, out, n: open_dataset(root / "v30", episodes=range(n)).batch_numbers(range(n)),
    "select, split, order": lambda root, out, n: library(root / "v30", n),
    "info": lambda root, out, n: cli("info", root / "v30"),
    "check": lambda root, out, n: cli("check", root / "v30"),
    "stats": lambda root, out, n: cli("stats", root / "v30", "--recompute", "--json"),
    "compare": lambda root, out, n: cli("compare", root / "v30", root / "v21"),
    "convert to v2.1": lambda root, out, n: cli("convert", root / "v30", out, "--to", "v2.1"),
    "convert to v3.0": lambda root, out, n: cli("convert", root / "v21", out),
    "exclude": lambda root, out, n: cli("exclude", root / "v30", out, "--episodes", even(n)),
    "merge": lambda root, out, n: cli("merge", out, root / "v30", root / "copy"),
    "split by share": lambda root, out, n: cli("split", root / "v30", out, "--parts", "a=0.5"),
    "split by list": lambda root, out, n: cli("split", root / "v21", out, "--parts", f"a={even(n)}", "b=rest"),
    "tasks": lambda root, out, n: cli("tasks", root / "v30"),
    "tasks --set": lambda root, out, n: cli(
        "tasks", root / "v30", out, "--set", *(f"{i}=new text {i}" for i in range(0, n, 2))
    ),
    "repair": lambda root, out, n: cli("repair", root / "v30", out),
    "view": lambda root, out, n: cli("view", root / "v30", "--out", out),
}


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


@pytest.mark.parametrize("verb", VERBS)
def test_four_times_the_episodes_take_at_most_five_times_the_operations(
    verb: str,
    recordings: dict[int, Path],
    operations: Operations,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before, after = (
        operations.of(partial(VERBS[verb], recordings[episodes], tmp_path / f"out{episodes}", episodes))
        for episodes in (SMALL, LARGE)
    )
    faster = {
        name: (before.get(name, 0), number)
        for name, number in after.items()
        if number > GROWTH * before.get(name, 0) + ROOM
    }
    assert faster == {}
    assert LARGE < sum(after.values()) <= GROWTH * sum(before.values())


def test_check_looks_at_every_episode_of_both(recordings: dict[int, Path], capsys: pytest.CaptureFixture[str]) -> None:
    for episodes in (SMALL, LARGE):
        cli("check", recordings[episodes] / "v30", "--json")
        found = json.loads(capsys.readouterr().out)["findings"]
        short = [one for one in found if one["code"] == "episode-short"]
        assert sorted(one["episode"] for one in short) == list(range(episodes))


class Counted(list[int]):
    """A list that counts how often it is gone through or searched."""

    def __init__(self, *values: Any) -> None:
        super().__init__(*values)
        self.looks = 0

    def __iter__(self) -> Iterator[int]:
        self.looks += 1
        return super().__iter__()

    def __contains__(self, value: object) -> bool:
        self.looks += 1
        return super().__contains__(value)


def test_a_list_of_episodes_is_gone_through_a_few_times_only(recordings: dict[int, Path]) -> None:
    wanted = Counted(range(0, LARGE, 2))
    dataset = open_dataset(recordings[LARGE] / "v30", episodes=wanted)
    assert len(dataset) == FRAMES * len(wanted)
    split_episodes(dataset.meta, episodes=wanted)
    dataset.select(wanted)
    assert wanted.looks < 10


def test_a_search_in_a_list_inside_a_loop_is_seen(operations: Operations) -> None:
    """The counting itself: what it is there for makes it exceed its bounds."""

    def search(numbers: list[int]) -> int:
        return sum(numbers.count(number) for number in numbers)

    operations.count(search.__code__, *_inner(search.__code__))
    few, many = (sum(operations.of(partial(search, list(range(length)))).values()) for length in (SMALL, LARGE))
    assert many > GROWTH * few + ROOM


def _inner(code: CodeType) -> list[CodeType]:
    return [constant for constant in code.co_consts if isinstance(constant, CodeType)]
