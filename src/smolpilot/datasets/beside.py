"""Files beside the recorded ones: card, license, notes. Which of them copies take along, under which name, and which
they leave out."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from smolpilot.common.safe_paths import MAX_BYTES, OwnFiles, below, is_utf8, require_readable, walk
from smolpilot.common.text import plain

from .format.paths import OWN_META

MANIFEST = "meta/smolpilot_manifest.json"
"""Digests of all files of a dataset that smolpilot wrote."""
_RECORDED = ("data", "videos")
_TOOLS = (".git", ".cache", ".huggingface")
_KEPT_HIDDEN = (".gitattributes", ".gitignore")
_HISTORY = "meta/smolpilot_history.json"


@dataclass
class Beside:
    """`files` are relative paths of what comes along, each with the one in the copy; `left_out` others, with why."""

    root: Path
    files: dict[Path, Path] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def copy_to(self, folder: Path) -> None:
        """Copy what comes along; a file that is there already stays."""
        for relative, name in self.files.items():
            target = below(folder, name)
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self.root / relative, target)

    def warnings(self) -> list[str]:
        """What is left out, and what has another name in the copy."""
        said = [f"{name} is left out: it {reason}." for name, reason in self.left_out.items()]
        for relative, name in self.files.items():
            if relative != name:
                old = plain(relative.as_posix())
                said.append(f"{old} is called {name.as_posix()} in the copy: its name was no UTF-8.")
        return said


def files_beside(root: Path) -> Beside:
    """The files of a dataset folder that are neither recorded nor describe what is.

    Only regular files in the folder itself, or links within it (in the hub's cache: to its blobs). What else lies
    there is left out, hidden files too (`.env` may hold secrets), but for those that a repository needs. The folders of
    git and of the hub are no part of a dataset. Raises PermissionError for a file that may not be read.
    """
    found, places = Beside(root), OwnFiles(root)
    for folder, folders, names in walk(root):
        inside = folder.relative_to(root)
        if folder == root:
            folders[:] = [name for name in folders if name not in _RECORDED]
        if inside.parts[:1] == ("meta",) and "episodes" in folders and len(inside.parts) == 1:
            folders.remove("episodes")
        for name in [name for name in folders if name.startswith(".")]:
            folders.remove(name)
            if name not in _TOOLS:
                found.left_out[_shown(inside / name)] = "is a hidden folder"
        for name in names:
            relative = inside / name
            if folder == root and name in (*_RECORDED, *_TOOLS):
                continue
            if (inside.parts == ("meta",) and name in (*OWN_META, "episodes")) and relative.as_posix() != _HISTORY:
                continue
            reason = _why_not(places, root / relative)
            if reason:
                found.left_out[_shown(relative)] = reason
                continue
            require_readable(root / relative)
            found.files[relative] = Path(_utf8(relative.as_posix()))
    return _without_doubles(found)


def visible_files(folder: Path) -> list[Path]:
    """All files in a folder and below it, sorted; those that are hidden (.git, .cache) left out."""
    found = []
    for place, folders, names in folder.walk():
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [place / name for name in names if not name.startswith(".")]
    return sorted(path for path in found if path.is_file())


def _why_not(places: OwnFiles, path: Path) -> str:
    if path.name.startswith(".") and path.name not in _KEPT_HIDDEN:
        return "is a hidden file"
    reason = places.why_not(path)
    if reason and "UTF-8" not in reason:
        return reason
    if path.is_dir():
        return "is a link to a folder"
    return "" if path.is_file() else "is a link that leads nowhere"


def _shown(relative: Path) -> str:
    return plain(relative.as_posix(), 300)


def _utf8(text: str) -> str:
    """Bytes that are no UTF-8 spelled as in an address: `caf%E9`."""
    return "".join(letter if is_utf8(letter) else f"%{ord(letter) - 0xDC00:02X}" for letter in text)


def _without_doubles(found: Beside) -> Beside:
    """Without files whose name in the copy is that of another one, or longer than a name can be."""
    taken = {name for relative, name in found.files.items() if relative == name}
    for relative, name in list(found.files.items()):
        if relative != name and (name in taken or max(map(len, map(str.encode, name.parts))) > MAX_BYTES):
            del found.files[relative]
            found.left_out[_shown(relative)] = "has a name that is no UTF-8"
        taken.add(name)
    return found
