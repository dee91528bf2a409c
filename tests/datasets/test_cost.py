"""The cost of opening grows as the dataset does: counted in calls, which no busy machine changes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from smolpilot.datasets import SampleOrder, open_dataset, parse_episodes, split_episodes
from smolpilot.datasets.summary import summarise

FRAMES, PER_FILE = 4, 50


def write(root: Path, episodes: int) -> Path:
    """A v3.0 dataset of tiny episodes without cameras, each with an instruction of its own."""
    vector = {"dtype": "float32", "shape": [2], "names": ["a", "b"]}
    scalar = {"dtype": "int64", "shape": [1], "names": None}
    names = ("frame_index", "episode_index", "index", "task_index")
    features = {"observation.state": vector, "action": vector, "timestamp": {**scalar, "dtype": "float32"}}
    (root / "meta" / "episodes" / "chunk-000").mkdir(parents=True)
    (root / "data" / "chunk-000").mkdir(parents=True)
    info = {
        "codebase_version": "v3.0",
        "fps": 10,
        "total_episodes": episodes,
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "features": features | dict.fromkeys(names, scalar),
    }
    (root / "meta" / "info.json").write_text(json.dumps(info))
    tasks = [f"pick object {i}" for i in range(episodes)]
    pq.write_table(pa.table({"task_index": range(episodes), "task": tasks}), root / "meta" / "tasks.parquet")
    for file, first in enumerate(range(0, episodes, PER_FILE)):
        inside = np.arange(first, min(first + PER_FILE, episodes))
        frame, episode = np.tile(np.arange(FRAMES), len(inside)), np.repeat(inside, FRAMES)
        values = pa.FixedSizeListArray.from_arrays(np.arange(2 * len(frame), dtype=np.float32), 2)
        columns: dict[str, Any] = {"observation.state": values, "action": values}
        columns |= {"timestamp": (frame / 10).astype(np.float32), "frame_index": frame, "episode_index": episode}
        columns |= {"index": episode * FRAMES + frame, "task_index": episode}
        pq.write_table(pa.table(columns), root / "data" / "chunk-000" / f"file-{file:03d}.parquet")
        rows = {"episode_index": inside, "length": np.full(len(inside), FRAMES)}
        rows |= {"data/chunk_index": np.zeros(len(inside), int), "data/file_index": np.full(len(inside), file)}
        table = pa.table({**rows, "tasks": [[tasks[i]] for i in inside]})
        pq.write_table(table, root / "meta" / "episodes" / "chunk-000" / f"file-{file:03d}.parquet")
    return root


def calls(work: Callable[[], Any]) -> int:
    """How many functions a piece of work calls, of Python and of C."""
    count = 0

    def note(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


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


@pytest.fixture(scope="module")
def sizes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("cost")
    return write(folder / "small", 200), write(folder / "large", 800)


def work_on(name: str, path: Path) -> Callable[[], Any]:
    dataset = open_dataset(path)
    episodes = [episode.index for episode in dataset.meta.episodes]
    return {
        "open": lambda: open_dataset(path),
        "open some": lambda: open_dataset(path, episodes=episodes[::2]),
        "info": lambda: summarise(path),
        "select": lambda: dataset.select(episodes[::2]),
        "split": lambda: split_episodes(dataset.meta),
        "parse": lambda: parse_episodes(",".join(map(str, episodes[::2])), dataset.meta),
        "order": lambda: SampleOrder(dataset, "local").indices(0),
        "fingerprint": lambda: open_dataset(path).meta.fingerprint,
        "batch": lambda: dataset.batch(slice(0, len(dataset), 5)),
    }[name]


@pytest.mark.parametrize(
    "name", ["open", "open some", "info", "select", "split", "parse", "order", "fingerprint", "batch"]
)
def test_four_times_the_episodes_cost_at_most_five_times_as_much(sizes: tuple[Path, Path], name: str) -> None:
    work_on(name, sizes[0])()  # imports and caches
    small, large = (calls(work_on(name, path)) for path in sizes)
    assert large <= 5 * small, f"{small} calls for 200 episodes, {large} for 800"


def test_a_list_of_episodes_is_gone_through_a_few_times_only(sizes: tuple[Path, Path]) -> None:
    wanted = Counted(range(0, 800, 2))
    dataset = open_dataset(sizes[1], episodes=wanted)
    assert len(dataset) == 400 * FRAMES
    split_episodes(dataset.meta, episodes=wanted)
    dataset.select(wanted)
    assert wanted.looks < 10
