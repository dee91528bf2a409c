"""Every line of a repair's report as a claim about the copy, and how to see whether it is true."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from smolpilot.datasets.repair import RepairReport

TYPES = {"float16": pa.float16(), "float32": pa.float32(), "float64": pa.float64(), "int64": pa.int64()}


@dataclass
class Copy:
    """A repaired folder and the report that speaks of it."""

    root: Path
    report: RepairReport

    @cached_property
    def info(self) -> dict[str, Any]:
        return json.loads((self.root / "meta" / "info.json").read_text(encoding="utf-8"))

    @cached_property
    def features(self) -> dict[str, Any]:
        return self.info["features"]

    @cached_property
    def table(self) -> pa.Table:
        paths = sorted(self.root.glob("data/*/*.parquet"))
        return pa.concat_tables([pq.read_table(path).replace_schema_metadata(None) for path in paths])

    @cached_property
    def text(self) -> list[str]:
        """Instructions by index."""
        path = self.root / "meta" / "tasks.jsonl"
        if path.exists():
            return [json.loads(line)["task"] for line in path.read_text().splitlines()]
        table = pq.read_table(self.root / "meta" / "tasks.parquet")
        return next(table[name] for name in table.column_names if name != "task_index").to_pylist()

    def column(self, name: str) -> npt.NDArray[Any]:
        return self.table[name].to_numpy()

    def new(self, words: str) -> list[int]:
        """The numbers that episodes `3` or `0-2, 5` of the source have in the copy."""
        numbers = {one.old: one.new for one in self.report.plan.episodes}
        found: list[int] = []
        for part in words.split(", "):
            first, _, last = part.partition("-")
            found += range(int(first), int(last or first) + 1)
        return [numbers[old] for old in found if old in numbers]

    def rows(self, episode: int) -> pa.Table:
        return self.table.filter(pa.compute.equal(self.table["episode_index"], episode))

    @property
    def lengths(self) -> list[int]:
        return np.bincount(self.column("episode_index")).tolist()


def typed(copy: Copy, name: str, word: str) -> bool:
    kind = copy.table.schema.field(name).type
    while pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        kind = kind.value_type
    return kind == TYPES[word] and copy.features[name]["dtype"] == word


def gone(copy: Copy, name: str) -> bool:
    return name not in copy.features and name not in copy.table.column_names


def camera(copy: Copy, name: str) -> Any:
    return next((entry for key, entry in copy.features.items() if key.endswith(f".{name}")), None)


def trimmed(copy: Copy, words: str, counts: list[str]) -> bool:
    rows = sum(1 if count == "row" else int(count.split()[0]) for count in counts)
    old = {one.new: one.old for one in copy.report.plan.episodes}
    whole = copy.report.before.dataset.rows
    return all(copy.lengths[new] == len(whole[old[new]]) - rows for new in copy.new(words))


def counted(copy: Copy, words: str) -> bool:
    return all(copy.rows(new)["frame_index"].to_pylist() == list(range(copy.lengths[new])) for new in copy.new(words))


def recorded(copy: Copy, words: str) -> bool:
    kept = pq.read_table(copy.root / "meta" / "recorded_timestamps.parquet")["episode_index"].to_pylist()
    return set(copy.new(words)) <= set(kept)


def totals(copy: Copy) -> bool:
    stated = [copy.info[f"total_{what}"] for what in ("episodes", "frames", "tasks")]
    return stated == [len(copy.lengths), sum(copy.lengths), len(copy.text)]


def statistics(copy: Copy) -> bool:
    """Those of the action are the data's; every feature has some."""
    values = np.stack(copy.table["action"].to_pylist())
    if (copy.root / "meta" / "stats.json").exists():
        stats = json.loads((copy.root / "meta" / "stats.json").read_text())
        return set(copy.features) <= set(stats) and np.allclose(stats["action"]["mean"], values.mean(0), atol=1e-5)
    lines = [json.loads(line) for line in (copy.root / "meta" / "episodes_stats.jsonl").read_text().splitlines()]
    means = [row["stats"]["action"]["mean"] for row in lines]
    return np.allclose(np.average(means, axis=0, weights=copy.lengths), values.mean(axis=0), atol=1e-5)


def plain(copy: Copy, name: str) -> bool:
    content = (copy.root / name).read_bytes()
    return not content.startswith(codecs.BOM_UTF8) and bool(content.decode("utf-8"))


def listed(copy: Copy) -> bool:
    """The episode list has each episode once, as long as its rows."""
    path = copy.root / "meta" / "episodes.jsonl"
    if path.exists():
        rows = [json.loads(line) for line in path.read_text().splitlines()]
    else:
        rows = pq.read_table(next(copy.root.glob("meta/episodes/*/*.parquet"))).to_pylist()
    return [(row["episode_index"], row["length"]) for row in rows] == list(enumerate(copy.lengths))


def ranges(copy: Copy) -> bool:
    rows = pq.read_table(next(copy.root.glob("meta/episodes/*/*.parquet"))).to_pylist()
    ends = np.cumsum(copy.lengths).tolist()
    return [row["dataset_to_index"] for row in rows] == ends


def usual_paths(copy: Copy) -> bool:
    return bool(
        list(
            copy.root.glob(
                "data/chunk-000/*-000.parquet"
                if "file" in copy.info["data_path"]
                else "data/chunk-000/episode_000000.parquet"
            )
        )
    )


def dense_tasks(copy: Copy) -> bool:
    return set(copy.column("task_index").tolist()) <= set(range(len(copy.text))) and len(set(copy.text)) == len(
        copy.text
    )


def by_label(copy: Copy) -> bool:
    import pandas as pd

    table = pd.read_parquet(copy.root / "meta" / "tasks.parquet")
    return [table.iloc[i].name for i in range(len(table))] == copy.text and table["task_index"].tolist() == list(
        range(len(table))
    )


def changed(copy: Copy, name: str, changes: str) -> bool:
    details = (camera(copy, name) or {})["info"]
    found = []
    for change in changes.split(", "):
        parsed = re.match(r"(\S+) .* becomes (.*)", change)
        assert parsed is not None
        what, value = parsed.groups()
        found.append(str(details[f"video.{what}"]) == value)
    return all(found)


def instructed(copy: Copy, words: str) -> bool:
    return all(copy.rows(new)["task_index"].null_count == 0 for new in copy.new(words)) and dense_tasks(copy)


CLAIMS: list[tuple[str, Callable[..., bool]]] = [
    (r"(meta/\S+): (?:byte order mark removed|written as UTF-8 \(it .*\)), the content kept\.", plain),
    (r"Camera '(.+)' left out: .*", lambda c, name: camera(c, name) is None),
    (r"Feature '(.+)' is called '(.+)', as LeRobot does\.", lambda c, old, new: new in c.features and gone(c, old)),
    (r"Feature '(.+)' left out, as --\w+ says\.", gone),
    (
        r"Episodes? ([\d, -]+): the place of the video of camera '(.+)' found by counting: .*",
        lambda c, words, name: all(
            any(key.endswith(name) for key in c.report.after.dataset.records[new].spans) for new in c.new(words)
        ),
    ),
    (r"Column '?([\w.]+)'? written as (\w+), .*", typed),
    (
        r"Column '(.+)': lists of one value became plain values, .*",
        lambda c, name: not pa.types.is_list(c.table.schema.field(name).type),
    ),
    (
        r"Column '(.+)': (\d+) empty cells became empty texts\.",
        lambda c, name, n: c.table[name].null_count == 0 and c.table[name].to_pylist().count("") == int(n),
    ),
    (r"Column '(.+)' left out: .*", gone),
    (
        r"Column index (?:counted|made) anew for episodes? .*\.",
        lambda c: c.column("index").tolist() == list(range(sum(c.lengths))),
    ),
    (r"Column (\w+) made anew for episodes? .*\.", lambda c, name: c.table[name].null_count == 0),
    (r"Episodes? ([\d, -]+): the first (row|\d+ rows) left out: .*", lambda c, words, n: trimmed(c, words, [n])),
    (r"Episodes? ([\d, -]+): the last (row|\d+ rows) left out: .*", lambda c, words, n: trimmed(c, words, [n])),
    (r"Episode (\d+): (?:frames numbered|\d+ repeated rows|rows put|frame_index made) .*", counted),
    (
        r"Episode (\d+): episode_index written anew\.",
        lambda c, words: set(c.rows(c.new(words)[0])["episode_index"].to_pylist()) == set(c.new(words)),
    ),
    (r"Episodes numbered 0 to (\d+), .*", lambda c, last: len(c.lengths) == int(last) + 1 and all(c.lengths)),
    (
        r"Episodes? ([\d, -]+): time stamps made anew, frame / .*",
        lambda c, words: all(
            np.allclose(c.rows(new)["timestamp"].to_numpy(), np.arange(c.lengths[new]) / c.info["fps"], atol=1e-4)
            for new in c.new(words)
        ),
    ),
    (r"Episodes? ([\d, -]+): time stamps put onto their video frames, .*", recorded),
    (r"meta/info\.json: fps .* becomes ([\d.]+)\.", lambda c, fps: c.info["fps"] == float(fps)),
    (r"meta/info\.json: '(.+)' is declared (\w+), as .*", lambda c, name, word: c.features[name]["dtype"] == word),
    (
        r"meta/info\.json: '(.+)' is declared with shape \[(\d+)\], .*",
        lambda c, name, n: c.features[name]["shape"] == [int(n)],
    ),
    (r"meta/info\.json: feature '(.+)' removed, .*", gone),
    (r"meta/info\.json: feature '(.+)' added, .*", lambda c, name: name in c.features and name in c.table.column_names),
    (
        r"meta/info\.json: names of '(.+)' are one per dimension: (.+), …",
        lambda c, name, names: (
            c.features[name]["names"][:3] == names.split(", ")
            and len(c.features[name]["names"]) == c.features[name]["shape"][0]
        ),
    ),
    (
        r"meta/info\.json: camera '(.+)' is declared (\d+)x(\d+), .*",
        lambda c, name, w, h: camera(c, name)["shape"] == [int(h), int(w), 3],
    ),
    (r"meta/info\.json: camera '(.+)': (.+)\.", changed),
    (
        r"meta/info\.json: splits are (.+); they were .*",
        lambda c, words: words == ", ".join(f"{k} {v}" for k, v in c.info["splits"].items()),
    ),
    (
        r"meta/info\.json: codebase_version as the files are laid out\.",
        lambda c: c.info["codebase_version"] == c.report.plan.version,
    ),
    (r"meta/info\.json: totals counted(?: anew)?\.", totals),
    (r"meta/info\.json: data_path and video_path written anew\.", usual_paths),
    (
        r"meta/info\.json made anew from the files: robot_type is not known(?: \(it is a Git-LFS pointer: .+\))?\.",
        lambda c: c.info["robot_type"] is None and totals(c),
    ),
    (r"Files put where data_path and video_path say, .*", usual_paths),
    (r"Episode list: .*", listed),
    (r"Episode table: ranges of rows written anew\.", ranges),
    (r"Task list: .*", dense_tasks),
    (r"meta/tasks\.parquet written as LeRobot reads it: .*", by_label),
    (r"Episodes? ([\d, -]+): rows with an unknown task get .*", instructed),
    (r"Episodes? ([\d, -]+): the episode list says .*", instructed),
    (r"Statistics(?: of episodes? .*)? computed anew from the data\.", statistics),
    (
        r"(\S+\.mp4): episodes placed one after the other by their numbers of rows, .*",
        lambda c, name: (c.root / name).exists(),
    ),
]


def untrue(report: RepairReport, root: Path) -> list[str]:
    """Lines of the report that the copy does not bear out, or that nobody knows how to check."""
    copy, found = Copy(root, report), []
    for line in report.plan.actions:
        known = next(((m, check) for pattern, check in CLAIMS if (m := re.fullmatch(pattern, line))), None)
        if known is None:
            found.append(f"no check for: {line}")
        elif not known[1](copy, *known[0].groups()):
            found.append(f"not true: {line}")
    for name in report.plan.left_out:
        found += [] if gone(copy, name) else [f"not left out: {name}"]
    if len(copy.lengths) != len(report.plan.episodes) or sum(copy.lengths) != copy.info["total_frames"]:
        found.append("episodes or frames")
    return found
