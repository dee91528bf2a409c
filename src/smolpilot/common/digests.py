"""Digests of files in a JSON document beside them: what was damaged or changed since it was written is found and named.

The document holds under `digests` the XXH3-128 of each file and, under its own name, one of everything else that it
says. Against damage, not against an attacker, who would write other digests.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .hashing import content_name, known_digest, mapped_digest
from .json_input import read_json_file

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
        changed=tuple(key for key in there if _digest(folder / key) not in listed[key]),
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
        document = read_json_file(folder / DOCUMENT)
    except FileNotFoundError:
        return Differences(missing=(DOCUMENT,))
    except ValueError:
        return Differences(changed=(DOCUMENT,))
    if not isinstance(document, dict):
        return Differences(changed=(DOCUMENT,))
    return differences(document, DOCUMENT, folder, _files(folder))


def _digest(path: Path) -> str:
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
