"""Links to an emulated arm: paths that are the same from run to run, and are taken from nobody."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from smolpilot.common.errors import UsageError

PORT, FRAMES, CALIBRATION = "port", "frames", "calibration.json"
"""What the folder of an emulated arm holds."""


@contextmanager
def running(folder: Path) -> Iterator[None]:
    """Mark the folder as that of an arm that runs, until this process has left it or has been killed."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks: the mark is for messages alone
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(file)


@contextmanager
def linked(link: Path, target: Path) -> Iterator[None]:
    """A link to a file of an arm's folder; in the end it is removed, unless it leads elsewhere by then.

    One that a killed arm has left is replaced. UsageError where something else is, and where none can be made.
    """
    refuse_taken(link)
    try:
        link.unlink(missing_ok=True)
        link.symlink_to(target)
    except OSError as error:
        raise UsageError(f"The link {link} cannot be made ({error.strerror}).", fix="name another path") from None
    try:
        yield
    finally:
        if _leads_to(link) == target:
            link.unlink(missing_ok=True)


def refuse_taken(link: Path) -> None:
    """UsageError where no link can be made without taking something away."""
    if not link.parent.is_dir():
        raise UsageError(f"The folder {link.parent} does not exist.", expected=f"a folder in which {link.name} can be")
    if not os.path.lexists(link):
        return
    if (target := _leads_to(link)) is None:
        raise UsageError(f"{link} is there already.", expected="a path where a link can be made")
    if not link.exists():
        return
    if not _is_arm(target.parent):
        raise UsageError(f"{link} is a link to {target}.", expected="a path where a link can be made")
    if _runs(target.parent):
        raise UsageError(
            f"An emulated arm that runs has {link}.",
            expected="a path for each arm",
            fix="end that one, or name another",
        )


def _leads_to(link: Path) -> Path | None:
    return link.readlink() if link.is_symlink() else None


def _is_arm(folder: Path) -> bool:
    return (folder / PORT).is_symlink() and (folder / FRAMES).is_dir()


def _runs(folder: Path) -> bool:
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(file)
    return False
