"""What LeRobot 0.6 needs to open a dataset and to load its samples with the same instructions: our own description.

Read off its sources (lerobot/datasets/{dataset_metadata,dataset_reader,io_utils,feature_utils,utils}.py, 0.6.1) and
compared with them on many datasets in tests/oracle/test_check_oracle.py. What it looks up by position: episodes in
the episode table, rows by `index`, texts by the row of meta/tasks.parquet. By name: the columns of a table, each of
which must be a feature. By cast: every column to the type and shape that its feature declares.

v2.x is not read by LeRobot 0.6 itself: what holds there is what a conversion carries over.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from smolpilot.common.text import shown
from smolpilot.datasets.check.context import CheckContext, named, ranges
from smolpilot.datasets.format.arrow import LANGUAGE, WORDS, is_list, is_text, one_array, storage
from smolpilot.datasets.format.parquet_files import parquet_file
from smolpilot.datasets.tolerant.findings import Finding
from smolpilot.datasets.tolerant.found_dataset import FoundDataset

from .check_time import TOLERANCE_S, allowed

_COUNTED = ("chunks_size", "data_files_size_in_mb", "video_files_size_in_mb")
_LOOKED_UP = ("episode_index", "task_index")


def obstacles(context: CheckContext) -> Iterator[Finding]:
    """What keeps LeRobot from loading a sample, or gives it another instruction; nothing when it loads them all."""
    yield from _description(context)
    yield from _columns(context)
    if not context.dataset.format.loadable:
        return
    yield from _totals(context)
    yield from _tables(context)
    yield from _episodes(context)
    yield from _texts(context)
    yield from _pictures(context)


def _description(context: CheckContext) -> Iterator[Finding]:
    """meta/info.json: types that can be cast to, shapes, positive sizes."""
    info = context.dataset.info
    for name in _COUNTED:
        value = info.get(name, 1)
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            yield context.finding(
                "info-damaged", f"meta/info.json has {name} {shown(value)}; LeRobot needs a number above 0."
            )
    for key, (dtype, shape) in _declared(info).items():
        if key in LANGUAGE or dtype in ("video", "image") or shape is None:
            continue
        if dtype not in _TYPES:
            yield context.finding(
                "features-damaged", f"The feature '{key}' has dtype '{dtype}', which LeRobot does not know."
            )
        elif not 1 <= len(shape) <= 5:
            message = f"The feature '{key}' has {len(shape)} dimensions; LeRobot reads one to five."
            yield context.finding("features-damaged", message)
        elif key in _LOOKED_UP and not dtype.startswith(("int", "uint")):
            message = f"'{key}' is declared as {dtype}: LeRobot looks rows up by it, and a {dtype} is no place."
            yield context.finding("column-type", message)


def _declared(info: dict[str, Any]) -> dict[str, tuple[str, tuple[int, ...] | None]]:
    """(dtype, shape) of each feature; no shape when it has none that makes sense, which is said elsewhere."""
    features, found = info.get("features"), {}
    for key, entry in features.items() if isinstance(features, dict) else ():
        shape = entry.get("shape")
        sized = isinstance(shape, list) and all(isinstance(n, int) and not isinstance(n, bool) for n in shape)
        found[key] = str(entry.get("dtype")), tuple(shape) if sized else None
    return found


def _columns(context: CheckContext) -> Iterator[Finding]:
    """Every column a feature, every feature a column, and each cell castable to what is declared."""
    dataset = context.dataset
    declared = _declared(dataset.info)
    if not declared:
        return
    wanted = {key: described for key, described in declared.items() if described[0] != "video"}
    strict = dataset.format.loadable
    strange: dict[str, list[Path]] = {}
    wrong: dict[str, list[Path]] = {}
    for path, schema in dataset.schemas.items():
        for name in schema.names:
            if name not in wanted:
                if strict:
                    strange.setdefault(name, []).append(path)
                continue
            dtype, shape = wanted[name]
            if name not in LANGUAGE and shape is not None and (dtype == "image" or dtype in _TYPES):
                text = misfit(path, schema, name, dtype, shape)
                if text:
                    wrong.setdefault(f"have '{name}' as {text}", []).append(path)
    for name, paths in strange.items():
        text = f"have a column '{name}' that is no feature: LeRobot cannot open them"
        yield context.finding("column-undeclared", f"The data files {text}{_of(dataset, paths)}.")
    for text, paths in wrong.items():
        message = f"The data files {text}{_of(dataset, paths)}."
        for episode in context.episodes_in(paths):
            yield context.finding("column-type", message, episode=episode)


def _of(dataset: FoundDataset, paths: list[Path]) -> str:
    if len(paths) == len(dataset.schemas):
        return ""
    return f" ({dataset.relative(paths[0])}" + (f" and {len(paths) - 1} more)" if len(paths) > 1 else ")")


def _totals(context: CheckContext) -> Iterator[Finding]:
    """LeRobot takes lengths from meta/info.json: with none it reads no episode list, with others no or other rows."""
    dataset = context.dataset
    if not dataset.info:
        return
    rows = sum(len(one) for one in dataset.rows.values())
    whole = len(dataset.rows) == len(dataset.records)
    for name, true in (("total_episodes", len(dataset.rows)), ("total_frames", rows), ("total_tasks", None)):
        stated = dataset.info.get(name)
        if name not in dataset.info:
            yield context.finding("totals-missing", f"meta/info.json does not state {name}.")
        elif true is None and not stated:
            message = f"meta/info.json says {name} {stated}: LeRobot reads no task list then."
            yield context.finding("totals-wrong", message)
        elif true is not None and whole and stated != true and true:
            yield context.finding("totals-wrong", f"meta/info.json says {name} {stated}; there are {true}.")


def _tables(context: CheckContext) -> Iterator[Finding]:
    """All tables two folders deep under data/ are read, in the order of their names, and `index` is a row's place."""
    dataset = context.dataset
    read = sorted(dataset.root.glob("data/*/*.parquet"))
    used = set(dataset.schemas)
    stray = harmful_strays(dataset)
    if stray:
        more = f" and {len(stray) - 1} more" if len(stray) > 1 else ""
        message = f"No episode uses {dataset.relative(stray[0])}{more}; LeRobot reads it anyway."
        yield context.finding("table-stray", message)
    there = set(read)
    elsewhere = [path for path in used if path not in there]
    if elsewhere:
        message = f"The table is at {dataset.relative(elsewhere[0])}; LeRobot reads data/*/*.parquet only."
        yield context.finding("path-unusual", message)
    if stray or elsewhere:
        return
    read = [path for path in read if path in used]
    start = 0
    by_path: dict[Path, list[int]] = {}
    for episode, rows in dataset.rows.items():
        by_path.setdefault(rows.path, []).append(episode)
    for path in read:
        episodes = by_path.get(path, [])
        for episode in episodes:
            rows = dataset.rows[episode]
            index = rows.get("index")
            if index is None or index.dtype.kind not in "iuf" or index.shape != rows.positions.shape:
                continue
            wrong = np.flatnonzero(index != rows.positions + start)
            if len(wrong):
                frame = int(wrong[0])
                place = int(rows.positions[frame]) + start
                message = f"`index` is {index[frame]:g} at frame {frame} of episode {episode}, which is row {place}."
                yield context.finding("index-wrong", message, episode=episode, frame=frame)
                return
        start += sum(len(dataset.rows[episode]) for episode in episodes)


def harmful_strays(dataset: FoundDataset) -> list[Path]:
    """Tables that no episode uses, and that LeRobot cannot open or takes for others' rows.

    One that comes last by its name and looks like the others does no harm: its rows are beyond all counted ones.
    """
    if not dataset.format.loadable or not dataset.schemas:
        return []
    used = set(dataset.schemas)
    last = max(used)
    said = {found.message for found in dataset.findings if found.code in ("parquet-torn", "file-empty", "lfs-pointer")}
    found = []
    for path in sorted(dataset.root.glob("data/*/*.parquet")):
        own = path.is_file() and not dataset.places.why_not(path)
        if not own or path in used or any(dataset.relative(path) in message for message in said):
            continue
        try:
            alike = pq.read_schema(path).remove_metadata() == next(iter(dataset.schemas.values())).remove_metadata()
        except (pa.ArrowException, OSError, ValueError):
            alike = False
        if not alike or path < last:
            found.append(path)
    return found


def _episodes(context: CheckContext) -> Iterator[Finding]:
    """Episode n is row n of the episode table, and that row says where its rows and videos are."""
    dataset = context.dataset
    if not dataset.order:
        return
    order = dataset.order
    lost = [index for index in dataset.rows if not (index < len(order) and order[index] == index)]
    if lost:
        message = f"{named(lost)} {'is' if len(lost) == 1 else 'are'} not at that place of the episode table: LeRobot "
        message += "looks them up by position."
        yield context.finding("episode-lookup", message, episode=lost[0] if len(lost) == 1 else None)
    silent = [index for index in dataset.rows if None in (dataset.records[index].first, dataset.records[index].last)]
    silent = [index for index in silent if dataset.records[index].listed]
    if silent:
        message = f"The episode table does not say at which rows episodes {ranges(silent)} begin and end."
        yield context.finding("episode-span", message)


def _texts(context: CheckContext) -> Iterator[Finding]:
    """The instruction is the label of the row at the place `task_index`."""
    dataset = context.dataset
    labels = dataset.task_labels
    if labels is None:
        return
    used: set[int] = set()
    for rows in dataset.rows.values():
        numbers = rows.numbers("task_index")
        used |= set() if numbers is None else {int(value) for value in np.unique(numbers).tolist()}
    for value in sorted(used):
        true = dataset.tasks.get(value)
        given = labels[value] if -len(labels) <= value < len(labels) else None
        if true is not None and given != true:
            what = f"gives {given!r}" if given is not None else "gives none"
            message = f'Task {value} is "{true}"; LeRobot {what}: it takes the index label of row {value} of '
            message += "meta/tasks.parquet."
            yield context.finding("task-lookup", message)
            return


def _pictures(context: CheckContext) -> Iterator[Finding]:
    """A frame for each row within LeRobot's tolerance, decodable; an image in a table with its bytes."""
    dataset = context.dataset
    times = {episode: values[:, 0] for episode, values in dataset.values("timestamp") if values.shape[1] == 1}
    for clip in context.video_scans.all():
        episode = clip.episode
        if not clip.camera.is_video:
            linked = np.flatnonzero(clip.scan.by_path[clip.first : clip.last])
            if len(linked):
                message = (
                    f"The image at frame {linked[0]} of episode {episode} is a path only: LeRobot looks for it in "
                )
                message += "the working folder."
                yield context.finding("picture-outside", message, frame=int(linked[0]), **clip.place)
            continue
        shown = clip.scan.times
        if episode not in times or not len(shown):
            continue
        asked = clip.span.start + times[episode]
        right = np.clip(np.searchsorted(shown, asked), 1, max(len(shown) - 1, 1))
        near = np.where(
            np.abs(asked - shown[right - 1]) <= np.abs(shown[right % len(shown)] - asked), right - 1, right % len(shown)
        )
        off = np.abs(asked - shown[near])
        bad = np.flatnonzero(~(off <= allowed(asked)))
        if len(bad):
            frame = int(bad[0])
            message = (
                f"Camera '{clip.camera.name}', episode {episode}: the video frame nearest to frame {frame} is "
                f"{1000 * off[frame]:.3g} ms away; LeRobot allows {1000 * TOLERANCE_S:g} ms."
            )
            yield context.finding("timestamp-off-video", message, frame=frame, **clip.place)


_TYPES: dict[str, pa.DataType] = {
    **WORDS,
    "float": pa.float32(),
    "double": pa.float64(),
    "large_string": pa.large_string(),
    "binary": pa.binary(),
}


def misfit(path: Path, schema: pa.Schema, name: str, dtype: str, shape: tuple[int, ...]) -> str:
    """Why a column cannot be cast to its feature, in words; empty when it can. Cells are read where types differ."""
    kind = storage(schema.field(name).type)
    if dtype == "image":
        return "" if _is_image(kind) else f"{str(kind)[:60]}; an image is a struct of bytes and path"
    depth = 0 if shape == (1,) else len(shape)
    inner, lists = kind, 0
    while is_list(inner):
        inner, lists = storage(inner.value_type), lists + 1
    if pa.types.is_null(kind):
        return ""
    if lists != depth:
        stored = "plain values" if lists == 0 else "lists" if lists == 1 else f"lists of {lists} levels"
        wanted = "a plain value" if depth == 0 else "a list" if depth == 1 else f"a list of {depth} levels"
        return f"{stored}; LeRobot reads {wanted} for shape {list(shape)}"
    target = _TYPES[dtype]
    if inner == target or pa.types.is_null(inner):
        return ""
    if pa.types.is_struct(inner):
        return f"a struct; declared is {dtype}"
    return _cast_problem(path, name, target, dtype)


def _cast_problem(path: Path, name: str, target: pa.DataType, dtype: str) -> str:
    try:
        column = parquet_file(path).read(columns=[name]).column(0)
        for chunk in column.chunks:
            values = one_array(chunk)
            while is_list(values.type):
                values = one_array(values.flatten())
            values.cast(target)
    except (pa.ArrowException, NotImplementedError, ValueError, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        return f"values that are no {dtype} ({reason[:100]})"
    return ""


def _is_image(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return bool({field.name for field in kind} & {"bytes", "path"})
    text = is_text(kind) or pa.types.is_null(kind)
    return bool(text or pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or is_list(kind))
