"""Seeded changes of weight files and videos that know the format."""

from __future__ import annotations

import json
import random
import struct
from typing import Any

import numpy as np

from .changes import INTERESTING, Change, change_bytes
from .documents import change_value, spell

_SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4}


def change_weights(rng: random.Random, content: bytes) -> tuple[Change, bytes]:
    """Change a safetensors file: its bytes, its header as JSON, or the numbers of one tensor."""
    (size,) = struct.unpack("<Q", content[:8])
    roll = rng.random()
    if roll < 0.35:
        return change_bytes(rng, content, hot=(range(8), range(8, 8 + size)))
    header: dict[str, Any] = json.loads(content[8 : 8 + size])
    names = [name for name in header if name != "__metadata__"]
    name = rng.choice(names)
    if roll < 0.65:
        change, text = _numbers(rng, content, 8 + size, name, header[name])
        return change, text
    if roll < 0.9:
        change = _header(rng, header, names, name)
        return change, _with_header(header, content[8 + size :])
    change, document = change_value(rng, {"__metadata__": header.get("__metadata__", {}), name: header[name]})
    if isinstance(document, dict):
        document = {**{key: value for key, value in header.items() if key not in ("__metadata__", name)}, **document}
    return Change("type", f"header: {change.text}"), _with_header(document, content[8 + size :])


def _with_header(header: Any, rest: bytes) -> bytes:
    text = spell(header).encode()
    return struct.pack("<Q", len(text)) + text + rest


def _numbers(rng: random.Random, content: bytes, start: int, name: str, entry: dict[str, Any]) -> tuple[Change, bytes]:
    data = bytearray(content)
    low, high = (start + at for at in entry["data_offsets"])
    width = _SIZES[entry["dtype"]]
    values = np.frombuffer(bytes(data[low:high]), {8: "<f8", 4: "<f4", 2: "<f2"}[width]).copy()
    if not len(values):
        return Change("form", "nothing"), content
    one = rng.choice((slice(None), slice(rng.randrange(len(values)), None), slice(0, 1)))
    what = rng.choice((float("nan"), float("inf"), -float("inf"), 1e38, 0.0, "scaled", "negative", "shuffled"))
    with np.errstate(all="ignore"):
        if what == "scaled":
            values[one] *= 1000
        elif what == "negative":
            values[one] *= -1
        elif what == "shuffled":
            values = values[::-1].copy()
        else:
            values[one] = what
    data[low:high] = values.tobytes()
    odd = isinstance(what, float) and what != 0.0
    return Change("type" if odd else "value", f"{name}: {what} in {one}"), bytes(data)


def _header(rng: random.Random, header: dict[str, Any], names: list[str], name: str) -> Change:
    entry = header[name]
    operation = rng.choice(("dtype", "shape", "offsets", "removed", "renamed", "exchanged", "added", "metadata"))
    if operation == "dtype":
        entry["dtype"] = rng.choice(("F64", "F32", "F16", "BF16", "I64", "I32", "U8", "BOOL", "F8_E4M3", "X", "U32"))
    elif operation == "shape":
        shape = entry["shape"]
        entry["shape"] = rng.choice([shape[::-1], [*shape, 1], [-1], [0], [2**40, *shape], [2**63, 2**63], []])
    elif operation == "offsets":
        low, high = entry["data_offsets"]
        entry["data_offsets"] = rng.choice([[high, low], [low, high + 4], [low + 4, high], [0, 0], [-1, 2**62], [low]])
    elif operation == "removed":
        del header[name]
    elif operation == "renamed":
        new = rng.choice(
            ["", "../x", f"{name}x", "x" * 5000, f"{name}.weight", "__metadata__", "\ud800", ".".join("a" * 900)]
        )
        header[new] = header.pop(name)
    elif operation == "exchanged":
        other = rng.choice(names)
        header[name], header[other] = header[other], header[name]
        name = f"{name} and {other}"
    elif operation == "added":
        header["more.weight"] = {"dtype": "F32", "shape": [0], "data_offsets": [entry["data_offsets"][1]] * 2}
    else:
        header["__metadata__"] = rng.choice([{}, {"format": "tf"}, 5, {"a": 5}, {"a": "x" * 100_000}, None])
    return Change("names" if operation in ("removed", "renamed", "added") else "type", f"header: {name}: {operation}")


_BOXES = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"dinf", b"edts", b"udta"}


def boxes(content: bytes, start: int = 0, end: int | None = None) -> list[tuple[int, int, bytes]]:
    """The boxes of an mp4 file: where each begins, where it ends, its type; those inside others, too."""
    found, at, end = [], start, len(content) if end is None else end
    while at + 8 <= end:
        size, name = struct.unpack(">I4s", content[at : at + 8])
        if size < 8 or at + size > end:
            break
        found.append((at, at + size, name))
        if name in _BOXES:
            found += boxes(content, at + 8, at + size)
        at += size
    return found


def change_video(rng: random.Random, content: bytes) -> tuple[Change, bytes]:
    """Change an mp4 file: its bytes, or one box of it."""
    found = boxes(content)
    if rng.random() < 0.3 or not found:
        return change_bytes(rng, content, hot=tuple(range(low, high) for low, high, name in found if name == b"moov"))
    low, high, name = rng.choice([box for box in found if box[2] != b"free"])
    data = bytearray(content)
    operation = rng.choice(("type", "size", "number", "number", "number", "removed", "doubled", "noise"))
    if operation == "type":
        data[low + 4 : low + 8] = rng.choice(
            (b"free", b"junk", b"\x00\x00\x00\x00", b"trak", b"\xff\xfe\xfd\xfc", b"stsd")
        )
    elif operation == "size":
        value = rng.choice((0, 1, 8, high - low + 8, high - low - 4, *INTERESTING)) % 2**32
        data[low : low + 4] = struct.pack(">I", value)
    elif operation == "number" and high - low > 12:
        at = rng.randrange(low + 8, high - 3)
        data[at : at + 4] = struct.pack(">I", rng.choice(INTERESTING) % 2**32)
    elif operation == "removed":
        del data[low:high]
    elif operation == "doubled":
        data[high:high] = data[low:high]
    else:
        at = rng.randrange(low + 8, high) if high > low + 8 else low
        data[at : at + 8] = rng.randbytes(min(8, high - at))
    return Change("bytes", f"box {name!r} at {low}: {operation}"), bytes(data)
