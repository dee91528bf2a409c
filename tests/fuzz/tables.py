"""Seeded changes of parquet files that know the format, and of the pictures in their cells."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from .changes import Change, change_bytes
from .documents import NUMBERS, RAW, TEXTS

COLUMNS: list[Callable[[int], pa.Array]] = [
    lambda n: pa.nulls(n),
    lambda n: pa.nulls(n, pa.int64()),
    lambda n: pa.array(["x"] * n),
    lambda n: pa.array([float("nan")] * n),
    lambda n: pa.array([float("inf")] * n, pa.float32()),
    lambda n: pa.array([[]] * n, pa.list_(pa.float32())),
    lambda n: pa.array([[1.0]] * n, pa.list_(pa.float32())),
    lambda n: pa.array([[1.0] * (i % 3) for i in range(n)], pa.list_(pa.float32())),
    lambda n: pa.array([[[1.0]]] * n, pa.list_(pa.list_(pa.float64()))),
    lambda n: pa.array([["x", "y"]] * n),
    lambda n: pa.array([[None, 1.0]] * n, pa.list_(pa.float32())),
    lambda n: pa.array([2**62] * n),
    lambda n: pa.array([2**64 - 1] * n, pa.uint64()),
    lambda n: pa.array([-1] * n),
    lambda n: pa.array([True] * n),
    lambda n: pa.array([{"a": 1}] * n),
    lambda n: pa.array([{"bytes": b"x", "path": "../../secret.png"}] * n),
    lambda n: pa.array([b"\x00\xff"] * n),
    lambda n: pa.array([None, *[1.5] * (n - 1)][:n]),
    lambda n: pa.array([10**6] * n, pa.timestamp("us")),
    lambda n: pa.array(["x"] * n).dictionary_encode(),
    lambda n: pa.array([{"a": 1}.items()] * n, pa.map_(pa.string(), pa.int64())),
]
CASTS = (
    pa.int8(), pa.int32(), pa.uint64(), pa.float16(), pa.float32(), pa.float64(), pa.string(), pa.large_string(),
    pa.binary(), pa.bool_(), pa.decimal128(30, 6), pa.timestamp("ms"),
)  # fmt: skip


def change_table(rng: random.Random, content: bytes) -> tuple[Change, bytes]:
    """Change a parquet file that was sound."""
    table = pq.read_table(io.BytesIO(content))
    operation = rng.choice(_TABLE)
    for _ in range(20):
        try:
            change, changed = operation(rng, table)
            return change, _written(changed, **_form(rng, change))
        except (pa.ArrowException, ValueError, TypeError, OverflowError):
            operation = rng.choice(_TABLE)  # no such conversion
    return Change("form", "written again"), _written(table)


def _written(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def _form(rng: random.Random, change: Change) -> dict[str, Any]:
    if change.what != "form":
        return {}
    return rng.choice(
        [
            {"row_group_size": 1}, {"compression": "zstd"}, {"compression": "none"}, {"version": "1.0"},
            {"use_dictionary": False}, {"data_page_version": "2.0"}, {"write_statistics": False},
            {"store_schema": False},
        ]
    )  # fmt: skip


def _pick(rng: random.Random, table: pa.Table) -> tuple[int, str]:
    place = rng.randrange(table.num_columns)
    return place, table.column_names[place]


def _other_column(rng: random.Random, table: pa.Table) -> tuple[Change, pa.Table]:
    place, name = _pick(rng, table)
    values = rng.choice(COLUMNS)(len(table))
    return Change("type", f"{name} is {values.type}"), table.set_column(place, name, values)


def _cast(rng: random.Random, table: pa.Table) -> tuple[Change, pa.Table]:
    place, name = _pick(rng, table)
    column = table.column(place)
    target = rng.choice(CASTS)
    if pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type):
        target = rng.choice((pa.list_(target), pa.large_list(column.type.value_type)))
    return Change("type", f"{name} cast to {target}"), table.set_column(place, name, column.cast(target))


def _one_value(rng: random.Random, table: pa.Table) -> tuple[Change, pa.Table]:
    place, name = _pick(rng, table)
    column = table.column(place)
    values, row = column.to_pylist(), rng.randrange(len(table))
    old = values[row]
    usable = [number for number in NUMBERS if not isinstance(number, str)]
    if isinstance(old, list) and old:
        values[row] = rng.choice(
            [old[:-1], [*old, old[0]], [], None, [None] * len(old), [rng.choice(usable), *old[1:]]]
        )
    elif isinstance(old, str):
        values[row] = rng.choice([None, *[text for text in TEXTS if not text.startswith(RAW) and "\ud800" not in text]])
    elif isinstance(old, dict):
        values[row] = rng.choice([None, {}, {"bytes": None, "path": "../../secret.png"}])
    else:
        values[row] = rng.choice([None, *usable])
    text = f"{name}[{row}] is {str(values[row])[:60]!r} instead of {str(old)[:60]!r}"
    return Change("value", text), table.set_column(place, name, pa.array(values, column.type))


def _removed(rng: random.Random, table: pa.Table) -> tuple[Change, pa.Table]:
    place, name = _pick(rng, table)
    return Change("names", f"{name} removed"), table.remove_column(place)


def _renamed(rng: random.Random, table: pa.Table) -> tuple[Change, pa.Table]:
    place, name = _pick(rng, table)
    new = rng.choice([text for text in (*TEXTS[:-1], table.column_names[0]) if "\ud800" not in text])
    names = [new if i == place else other for i, other in enumerate(table.column_names)]
    return Change("names", f"{name} renamed: {new[:60]!r}"), table.rename_columns(names)


def _added(rng: random.Random, table: pa.Table) -> tuple[Change, pa.Table]:
    _, name = _pick(rng, table)
    new = rng.choice([name, "", "../x", "x" * 3000, "extra"])
    return Change("names", f"a column {new[:60]!r} more"), table.append_column(new, rng.choice(COLUMNS)(len(table)))


def _rows(rng: random.Random, table: pa.Table) -> tuple[Change, pa.Table]:
    n = len(table)
    order = list(range(n))
    operation = rng.choice(("none", "half", "doubled", "reversed", "shuffled", "first twice", "last gone"))
    order = {
        "none": [], "half": order[: n // 2], "doubled": order * 2, "reversed": order[::-1],
        "shuffled": rng.sample(order, n), "first twice": [*order[:1], *order], "last gone": order[:-1],
    }[operation]  # fmt: skip
    return Change("order", f"rows: {operation}"), table.take(pa.array(order, pa.int64()))


def _columns_order(rng: random.Random, table: pa.Table) -> tuple[Change, pa.Table]:
    names = rng.sample(table.column_names, table.num_columns)
    return Change("form", "columns in another order"), table.select(names)


def _metadata(rng: random.Random, table: pa.Table) -> tuple[Change, pa.Table]:
    old = dict(table.schema.metadata or {})
    key = rng.choice([b"huggingface", b"pandas", b"ARROW:schema", b"x", *old])
    old[key] = rng.choice(
        [b"{", b"null", b"[" * 100_000, b"\xff\xfe", b'{"info": {"features": 5}}', b'{"index_columns": [5]}']
    )
    return Change("bytes", f"metadata {key!r}: {old[key][:30]!r}"), table.replace_schema_metadata(old)


def _same(rng: random.Random, table: pa.Table) -> tuple[Change, pa.Table]:
    return Change("form", "written with other settings"), table


_TABLE = (
    _other_column, _other_column, _cast, _cast, _one_value, _one_value, _one_value, _removed, _renamed, _added, _rows,
    _columns_order, _metadata, _same,
)  # fmt: skip


def change_picture_cell(rng: random.Random, content: bytes) -> tuple[Change, bytes]:
    """Change one encoded picture in a table whose pictures are in cells of {bytes, path}."""
    table = pq.read_table(io.BytesIO(content))
    name = next(name for name in table.column_names if name.startswith("observation.images."))
    column = table.column(name)
    cells, row = column.to_pylist(), rng.randrange(len(table))
    changed: bytes | None
    if rng.random() < 0.5:
        change, changed = change_bytes(rng, cells[row]["bytes"], hot=(range(60),))
    else:
        change, changed = _other_picture(rng, cells[row]["bytes"])
    cells[row] = {**cells[row], "bytes": changed}
    table = table.set_column(table.column_names.index(name), name, pa.array(cells, column.type))
    return Change(change.what, f"{name}[{row}]: {change.text}"), _written(table)


def _other_picture(rng: random.Random, content: bytes) -> tuple[Change, bytes | None]:
    picture = Image.open(io.BytesIO(content)).convert("RGB")
    width, height = picture.size
    choice = rng.choice(("format", "size", "mode", "eps", "nothing", "bomb", "other pixels"))
    if choice == "format":
        name = rng.choice(("BMP", "GIF", "TIFF", "WEBP", "JPEG", "PPM", "ICO", "PCX", "TGA", "DDS"))
        return Change("type", f"a picture of format {name}"), _encoded(picture, name)
    if choice == "size":
        size = rng.choice([(1, 1), (width + 1, height), (height * 2, width * 3), (width, 1)])
        return Change("value", f"a picture of {size}"), _encoded(picture.resize(size), "PNG")
    if choice == "mode":
        mode = rng.choice(("L", "RGBA", "P", "1", "I;16", "LA", "I"))
        return Change("value", f"a picture of mode {mode}"), _encoded(picture.convert("L").convert(mode), "PNG")
    if choice == "eps":
        return Change("type", "PostScript"), b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\nshowpage\n%%EOF\n"
    if choice == "nothing":
        return Change("type", "no picture"), rng.choice((b"", None, b"\x00", b"GIF89a", b"\x89PNG\r\n\x1a\n"))
    if choice == "bomb":
        return Change("size", "a picture of 13000 x 13000"), _bomb()
    return Change("value", "other pixels"), _encoded(Image.fromarray(255 - np.asarray(picture)), "PNG")


@cache
def _bomb() -> bytes:
    """A PNG of 13000 x 13000 black pixels in 160 kB; Pillow would take a second to write it."""
    side = 13_000
    rows = zlib.compress(bytes((side // 8 + 1) * side), 1)
    parts = ((b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)), (b"IDAT", rows), (b"IEND", b""))
    chunks = (
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _encoded(picture: Image.Image, name: str) -> bytes:
    sink = io.BytesIO()
    picture.save(sink, format=name)
    return sink.getvalue()
