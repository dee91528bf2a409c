"""Fields of the episode list that no reader needs, such as a recorder's notes: they stay with their episodes.

A table has one type for each column. Where the values of a field have several (1 here, "a" there), or one that no table
has (10**30, an empty object), its column holds them as JSON texts and is marked, so that whoever reads it has the
values again.
"""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

_LAYOUT = ("episode_index", "tasks", "length", "dataset_from_index", "dataset_to_index")
_PLACES = ("data/", "videos/", "stats/", "meta/episodes/")
_MARK = {b"smolpilot": b"json"}
_NO_COLUMN = (pa.ArrowException, ValueError, TypeError, OverflowError, AttributeError, RecursionError)


@dataclass(frozen=True)
class FieldColumns:
    """The columns of fields in a table; `texts` are those whose values stand there as JSON."""

    columns: dict[str, pa.Field]
    texts: frozenset[str]

    def row(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The cells of one episode."""
        return {name: _json(value) if name in self.texts else value for name, value in fields.items()}


def is_own(name: str) -> bool:
    """Whether a key of the episode list is a field of the recorder's, not of the format."""
    return name not in _LAYOUT and not name.startswith(_PLACES)


def own_fields(row: Mapping[str, Any], schema: pa.Schema | None = None) -> dict[str, Any]:
    """The fields of one row of an episode list; of a table with this schema, with their values as they were."""
    fields = {name: value for name, value in row.items() if is_own(name)}
    if schema is None:
        return fields
    for name in fields:
        place = schema.get_field_index(name)
        marked = place >= 0 and (schema.field(place).metadata or {}).get(b"smolpilot") == b"json"
        if marked and isinstance(fields[name], str):
            with suppress(ValueError, RecursionError):
                fields[name] = json.loads(fields[name])
    return fields


def columns_of(rows: Sequence[Mapping[str, Any]]) -> FieldColumns:
    """The columns for the fields of all episodes."""
    columns: dict[str, pa.Field] = {}
    texts = []
    for name in dict.fromkeys(name for row in rows for name in row):
        kind = _kind(name, [row.get(name) for row in rows])
        if kind is None:
            texts.append(name)
        columns[name] = pa.field(name, kind) if kind is not None else pa.field(name, pa.string(), metadata=_MARK)
    return FieldColumns(columns, frozenset(texts))


def plain_field(value: Any) -> Any:
    """A value as JSON has it: times and decimal numbers as text, bytes in base 64; others as they are."""
    if isinstance(value, Mapping):
        return {str(key): plain_field(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain_field(part) for part in value]
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return str(value) if isinstance(value, Decimal | timedelta) else value


def same_field(a: Any, b: Any) -> bool:
    """Whether two values are the same; NaN is NaN, and true is not 1."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(same_field(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same_field, a, b))
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, float) and isinstance(b, float) and math.isnan(a):
        return math.isnan(b)
    return bool(a == b)


def _json(value: Any) -> str:
    return json.dumps(plain_field(value))


def _kind(name: str, values: list[Any]) -> pa.DataType | None:
    """The type in which a table gives all values back as they are; None where there is none."""
    try:
        table = pa.table({name: pa.array(values)})
        file = io.BytesIO()
        pq.write_table(table, file)
        found = pq.read_table(file)
    except _NO_COLUMN:
        return None
    whole = found.schema.field(0).type == table.schema.field(0).type
    return table.schema.field(0).type if whole and same_field(found.column(0).to_pylist(), values) else None
