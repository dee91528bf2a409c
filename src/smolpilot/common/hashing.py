"""Digests of texts, files, folders and tensors: 32 hexadecimal digits of XXH3 with 128 bits.

As fast as memory, and every change is seen; what is looked for is change and damage, not an attack. What is kept under
a digest (frame caches, verdicts) was computed from equal content, or is not found.

A JSON document may be sealed: it then holds, under `digests`, the digest of each file beside it and, under its own
name, one of everything else that it says, so that a damaged or changed file is found and named.
"""

from __future__ import annotations

import errno
import hashlib
import json
import mmap
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xxhash

from .json_input import read_json_object

if TYPE_CHECKING:  # what needs no tensors is spared the import of torch
    from torch import Tensor

_GRAIN_NS = 1_000_000_000  # of the coarsest clocks of disks, FAT's aside


def content_name(*parts: object) -> str:
    """A name for what the parts describe: a digest of their bytes or texts, in order."""
    digest = xxhash.xxh3_128()
    for part in parts:
        _add(digest, part if isinstance(part, bytes) else str(part).encode())
    return digest.hexdigest()


def content_digest(content: bytes) -> str:
    """The digest that a file of this content has."""
    return xxhash.xxh3_128_hexdigest(content)


def file_digest(path: Path) -> str:
    """A digest of a file's content, read in blocks. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()


def mapped_digest(path: Path) -> str:
    """`file_digest` through a memory map, up to ten times as fast: for files that are mapped to be used, too."""
    with path.open("rb") as file:
        try:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                digest = xxhash.xxh3_128()
                digest.update(content)  # lets other threads run
                return digest.hexdigest()
        except (OSError, ValueError):  # it is empty, or the disk has no maps
            return hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()


def known_digest(path: Path, *, mapped: bool = False) -> str:
    """`file_digest`, where a file that stays as it is (place on the disk, size, times) is read once in a process."""
    state = path.stat()
    # Within the clock's grain of its last change a file can change again and keep its times.
    if time.time_ns() - max(state.st_mtime_ns, state.st_ctime_ns) < _GRAIN_NS:
        return _digest(path, mapped=mapped)
    return _known(path, mapped, state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)


def folder_digest(folder: Path) -> str:
    """A digest of all files below a folder: their paths in it and their contents. Raises OSError."""
    digest = xxhash.xxh3_128()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        _add(digest, path.relative_to(folder).as_posix().encode())
        _add(digest, known_digest(path, mapped=True).encode())
    return digest.hexdigest()


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """A digest of named tensors of any dtype: names, dtypes, shapes and numbers bit by bit.

    Neither the order of the mapping nor the layout in memory counts. Read where they are; a tensor that is not
    contiguous or on another device is copied, one at a time.
    """
    import torch

    digest = xxhash.xxh3_128()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        _add(digest, f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def b2sum(path: Path) -> str:
    """BLAKE2b-256 of a file, as `b2sum -l 256` prints it: what manifests hold, so that anyone can check them.

    Raises OSError. SHA-256 would be slower where the processor has no help for it.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=32)).hexdigest()


@cache
def _known(path: Path, mapped: bool, *_state: int) -> str:
    return _digest(path, mapped=mapped)


def _digest(path: Path, *, mapped: bool) -> str:
    return mapped_digest(path) if mapped else file_digest(path)


def _add(digest: xxhash.xxh3_128, part: bytes) -> None:
    """With its length in front, so that no two lists of parts read the same."""
    digest.update(len(part).to_bytes(8, "little"))
    digest.update(part)


DIGESTS = "digests"
DOCUMENT = "digests.json"
_SHOWN = 4

type Digests = Mapping[str, str | list[str]]
"""File -> its digest; a list names all that it may have, while a command changes the file."""


@dataclass(frozen=True)
class Differences:
    """Files whose content is another, that are gone, and that nobody wrote there; false when there are none."""

    changed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    added: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.changed or self.missing or self.added)

    @property
    def count(self) -> int:
        return len(self.changed) + len(self.missing) + len(self.added)

    def text(self) -> str:
        """`changed: config.json; missing: robot.yaml`."""
        parts = (("changed", self.changed), ("missing", self.missing), ("added", self.added))
        return "; ".join(f"{what}: {_listed(names)}" for what, names in parts if names)


def sealed(document: Mapping[str, Any], name: str, digests: Digests) -> dict[str, Any]:
    """The document, to be written as the file `name`, with the digests of other files and of itself."""
    # As it will be read: keys that are numbers become texts, and sort otherwise.
    content = json.loads(json.dumps({**document, DIGESTS: dict(digests)}))
    return {**content, DIGESTS: {**digests, name: _own(content, name)}}


def digests_of(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """The digests of files of a folder as they lie there now. Raises OSError."""
    return {name: mapped_digest(folder / name) for name in sorted(names)}


def is_sealed(document: Mapping[str, Any]) -> bool:
    """Whether a document holds digests."""
    return DIGESTS in document


def differences(document: Mapping[str, Any], name: str, folder: Path, present: Iterable[str]) -> Differences:
    """What is not as the document `name` says; `present`: the files of the folder that count. Raises OSError."""
    digests = document.get(DIGESTS)
    if not isinstance(digests, dict) or digests.get(name) != _own(document, name):
        return Differences(changed=(name,))
    listed = {key: value if isinstance(value, list) else [value] for key, value in digests.items() if key != name}
    found = set(present)
    there = [key for key in listed if key in found]
    return Differences(
        changed=tuple(key for key in there if _readable_digest(folder / key) not in listed[key]),
        missing=tuple(key for key in listed if key not in found),
        added=tuple(sorted(found - listed.keys())),
    )


def seal_folder(folder: Path) -> None:
    """Write `digests.json` of all other files of a folder (not below it)."""
    document = sealed({}, DOCUMENT, digests_of(folder, _files(folder)))
    (folder / DOCUMENT).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def folder_differences(folder: Path) -> Differences:
    """What is not as `digests.json` says; a damaged or missing one is itself what differs. Raises OSError."""
    try:
        document = read_json_object(folder / DOCUMENT)
    except FileNotFoundError:
        return Differences(missing=(DOCUMENT,))
    except ValueError:
        return Differences(changed=(DOCUMENT,))
    return differences(document, DOCUMENT, folder, _files(folder))


def _readable_digest(path: Path) -> str:
    """The digest of a file; empty where the disk does not give its content, or where it is no file."""
    if path.exists() and not path.is_file():  # a pipe or a device would be read for ever
        return ""
    try:
        return known_digest(path, mapped=True)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return ""


def _files(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name != DOCUMENT]


def _own(document: Mapping[str, Any], name: str) -> str:
    """The digest of what a document says, however it is spelled, without itself."""
    digests = document.get(DIGESTS)
    rest = {key: value for key, value in digests.items() if key != name} if isinstance(digests, Mapping) else digests
    return content_name(json.dumps({**document, DIGESTS: rest}, sort_keys=True))


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
