"""Fuzzed metadata: whatever stands in the files, readers answer with an error of ours, and the check with findings."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from smolpilot.common.errors import SmolpilotError
from smolpilot.datasets import DatasetWriter, open_dataset, read_meta
from smolpilot.datasets.check import check_dataset
from smolpilot.datasets.check.context import CheckContext
from smolpilot.datasets.check.scan.video_scans import VideoScans
from smolpilot.datasets.tolerant.findings import Finding
from smolpilot.datasets.tolerant.open import read_found_dataset

from .helpers_recordings import write_lines

# The same cases in every run; SMOLPILOT_FUZZ=500 looks for new ones.
_MORE = int(os.environ.get("SMOLPILOT_FUZZ", "0"))
FUZZ = settings(
    max_examples=_MORE or 25,
    derandomize=not _MORE,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
)

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["observation.state", "v3.0", "v2.1", "{episode_index}", "../x", "/x", "{0}", "a\x00b", "video"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two short episodes without cameras, in both layouts: small enough to be checked hundreds of times."""
    base = tmp_path_factory.mktemp("plain")
    with DatasetWriter(base / "v3", fps=10, state_names=["a", "b"], action_names=["a", "b"], cameras={}) as writer:
        for episode in range(2):
            for i in range(12):
                value = np.array([i / 10, np.sin(i) + episode], dtype=np.float32)
                writer.add_frame({"observation.state": value, "action": value + 1, "task": f"do thing {episode}"})
            writer.end_episode()
    return {"v3": base / "v3", "v21": to_v21(base / "v3", base / "v21")}


def to_v21(source: Path, root: Path) -> Path:
    (root / "meta").mkdir(parents=True)
    (root / "data" / "chunk-000").mkdir(parents=True)
    table = pq.read_table(source / "data" / "chunk-000" / "file-000.parquet")
    for episode in range(2):
        part = table.filter(pa.compute.equal(table["episode_index"], episode))
        pq.write_table(part, root / "data" / "chunk-000" / f"episode_{episode:06d}.parquet")
    info = json.loads((source / "meta" / "info.json").read_text())
    info |= {
        "codebase_version": "v2.1",
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
    }
    (root / "meta" / "info.json").write_text(json.dumps(info))
    write_lines(root / "meta" / "tasks.jsonl", [{"task_index": i, "task": f"do thing {i}"} for i in range(2)])
    episodes = [{"episode_index": i, "tasks": [f"do thing {i}"], "length": 12} for i in range(2)]
    write_lines(root / "meta" / "episodes.jsonl", episodes)
    numbers = {name: [0.5, 0.5] for name in ("mean", "std", "min", "max")} | {"count": [12]}
    rows = [{"episode_index": i, "stats": {"observation.state": numbers, "action": numbers}} for i in range(2)]
    write_lines(root / "meta" / "episodes_stats.jsonl", rows)
    return root


@contextmanager
def copy_of(root: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(shutil.copytree(root, Path(folder) / "copy"))


@dataclass(frozen=True)
class Answers:
    """What the readers and the check say of one folder."""

    refusals: list[str]
    findings: list[Finding]

    @property
    def errors(self) -> list[str]:
        return [found.message for found in self.findings if found.severity == "error"]

    @property
    def stumbles(self) -> list[str]:
        """Checks that ended in an exception."""
        return [found.message for found in self.findings if found.code == "check-failed"]

    @property
    def unnamed(self) -> list[str]:
        """What the readers refuse in a folder where the check finds no error."""
        return [] if self.errors else self.refusals


def survive(root: Path) -> Answers:
    """All readers, on one folder: an error of ours or a result, never anything else."""
    refusals = []
    for reader in (read_meta, open_dataset):
        try:
            reader(root)
        except SmolpilotError as error:
            refusals.append(str(error))
    result = check_dataset(root)
    json.dumps(result.to_json())
    return Answers(refusals, result.findings)


def replaced(document: Any, path: list[int], value: Any) -> Any:
    """The document with one of its parts, found by following `path`, replaced or removed."""
    if not path or not isinstance(document, dict | list) or not document:
        return None if value is ... else value
    keys = list(document) if isinstance(document, dict) else list(range(len(document)))
    key = keys[path[0] % len(keys)]
    changed: Any = dict(document) if isinstance(document, dict) else list(document)
    if value is ... and len(path) == 1:
        del changed[key]
    else:
        changed[key] = replaced(document[key], path[1:], None if value is ... else value)
    return changed


PATHS = st.lists(st.integers(0, 30), min_size=1, max_size=4)
type Changes = list[tuple[list[int], Any]]
CHANGES = st.lists(st.tuples(PATHS, VALUES | st.just(...)), min_size=1, max_size=3)


@pytest.mark.parametrize("layout", ["v3", "v21"])
@FUZZ
@given(changes=CHANGES)
def test_values_of_info(plain: dict[str, Path], layout: str, changes: Changes) -> None:
    with copy_of(plain[layout]) as root:
        path = root / "meta" / "info.json"
        info = json.loads(path.read_text())
        for place, value in changes:
            info = replaced(info, place, value)
        path.write_text(json.dumps(info))
        answers = survive(root)
    assert answers.stumbles == []
    assert answers.unnamed == []


@pytest.mark.parametrize("name", ["episodes.jsonl", "tasks.jsonl", "episodes_stats.jsonl"])
@FUZZ
@given(changes=CHANGES)
def test_values_of_json_lines(plain: dict[str, Path], name: str, changes: Changes) -> None:
    with copy_of(plain["v21"]) as root:
        path = root / "meta" / name
        rows: Any = [json.loads(line) for line in path.read_text().splitlines()]
        for place, value in changes:
            rows = replaced(rows, place, value)
        rows = rows if isinstance(rows, list) else [None if rows is ... else rows]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        answers = survive(root)
    assert answers.stumbles == []
    assert answers.unnamed == []


@FUZZ
@given(changes=CHANGES)
def test_values_of_statistics(plain: dict[str, Path], changes: Changes) -> None:
    with copy_of(plain["v3"]) as root:
        path = root / "meta" / "stats.json"
        stats = json.loads(path.read_text())
        for place, value in changes:
            stats = replaced(stats, place, value)
        path.write_text(json.dumps(stats))
        answers = survive(root)
    assert answers.stumbles == []
    assert answers.unnamed == []


BYTES = st.binary(max_size=60)


@pytest.mark.parametrize(
    ("layout", "name"),
    [
        ("v3", "meta/info.json"),
        ("v3", "meta/tasks.parquet"),
        ("v3", "meta/stats.json"),
        ("v3", "meta/episodes/chunk-000/file-000.parquet"),
        ("v3", "data/chunk-000/file-000.parquet"),
        ("v21", "meta/info.json"),
        ("v21", "meta/tasks.jsonl"),
        ("v21", "meta/episodes.jsonl"),
        ("v21", "meta/episodes_stats.jsonl"),
        ("v21", "data/chunk-000/episode_000001.parquet"),
    ],
)
@settings(FUZZ, max_examples=_MORE or 10)
@given(place=st.floats(0, 1), noise=BYTES, cut=st.booleans())
def test_bytes_of_every_file(
    plain: dict[str, Path], layout: str, name: str, place: float, noise: bytes, cut: bool
) -> None:
    with copy_of(plain[layout]) as root:
        path = root / name
        content = path.read_bytes()
        at = int(place * len(content))
        path.write_bytes(content[:at] + noise + (b"" if cut else content[at + len(noise) :]))
        answers = survive(root)
    assert answers.stumbles == []
    assert answers.unnamed == []


COLUMNS: list[Callable[[int], pa.Array]] = [
    lambda n: pa.array([None] * n, pa.int64()),
    lambda n: pa.array(["x"] * n),
    lambda n: pa.array([float("nan")] * n),
    lambda n: pa.array([[]] * n, pa.list_(pa.float32())),
    lambda n: pa.array([[1.0]] * n, pa.list_(pa.float32())),
    lambda n: pa.array([[[1.0]]] * n, pa.list_(pa.list_(pa.float64()))),
    lambda n: pa.array([2**62] * n),
    lambda n: pa.array([-1] * n),
    lambda n: pa.array([True] * n),
    lambda n: pa.array([{"a": 1}] * n),
    lambda n: pa.array([b"\x00"] * n),
    lambda n: pa.array([None, *[1.5] * (n - 1)]),
]


@pytest.mark.parametrize(
    "name", ["data/chunk-000/file-000.parquet", "meta/episodes/chunk-000/file-000.parquet", "meta/tasks.parquet"]
)
@FUZZ
@given(which=st.integers(0, 200), kind=st.sampled_from(COLUMNS), rows=st.sampled_from([None, 0, 1]))
@example(which=4, kind=COLUMNS[6], rows=None)  # an episode index of 2**62
@example(which=6, kind=COLUMNS[2], rows=None)  # a task index that is no number
def test_columns_of_tables(
    plain: dict[str, Path], name: str, which: int, kind: Callable[[int], pa.Array], rows: int | None
) -> None:
    with copy_of(plain["v3"]) as root:
        path = root / name
        table = pq.read_table(path)
        place = which % len(table.column_names)
        table = table.set_column(place, table.column_names[place], kind(len(table)))
        pq.write_table(table if rows is None else table.slice(0, rows), path)
        answers = survive(root)
    assert answers.stumbles == []
    assert answers.unnamed == []
    assert answers.errors or rows != 0, "an empty table"


def test_a_check_that_stumbles_stops_no_other(plain: dict[str, Path]) -> None:
    from smolpilot.datasets.check.run import run_check

    def stumble(_: CheckContext) -> Iterator[Finding]:
        yield from ()
        raise ZeroDivisionError("surprise")

    found = run_check(stumble, CheckContext(read_found_dataset(plain["v3"]), VideoScans(), None, 30.0))
    assert [(one.code, one.severity) for one in found] == [("check-failed", "warning")]
    assert "ZeroDivisionError: surprise" in found[0].message
