"""What becomes of each column of the tables: its type in the copy, filled cells, or left out; which rows are bad."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from smolpilot.common.keys import ACTION, STATE
from smolpilot.datasets.copy.tables import PANDAS_INDEX
from smolpilot.datasets.format.arrow import (
    LANGUAGE,
    is_list,
    is_number,
    is_text,
    leaf_of,
    list_items,
    one_array,
    storage,
    type_named,
    type_words,
    with_leaf,
    without_dictionary,
    word_of,
)
from smolpilot.datasets.format.features import INDEX_COLUMNS
from smolpilot.datasets.format.files import reading
from smolpilot.datasets.format.parquet_files import parquet_file
from smolpilot.datasets.tolerant.found_dataset import FoundDataset

from .repair_plan import Column, RepairPlan

type Mask = npt.NDArray[np.bool_]


# In the place of a number of values: the column holds no lists.
_NO_LIST = -2


@dataclass
class Facts:
    """A column in some rows: its types, and by row what is missing, not finite, and how many values a list has.

    `values` has those that are stored in another type than the declared one.
    """

    kinds: list[pa.DataType]
    empty: Mask
    odd: Mask
    widths: npt.NDArray[np.int64]
    values: list[pa.Array]

    @property
    def width(self) -> int | None:
        """How many values most rows have; None for a column that holds no lists."""
        values, times = np.unique(self.widths[~self.empty & (self.widths != _NO_LIST)], return_counts=True)
        return int(values[times.argmax()]) if len(values) else None


class Tables:
    """Looks at the columns of all files once; images stay where they are."""

    def __init__(self, dataset: FoundDataset, renamed: Mapping[str, str], declared: Mapping[str, Any]) -> None:
        self._recording = dataset
        wanted = {name: type_named(entry.get("dtype")) for name, entry in declared.items() if isinstance(entry, dict)}
        inside = {key for key, camera in dataset.cameras.items() if not camera.is_video}
        self.facts: dict[Path, dict[str, Facts]] = {}
        for path in dict.fromkeys(rows.path for rows in dataset.rows.values()):
            self.facts[path] = {name: facts for name, facts in _look(path, renamed, wanted) if name not in inside}
        self.names = list(dict.fromkeys(name for found in self.facts.values() for name in found))

    def has(self, episode: int, name: str) -> bool:
        """Whether the episode's table has the column."""
        return name in self.facts[self._recording.rows[episode].path]

    def of(self, name: str, episodes: Iterable[int]) -> Facts | None:
        """The column in the rows of these episodes; None where none of them has it."""
        rows = [self._recording.rows[episode] for episode in episodes]
        parts = [(self.facts[one.path][name], one.positions) for one in rows if name in self.facts[one.path]]
        if not parts:
            return None
        files = {id(facts): facts for facts, _ in parts}.values()
        return Facts(
            list(dict.fromkeys(kind for facts in files for kind in facts.kinds)),
            np.concatenate([facts.empty[places] for facts, places in parts]),
            np.concatenate([facts.odd[places] for facts, places in parts]),
            np.concatenate([facts.widths[places] for facts, places in parts]),
            [values for facts in files for values in facts.values],
        )

    def width(self, name: str, episodes: Iterable[int]) -> int | None:
        """How many values most rows of these episodes have; None for a column that holds no lists."""
        facts = self.of(name, episodes)
        return None if facts is None else facts.width

    def bad_rows(
        self, episode: int, positions: npt.NDArray[np.int64], widths: dict[str, int | None]
    ) -> dict[str, Mask]:
        """For state and action: which of the rows hold no usable value, by the reason."""
        found: dict[str, Mask] = {}
        for name, width in widths.items():
            facts = self.facts[self._recording.rows[episode].path].get(name)
            if facts is None:
                continue
            listed = ~facts.empty & (facts.widths != _NO_LIST)
            other = listed & (facts.widths != width) if width is not None else np.zeros_like(listed)
            for reason, mask in (
                (f"rows without a value in '{name}'", facts.empty),
                (f"NaN or infinite numbers in '{name}'", facts.odd),
                (f"rows of another width in '{name}'", other),
            ):
                if mask[positions].any():
                    found[reason] = np.asarray(mask[positions])
        return found


def _look(
    path: Path, renamed: Mapping[str, str], wanted: Mapping[str, pa.DataType | None]
) -> Iterable[tuple[str, Facts]]:
    file = parquet_file(path)
    for place, name in enumerate(file.schema_arrow.names):
        if file.schema_arrow.names.index(name) != place:
            continue
        kind = storage(file.schema_arrow.field(place).type)  # of LeRobot's matrices, where its packages are imported
        new, count = renamed.get(name, name), file.metadata.num_rows
        if pa.types.is_struct(kind) or pa.types.is_binary(kind):
            nothing = np.zeros(count, dtype=np.bool_)
            yield new, Facts([kind], nothing, nothing, np.full(count, _NO_LIST), [])
            continue
        with reading(path, "data file"):
            column = without_dictionary(one_array(file.read(columns=[name]).column(0)))
        yield new, _facts(kind, column, wanted.get(new))


def _facts(kind: pa.DataType, values: pa.Array, wanted: pa.DataType | None) -> Facts:
    count = len(values)
    empty, odd = _missing(values), np.zeros(count, dtype=np.bool_)
    widths: npt.NDArray[np.int64] = np.full(count, _NO_LIST)
    inner, level, owner = values, 0, np.arange(count)
    while is_list(inner.type):
        lengths = np.asarray(pc.fill_null(pc.list_value_length(inner), 0), dtype=np.int64)
        if level == 0:
            widths = lengths
        elif len(lengths) and (lengths != lengths[0]).any():
            # Ragged deeper down: no row of it has a shape.
            widths = np.full(count, -1)
        owner, inner, level = np.repeat(owner, lengths), list_items(inner), level + 1
    missing = _missing(inner)
    empty[owner[missing]] = True
    if pa.types.is_floating(inner.type) and len(inner):
        numbers = np.asarray(inner.to_numpy(zero_copy_only=False), dtype=np.float64)
        odd[owner[~np.isfinite(numbers) & ~missing]] = True
    # Values are looked at again only where they are to become another type.
    fits = is_number(inner.type) and wanted is not None and wanted != inner.type
    return Facts([kind], empty, odd, widths, [inner] if fits else [])


def _missing(values: pa.Array) -> Mask:
    return np.array(values.is_null().to_numpy(zero_copy_only=False), dtype=np.bool_)


def plan_columns(tables: Tables, plan: RepairPlan, kept: list[int], declared: Mapping[str, Any]) -> None:
    """Decide for every column of the kept episodes' tables; the rules stand in docs/dataset-checks.md.

    Images inside the tables stay as they are; what has been left out already is not looked at.
    """
    for name in tables.names:
        facts = tables.of(name, kept)
        if facts is None or name in plan.left_out:
            continue
        if name in INDEX_COLUMNS:
            _index_column(name, facts, plan)
            continue
        lacking = sum(not tables.has(episode, name) for episode in kept)
        without = f"{lacking} of {len(kept)} episodes have no such column" if lacking else ""
        _feature_column(name, facts, without, declared.get(name), plan)


def _index_column(name: str, facts: Facts, plan: RepairPlan) -> None:
    kind = pa.float32() if name == "timestamp" else pa.int64()
    stored = sorted({type_words(one) for one in facts.kinds} - {type_words(kind)})
    if stored:
        plan.actions.append(
            f"Column {name} written as {type_words(kind)}, the type that the format fixes; "
            f"it was {' and '.join(stored)}."
        )
    widths = facts.widths[facts.widths != _NO_LIST]
    plan.columns[name] = Column(kind, scalar=bool(len(widths) and (widths == 1).all()))


def _feature_column(name: str, facts: Facts, without: str, entry: Any, plan: RepairPlan) -> None:
    why, kinds = _unfit(name, facts, without, declared=isinstance(entry, dict)), facts.kinds
    if why:
        plan.left_out.add(name)
        plan.actions.append(f"Column '{name}' left out: {why}.")
        return
    if name in LANGUAGE or not all(is_number(leaf_of(kind)) for kind in kinds):
        texts, empty = all(is_text(leaf_of(kind)) for kind in kinds), int(facts.empty.sum())
        fill = texts and bool(empty) and not any(is_list(kind) for kind in kinds)
        if fill:
            plan.actions.append(f"Column '{name}': {empty} empty cells became empty texts.")
        column = Column(pa.string() if texts and not is_list(kinds[0]) else kinds[0], fill=fill)
    else:
        column = _numbers(name, facts, entry, plan)
    if not isinstance(entry, dict) and described(name, column, 1) is None:
        plan.left_out.add(name)
        plan.actions.append(f"Column '{name}' left out: meta/info.json does not describe it.")
        return
    plan.columns[name] = column


def _numbers(name: str, facts: Facts, entry: Any, plan: RepairPlan) -> Column:
    listed = all(is_list(kind) and not is_list(kind.value_type) for kind in facts.kinds)
    scalar = listed and facts.width == 1
    if scalar:
        plan.actions.append(f"Column '{name}': lists of one value became plain values, as shape [1] is stored.")
    leaf = _leaf(name, facts, entry, plan)
    return Column(leaf if scalar else with_leaf(min(facts.kinds, key=str), leaf), scalar=scalar)


def _unfit(name: str, facts: Facts, without: str, *, declared: bool) -> str:
    """Why a column cannot be in the copy; '' when it can. State and action always can: their bad rows are gone."""
    if PANDAS_INDEX.fullmatch(name):
        return "it is pandas' own row index, no feature"
    if name in (STATE, ACTION):
        return ""
    if without or name in LANGUAGE:
        return without
    leaves = [leaf_of(kind) for kind in facts.kinds]
    texts = all(is_text(leaf) for leaf in leaves)
    empty, odd, total = int(facts.empty.sum()), int(facts.odd.sum()), len(facts.empty)
    if not texts and not all(is_number(leaf) for leaf in leaves):
        return f"LeRobot has no feature of the type {leaves[0]}"
    if texts and any(is_list(kind) for kind in facts.kinds):
        return "" if declared and not empty else "lists of texts are no feature of LeRobot's"
    if empty and (not texts or empty == total):
        return f"{empty} of its {total} cells are empty, which LeRobot cannot read, and no policy reads it"
    if odd:
        return f"{odd} of its {total} rows are NaN or infinite, and no policy reads it"
    widths = set(facts.widths.tolist()) - {_NO_LIST}
    if len(widths) > 1 or -1 in widths or 0 in widths:
        return "its rows have lists of different lengths, which LeRobot cannot read"
    return ""


def _leaf(name: str, facts: Facts, entry: Any, plan: RepairPlan) -> pa.DataType:
    """The type of the values: the declared one where it holds every value, else the widest that is stored."""
    stored = list(dict.fromkeys(leaf_of(kind) for kind in facts.kinds))
    wanted = type_named(entry.get("dtype")) if isinstance(entry, dict) else None
    words = " and ".join(type_words(leaf) for leaf in stored)
    if wanted is not None and stored == [wanted]:
        return wanted
    if wanted is not None and is_number(wanted) and all(_holds(values, wanted) for values in facts.values):
        plan.actions.append(
            f"Column '{name}' written as {type_words(wanted)}, as it is declared; it was {words}, "
            "every value is the same."
        )
        return wanted
    if len(stored) == 1:
        return stored[0]
    widest = pa.unify_schemas([pa.schema([("x", leaf)]) for leaf in stored], promote_options="permissive").field("x")
    plan.actions.append(
        f"Column '{name}' written as {type_words(widest.type)}, which holds every value; it was {words}."
    )
    return widest.type


def _holds(values: pa.Array, kind: pa.DataType) -> bool:
    """Whether every value is the same in another type."""
    try:
        there = values.cast(kind, safe=False)
        back = there.cast(values.type, safe=False)
    except (pa.ArrowException, ValueError):
        return False
    one, other = (np.asarray(part.drop_null().to_numpy(zero_copy_only=False)) for part in (values, back))
    return bool(np.array_equal(one, other, equal_nan=one.dtype.kind == "f"))


def described(name: str, column: Column, width: int | None) -> dict[str, Any] | None:
    """The feature of a column that info.json does not know."""
    word = word_of(leaf_of(column.kind))
    nested = is_list(column.kind) and is_list(column.kind.value_type)
    if word is None or nested or name in LANGUAGE:
        return None
    return {"dtype": word, "shape": [width if is_list(column.kind) and width else 1], "names": None}


def converted(column: pa.ChunkedArray, kind: pa.DataType, *, scalar: bool, fill: bool) -> pa.Array | pa.ChunkedArray:
    """The column as `kind`; the caller knows that every value fits. `scalar`: lists of one value become the value."""
    if column.type == kind and not fill:
        return column
    values = without_dictionary(one_array(column))
    if scalar:
        values = values.flatten()
    if fill:
        values = pc.fill_null(values, "")
    return values if values.type == kind else values.cast(kind, safe=False)
