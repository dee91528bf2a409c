"""Outputs that appear whole or not at all: write beside the target, fsync, rename."""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from smolpilot.errors import UsageError


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield a temporary sibling folder that becomes `path` when the block ends without an error.

    After an error or a kill `path` does not exist; left-overs of killed runs are removed by the next run.
    Raises UsageError when `path` exists already.
    """
    target = Path(path)
    refuse_existing(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(target)
    temporary = target.parent / f".{target.name}.{_owner()}-{uuid.uuid4().hex[:8]}.partial"
    temporary.mkdir()
    try:
        yield temporary
        _fsync_tree(temporary)
        refuse_existing(target)
        temporary.rename(target)
        fsync(target.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def write_text_atomic(path: str | Path, text: str) -> None:
    """Write (or replace) a UTF-8 text file so that a reader sees the old or the new text, never a part."""
    write_bytes_atomic(path, text.encode("utf-8"))


def write_bytes_atomic(path: str | Path, content: bytes) -> None:
    """Write (or replace) a file so that a reader sees the old or the new content, never a part."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}.partial"
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
        fsync(target.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def refuse_existing(target: Path, what: str = "outputs") -> None:
    """UsageError when the path of a result is taken; `what` is never overwritten."""
    if target.exists() or target.is_symlink():
        raise UsageError(
            f"The output {target} exists already.",
            expected=f"a path that does not exist yet: {what} are never overwritten",
            fix="Choose another path, or remove the old one.",
        )


def _owner() -> str:
    host = re.sub(r"[^A-Za-z0-9]", "_", os.uname().nodename)
    return f"{host}-{os.getpid()}"


def _remove_leftovers(target: Path) -> None:
    """Remove temporary folders of the same target whose process, on this machine, is gone."""
    host = re.sub(r"[^A-Za-z0-9]", "_", os.uname().nodename)
    pattern = re.compile(rf"\.{re.escape(target.name)}\.{host}-(\d+)-[0-9a-f]{{8}}\.partial")
    for entry in target.parent.iterdir():
        match = pattern.fullmatch(entry.name)
        if match and not _alive(int(match.group(1))):
            shutil.rmtree(entry, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _fsync_tree(folder: Path) -> None:
    for entry in sorted(folder.rglob("*"), reverse=True):
        if not entry.is_symlink():
            fsync(entry)
    fsync(folder)


def fsync(path: Path) -> None:
    """Put a file or folder on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        # Some file systems cannot fsync folders; the rename itself is still atomic.
        if not path.is_dir():
            raise
    finally:
        os.close(descriptor)
