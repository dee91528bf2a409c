"""Outputs that appear whole or not at all: write beside the target, fsync, rename."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from .errors import UNSUPPORTED, UsageError, may
from .safe_paths import require_utf8

_MARKED = 4096  # bytes at the begin of a page in which its mark stands
_DATASET = ("info.json", "tasks.jsonl", "tasks.parquet", "episodes.jsonl", "episodes", "episodes_stats.jsonl")


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
    temporary = _beside(target)
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


@contextmanager
def scratch_folder(what: str) -> Iterator[Path]:
    """A temporary folder, gone after the block; what killed processes have left of its kind is removed first."""
    target = Path(tempfile.gettempdir()) / f"smolpilot-{what}"
    _remove_leftovers(target)
    folder = _beside(target)
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_text_atomic(path: str | Path, text: str) -> None:
    """Write (or replace) a UTF-8 text file so that a reader sees the old or the new text, never a part."""
    write_bytes_atomic(path, text.encode("utf-8"))


def write_bytes_atomic(path: str | Path, content: bytes) -> None:
    """Write (or replace) a file so that a reader sees the old or the new content, never a part.

    Left-overs of killed runs are removed by the next one that writes the file, or by `sweep`.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir():
        raise UsageError(f"{target} is a folder.", expected="the path of a file to write")
    _remove_leftovers(target)
    temporary = _beside(target)
    try:
        with temporary.open("wb") as file:
            file.write(content)
            flush(file)
        temporary.replace(target)
        fsync(target.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def as_others(path: Path) -> Iterator[None]:
    """Let the file that the block writes be as readable as any new one: some libraries write for the owner alone."""
    path.touch()
    mode = path.stat().st_mode
    yield
    with contextlib.suppress(OSError):  # a disk without permissions
        path.chmod(mode)


def refuse_existing(target: Path, what: str = "outputs", *datasets: Path) -> None:
    """UsageError when the path of a result is taken, lies in a dataset, or cannot be made.

    `what` is never overwritten; `datasets` are folders that a verb reads as such, whatever is damaged in them.
    """
    refuse_unwritable(target)
    if target.exists() or target.is_symlink():
        raise UsageError(
            f"The output {target} exists already.",
            expected=f"a path that does not exist yet: {what} are never overwritten",
            fix="Choose another path, or remove the old one.",
        )
    refuse_inside_dataset(target, *datasets)


def refuse_other_page(target: Path, generator: str, *datasets: Path) -> None:
    """UsageError unless a page can be written to `target`: it is free, or a page of the same verb, by its mark."""
    refuse_unwritable(target)
    refuse_inside_dataset(target, *datasets)
    if not os.path.lexists(target):
        return
    if target.is_symlink() or not target.is_file():
        kind = "a link" if target.is_symlink() else "a folder" if target.is_dir() else "no file"
        raise UsageError(f"The output {target} is {kind}.", expected="the path of a page, such as check.html")
    with target.open("rb") as file:
        begin = file.read(_MARKED)
    if f'<meta name="generator" content="{generator}">'.encode() not in begin:
        raise UsageError(
            f"The output {target} exists already, and is no page of `{generator}`.",
            expected="a path that does not exist yet, or such a page: nothing else is replaced",
            fix="Choose another path, or remove the file.",
        )


def refuse_unwritable(target: Path) -> None:
    """UsageError for a result below a file, or in a folder that may not be written to."""
    require_utf8(target, "output")
    above = next(parent for parent in target.absolute().parents if os.path.lexists(parent))
    if not above.is_dir():
        raise UsageError(
            f"The output {target} lies below {above}, which is a file.",
            expected="a path below folders",
            fix="Choose another path.",
        )
    if not may(above, os.W_OK | os.X_OK):
        raise UsageError(
            f"No permission: the output {target} cannot be made, {above} is not yours to write.",
            expected="a folder that may be written to",
            fix="Choose another path, or change the permissions.",
        )


def refuse_inside_dataset(target: Path, *datasets: Path) -> None:
    """UsageError for a result inside a dataset folder: a dataset holds its own files alone, and none is changed.

    A folder is one when its meta folder says so, also when that is damaged, or when it is among `datasets`.
    """
    place, named = Path(os.path.realpath(target)), {os.path.realpath(folder) for folder in datasets}
    for above in place.parents:
        if str(above) in named or any(os.path.lexists(above / "meta" / name) for name in _DATASET):
            raise UsageError(
                f"The output {target} lies inside the dataset {above}.",
                expected="a path outside: a dataset folder holds nothing but the dataset, and is never changed",
                fix=f"Choose a path beside it, for example {above.parent / (above.name + '_' + place.name)}.",
            )


def _beside(target: Path) -> Path:
    """A name beside a target that says who writes it."""
    return target.parent / f".{target.name}.{_owner()}-{_TOKEN}{uuid.uuid4().hex[:4]}.partial"


def _owner() -> str:
    return f"{_host()}-{os.getpid()}"


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9]", "_", platform.node())


# Of this process: in a container every run may have the same number.
_TOKEN = uuid.uuid4().hex[:4]
# Earlier versions named no owner for files.
_PARTIAL = re.compile(
    r"\.(?P<target>.+?)\.((?P<host>[A-Za-z0-9_]*)-(?P<pid>\d{1,9})-)?(?P<token>[0-9a-f]{4})[0-9a-f]{4}\.partial",
    re.DOTALL,
)
_FOREIGN_S = 24 * 3600.0
_CLOCKS_S = 3600.0  # how far the clock of a network share may be from this machine's


def sweep(folder: Path) -> None:
    """Remove the half-written files that killed processes have left in a folder (not below it).

    Of this machine's processes, those of which are gone; others' a day after they were last written.
    """
    for entry in _leftovers(folder):
        if not entry.is_dir():
            with contextlib.suppress(OSError):
                entry.unlink()


def _remove_leftovers(target: Path) -> None:
    """Remove temporary files and folders of the same target whose process, on this machine, is gone."""
    for entry in _leftovers(target.parent, target.name, foreign=False):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                entry.unlink()


def _leftovers(folder: Path, target: str | None = None, *, foreign: bool = True) -> list[Path]:
    """What is half-written in a folder (of one target) by processes that are gone."""
    found: list[Path] = []
    with contextlib.suppress(OSError):  # a folder that may be written, but not listed
        for entry in [*os.scandir(folder)]:
            match = _PARTIAL.fullmatch(entry.name)
            if match is None or target not in (None, match["target"]):
                continue
            with contextlib.suppress(OSError):
                written = entry.stat(follow_symlinks=False).st_mtime
                own = match["host"] == _host()
                gone = not _writing(int(match["pid"]), match["token"], written) if own else foreign and _old(written)
                if gone:
                    found.append(Path(entry.path))
    return found


def _old(written: float) -> bool:
    return time.time() - written > _FOREIGN_S


def _writing(pid: int, token: str, written: float) -> bool:
    """Whether the process that wrote at a time is alive: a later one may have its number."""
    if pid == os.getpid():
        return token == _TOKEN
    import psutil

    try:
        process = psutil.Process(pid)
        return bool(process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= written + _CLOCKS_S)
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True


def _fsync_tree(folder: Path) -> None:
    for entry in sorted(folder.rglob("*"), reverse=True):
        if not entry.is_symlink():
            fsync(entry)
    fsync(folder)


def fsync(path: Path) -> None:
    """Put a file or folder on the disk."""
    is_folder = path.is_dir()
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        # Some systems cannot open folders; the rename itself is still atomic.
        if is_folder:
            return
        raise
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not is_folder and not _cannot(error):
            raise
    finally:
        os.close(descriptor)


def flush(file: IO[Any]) -> None:
    """Put what was written to an open file on the disk."""
    file.flush()
    try:
        os.fsync(file.fileno())
    except OSError as error:
        if not _cannot(error):
            raise


def _cannot(error: OSError) -> bool:
    """Whether the disk has no such operation (network shares, FUSE): the data are written all the same."""
    return error.errno in UNSUPPORTED or error.errno == errno.EINVAL


def lock(descriptor: int, *, wait: bool) -> bool:
    """Take the lock of an open file, which ends with its process; False when another process has it.

    On a disk without locks it counts as taken: what is written under it appears whole in any case.
    """
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if not _cannot(error) and error.errno != errno.ENOLCK:
            raise
    return True
