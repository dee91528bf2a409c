"""Seeded changes of bytes and of a folder's entries: what a bad disk, a torn copy or a stranger does to a file."""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

INTERESTING = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)


@dataclass(frozen=True)
class Change:
    """One change of one file.

    what: its class, by which silent other values are allowed or not: `bytes` (blind to the format), `type` (a value
    became one of another type), `size` (far too much of it), `value` (another value of the same type), `names` (keys
    or columns gone, doubled or renamed), `order` (rows, lines or list entries gone, doubled or exchanged), `form`
    (other spelling of the same values), `entry` (the file became something else). text: for a person.
    """

    what: str
    text: str


def change_bytes(rng: random.Random, content: bytes, hot: tuple[range, ...] = ()) -> tuple[Change, bytes]:
    """Flip, cut, exchange, insert or overwrite bytes. hot: the parts to hit as often as all the rest together."""
    data = bytearray(content)
    operation = rng.choice(_BYTES)
    text = operation(rng, data, lambda: _place(rng, data, hot))
    return Change("bytes", text), bytes(data)


def _place(rng: random.Random, data: bytearray, hot: tuple[range, ...]) -> int:
    inside = [part for part in hot if part and part.stop <= len(data)]
    if inside and rng.random() < 0.5:
        part = rng.choice(inside)
        return rng.randrange(part.start, part.stop)
    return rng.randrange(len(data)) if data else 0


def _flip(rng: random.Random, data: bytearray, place: Callable[[], int]) -> str:
    number = rng.choice((1, 1, 1, 2, 8, 64))
    at = place()
    for _ in range(number):
        if data:
            data[at] ^= 1 << rng.randrange(8)
        at = place()
    return f"{number} bits flipped"


def _cut(rng: random.Random, data: bytearray, place: Callable[[], int]) -> str:
    at = place()
    del data[at:]
    return f"cut after {at} bytes"


def _remove(rng: random.Random, data: bytearray, place: Callable[[], int]) -> str:
    at, size = place(), rng.choice((1, 2, 16, 200, 4096))
    del data[at : at + size]
    return f"{size} bytes removed at {at}"


def _insert(rng: random.Random, data: bytearray, place: Callable[[], int]) -> str:
    at, size = place(), rng.choice((1, 4, 64, 4096))
    other = place()
    noise = rng.choice((bytes(size), b"\xff" * size, rng.randbytes(size), bytes(data[other : other + size])))
    data[at:at] = noise
    return f"{len(noise)} bytes inserted at {at}"


def _overwrite(rng: random.Random, data: bytearray, place: Callable[[], int]) -> str:
    at, size = place(), rng.choice((1, 8, 100, 1000))
    end = min(at + size, len(data))
    fill = rng.choice((b"\x00", b"\xff", b"[", b"9", None))
    data[at:end] = rng.randbytes(end - at) if fill is None else fill * (end - at)
    return f"{end - at} bytes at {at} overwritten with {fill!r}"


def _swap(rng: random.Random, data: bytearray, place: Callable[[], int]) -> str:
    size = rng.choice((1, 8, 64, 512))
    one, two = sorted((place(), place()))
    size = min(size, two - one, len(data) - two)
    data[one : one + size], data[two : two + size] = data[two : two + size], data[one : one + size]
    return f"{size} bytes at {one} and {two} exchanged"


def _number(rng: random.Random, data: bytearray, place: Callable[[], int]) -> str:
    form = rng.choice(("B", "<H", ">H", "<I", ">I", "<Q", ">Q"))
    size = struct.calcsize(form)
    value = rng.choice(INTERESTING) % (1 << 8 * size)
    at = min(place(), max(len(data) - size, 0))
    if len(data) >= size:
        data[at : at + size] = struct.pack(form, value)
    return f"the number {value} ({form}) at {at}"


def _append(rng: random.Random, data: bytearray, place: Callable[[], int]) -> str:
    data += rng.choice((b"\x00", b"\n", b"}", b"\xef\xbb\xbf", rng.randbytes(100), bytes(data)))
    return "bytes appended"


def _prepend(rng: random.Random, data: bytearray, place: Callable[[], int]) -> str:
    data[0:0] = rng.choice((b"\xef\xbb\xbf", b"\x00", b"\xff\xfe", b" ", b"\n\n", b"#EXTM3U\n", b"%!PS\n"))
    return "bytes put before"


_BYTES = (_flip, _flip, _flip, _cut, _remove, _insert, _overwrite, _swap, _number, _number, _append, _prepend)


def change_entry(rng: random.Random, path: Path, secret: Path, *, alone: bool) -> Change:
    """Make something else of the file at `path`; `secret` is a file that no verb has any business with.

    alone: the file is the whole input.
    """
    # A whole input has no neighbors that anybody would look at, and a pipe that the user names is waited for.
    name = rng.choice(sorted(name for name in _ENTRIES if name not in _OF_FOLDERS or not alone))
    _ENTRIES[name](path, secret)
    return Change("entry", name)


def _folder(path: Path, secret: Path) -> None:
    path.unlink()
    path.mkdir()


def _link(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


def _fifo(path: Path, secret: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _odd_neighbor(path: Path, secret: Path) -> None:
    # A name that is no UTF-8, as from a zip of another system.
    with Path(os.fsdecode(os.fsencode(path.parent) + b"/\xb2\xe2\xca\xd4" + os.fsencode(path.suffix))).open(
        "wb"
    ) as file:
        file.write(b"x")


_OF_FOLDERS = ("a pipe", "a neighbor whose name is no UTF-8")
_ENTRIES = {
    "removed": lambda path, secret: path.unlink(),
    "empty": lambda path, secret: path.write_bytes(b""),
    "a folder": _folder,
    "a link to a file elsewhere": lambda path, secret: _link(path, str(secret)),
    "a link to a device": lambda path, secret: _link(path, "/dev/zero"),
    "a link to itself": lambda path, secret: _link(path, path.name),
    "a link to nothing": lambda path, secret: _link(path, "nowhere"),
    "a pipe": _fifo,
    "a neighbor whose name is no UTF-8": _odd_neighbor,
    "a Git-LFS pointer": lambda path, secret: (
        path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n")
        and None
    ),
    "a page": lambda path, secret: path.write_bytes(b"<!doctype html><title>429</title>") and None,
}
