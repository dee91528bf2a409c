"""Ways in which a v3.0 recording may be odd, each told whether LeRobot loads it all the same: found out, not stated."""

from __future__ import annotations

import codecs
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

type Spoil = Callable[[Path], object]


def table(root: Path) -> Path:
    return root / "data" / "chunk-000" / "file-000.parquet"


def episodes(root: Path) -> Path:
    return root / "meta" / "episodes" / "chunk-000" / "file-000.parquet"


def info(root: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = root / "meta" / "info.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def column(path: Path, name: str, make: Callable[[pa.ChunkedArray], Any]) -> None:
    """Put another column in the place of one, or add it; the metadata stay."""
    whole = pq.read_table(path)
    values = make(whole[name] if name in whole.column_names else None)
    place = whole.column_names.index(name) if name in whole.column_names else None
    whole = whole.append_column(name, values) if place is None else whole.set_column(place, name, values)
    pq.write_table(whole, path)


def feature(name: str, dtype: str, shape: list[int]) -> Spoil:
    return lambda root: info(
        root, lambda i: i["features"].update({name: {"dtype": dtype, "shape": shape, "names": None}})
    )


def cast(name: str, kind: pa.DataType) -> Spoil:
    return lambda root: column(table(root), name, lambda c: c.cast(kind))


def listed(name: str) -> Spoil:
    return lambda root: column(table(root), name, lambda c: pa.array([[v] for v in c.to_pylist()]))


def both(*steps: Spoil) -> Spoil:
    def spoil(root: Path) -> None:
        for step in steps:
            step(root)

    return spoil


def extra(name: str, values: Callable[[int], Any]) -> Spoil:
    return lambda root: column(table(root), name, lambda _: values(pq.read_metadata(table(root)).num_rows))


def reorder(path: Callable[[Path], Path], order: Callable[[int], list[int]]) -> Spoil:
    def spoil(root: Path) -> None:
        whole = pq.read_table(path(root))
        pq.write_table(whole.take(order(whole.num_rows)), path(root))

    return spoil


def tasks_plain(root: Path) -> None:
    whole = pq.read_table(root / "meta" / "tasks.parquet")
    columns = {("task" if n == "__index_level_0__" else n): whole[n] for n in whole.column_names}
    pq.write_table(pa.table(columns), root / "meta" / "tasks.parquet")


def bom(root: Path) -> None:
    path = root / "meta" / "info.json"
    path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())


def split_table(root: Path) -> None:
    """One more data file: the last episode's rows."""
    whole = pq.read_table(table(root))
    last = pc.equal(whole["episode_index"], pc.max(whole["episode_index"]))
    pq.write_table(whole.filter(pc.invert(last)), table(root))
    pq.write_table(whole.filter(last), table(root).with_name("file-001.parquet"))
    column(episodes(root), "data/file_index", lambda c: pa.array([*([0] * (len(c) - 1)), 1]))


def stray_table(root: Path) -> None:
    shutil.copy(table(root), table(root).with_name("file-007.parquet"))


def stray_first(root: Path) -> None:
    table(root).rename(table(root).with_name("file-001.parquet"))
    column(episodes(root), "data/file_index", lambda c: pa.array([1] * len(c)))
    other = pq.read_table(table(root).with_name("file-001.parquet"))
    pq.write_table(
        other.set_column(other.column_names.index("episode_index"), "episode_index", pa.array([9] * len(other))),
        table(root),
    )


def no_episode_0(root: Path) -> None:
    """Somebody deleted an episode by hand: all files are right, and number 0 is not there."""
    rows = pq.read_table(table(root))
    pq.write_table(rows.filter(pc.greater(rows["episode_index"], 0)), table(root))
    listed = pq.read_table(episodes(root))
    pq.write_table(listed.filter(pc.greater(listed["episode_index"], 0)), episodes(root))
    info(root, lambda i: i.update(total_episodes=i["total_episodes"] - 1))


def task_gap(root: Path) -> None:
    """Task 1 is called 5 everywhere: in the task table and in the rows."""
    change = lambda c: pc.if_else(pc.equal(c, 1), pa.scalar(5, c.type), c)  # noqa: E731
    column(table(root), "task_index", change)
    column(root / "meta" / "tasks.parquet", "task_index", change)


def hidden_table(root: Path) -> None:
    table(root).with_name("._file-000.parquet").write_bytes(b"\0\5\x16\7 Mac OS X")


def language_events(rows: int) -> pa.Array:
    """LeRobot's column of events: as many as there are at a frame, none at most of them."""
    event = {"role": "user", "content": "now", "style": "interjection", "camera": None, "tool_calls": None}
    kind = pa.struct(
        {**dict.fromkeys(("role", "content", "style", "camera"), pa.string()), "tool_calls": pa.list_(pa.string())}
    )
    return pa.array([[event] * (i % 3) for i in range(rows)], pa.list_(kind))


def stray_elsewhere(root: Path) -> None:
    (root / "data" / "notes.txt").write_text("mine")
    (root / "videos" / "old.mp4").write_bytes(b"old")


def moved_tables(root: Path) -> None:
    (root / "tables").mkdir()
    table(root).rename(root / "tables" / "file-000.parquet")
    info(root, lambda i: i.update(data_path="tables/file-{file_index:03d}.parquet"))


def moved_videos(root: Path) -> None:
    (root / "videos").rename(root / "films")
    info(root, lambda i: i.update(video_path="films/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"))


def without(name: str) -> Spoil:
    def spoil(root: Path) -> None:
        whole = pq.read_table(table(root))
        pq.write_table(whole.drop_columns([name]), table(root))

    return spoil


def late(seconds: float) -> Spoil:
    return lambda root: column(
        table(root), "timestamp", lambda c: pa.array(np.array(c) + np.float32(seconds), pa.float32())
    )


def nulls(values: list[Any], kind: pa.DataType) -> Callable[[int], pa.Array]:
    return lambda n: pa.array([None if i % 3 == 0 else values[i % len(values)] for i in range(n)], kind)


# Each of them is odd, and LeRobot loads all the same.
HARMLESS: dict[str, Spoil] = {
    "annotations": both(extra("language_events", language_events), feature("language_events", "language", [1])),
    "fps as a float": lambda root: info(root, lambda i: i.update(fps=float(i["fps"]))),
    "no chunk size": lambda root: info(root, lambda i: i.pop("chunks_size")),
    "own keys in info": lambda root: info(root, lambda i: i.update(lab="ours", license="mit")),
    "no splits": lambda root: info(root, lambda i: i.update(splits={})),
    "no statistics": lambda root: (root / "meta" / "stats.json").unlink(),
    "declared text": both(extra("note", lambda n: pa.array(["x"] * n)), feature("note", "string", [1])),
    "reward with NaN": both(
        extra("next.reward", lambda n: pa.array([float("nan")] * n, pa.float32())),
        feature("next.reward", "float32", [1]),
    ),
    "matrix": both(
        extra("pose", lambda n: pa.array([[[1.0, 2.0], [3.0, 4.0]]] * n, pa.list_(pa.list_(pa.float32())))),
        feature("pose", "float32", [2, 2]),
    ),
    "timestamp as double": cast("timestamp", pa.float64()),
    "task index as double": cast("task_index", pa.float64()),
    "index declared as float": both(cast("index", pa.float32()), feature("index", "float32", [1])),
    "frame index declared as float": both(cast("frame_index", pa.float32()), feature("frame_index", "float32", [1])),
    "action as double": lambda root: column(table(root), "action", lambda c: c.cast(pa.list_(pa.float64()))),
    "whole double as int": both(extra("gear", lambda n: pa.array([2.0] * n)), feature("gear", "int64", [1])),
    "numbers as text": both(extra("gear", lambda n: pa.array([2] * n)), feature("gear", "string", [1])),
    "two data files": split_table,
    "stray files elsewhere": stray_elsewhere,
    "videos elsewhere": moved_videos,
    "times 50 us late": late(0.00005),
    "newer version": lambda root: info(root, lambda i: i.update(codebase_version="v3.1")),
}

SPOILS: dict[str, Spoil] = {
    "all that is harmless": both(*HARMLESS.values()),
    "fps as a text": lambda root: info(root, lambda i: i.update(fps=str(i["fps"]))),
    "no totals": lambda root: info(
        root, lambda i: [i.pop(k) for k in ("total_episodes", "total_frames", "total_tasks")]
    ),
    "too many episodes stated": lambda root: info(root, lambda i: i.update(total_episodes=50)),
    "too few frames stated": lambda root: info(root, lambda i: i.update(total_frames=20)),
    "no tasks stated": lambda root: info(root, lambda i: i.update(total_tasks=0)),
    "chunk size 0": lambda root: info(root, lambda i: i.update(chunks_size=0)),
    "byte order mark": bom,
    "tasks without pandas index": tasks_plain,
    "tasks in another order": reorder(lambda r: r / "meta" / "tasks.parquet", lambda n: list(reversed(range(n)))),
    "episodes in another order": reorder(episodes, lambda n: [1, 0, *range(2, n)]),
    "an episode is gone": no_episode_0,
    "task indices with a gap": task_gap,
    "torn statistics": lambda root: (root / "meta" / "stats.json").write_text('{"action": {"mean": ['),
    "pandas index column": extra("__index_level_0__", lambda n: pa.array(range(n))),
    "undeclared text": extra("note", lambda n: pa.array(["x"] * n)),
    "text with nulls": both(extra("note", nulls(["a", "b"], pa.string())), feature("note", "string", [1])),
    "reward with nulls": both(extra("next.reward", nulls([0.5], pa.float32())), feature("next.reward", "float32", [1])),
    "declared, no column": feature("next.reward", "float32", [1]),
    "matrix, flat": both(
        extra("pose", lambda n: pa.array([[1.0, 2.0, 3.0, 4.0]] * n, pa.list_(pa.float32()))),
        feature("pose", "float32", [2, 2]),
    ),
    "ragged lists": both(
        extra("points", lambda n: pa.array([[1.0] * (1 + i % 3) for i in range(n)], pa.list_(pa.float32()))),
        feature("points", "float32", [2]),
    ),
    "struct": both(extra("force", lambda n: pa.array([{"x": 1.0, "y": 2.0}] * n)), feature("force", "float32", [2])),
    "unknown dtype": both(extra("count", lambda n: pa.array(range(n))), feature("count", "object", [1])),
    "empty shape": both(extra("count", lambda n: pa.array(range(n))), feature("count", "int64", [])),
    "task index declared as float": both(cast("task_index", pa.float32()), feature("task_index", "float32", [1])),
    "episode index declared as float": both(
        cast("episode_index", pa.float32()), feature("episode_index", "float32", [1])
    ),
    "timestamp as lists": listed("timestamp"),
    "task index as lists": listed("task_index"),
    "action of texts": lambda root: column(
        table(root), "action", lambda c: pa.array([["x"] * 3] * len(c), pa.list_(pa.string()))
    ),
    "fraction as int": both(extra("gear", lambda n: pa.array([0.5] * n, pa.float64())), feature("gear", "int64", [1])),
    "no timestamp": without("timestamp"),
    "no index": without("index"),
    "no frame index": without("frame_index"),
    "stray table": stray_table,
    "stray table that comes first": stray_first,
    "stray table of other columns": lambda root: pq.write_table(
        pa.table({"x": [1.0]}), table(root).with_name("file-007.parquet")
    ),
    "resource fork": hidden_table,
    "tables elsewhere": moved_tables,
    "times half a frame late": late(0.05),
    "no video places": lambda root: column(
        episodes(root), "videos/observation.images.front/file_index", lambda c: pa.array([None, *[0] * (len(c) - 1)])
    ),
    "no row places": lambda root: pq.write_table(
        pq.read_table(episodes(root)).drop_columns(["dataset_from_index"]), episodes(root)
    ),
    "camera that was never recorded": lambda root: info(
        root, lambda i: i["features"].update({"observation.images.side": i["features"]["observation.images.front"]})
    ),
    "no video pattern": lambda root: info(root, lambda i: i.update(video_path=None)),
}
