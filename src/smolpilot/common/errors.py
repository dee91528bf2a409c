"""The exception tree, and what an error of the system means, in words.

Every error of ours says what was found, what was expected and what to do. Exit codes: 2 for misuse (a wrong option,
config key, path or profile; a path that may not be read or written), 1 for input that fails a check (a damaged dataset,
a checkpoint without weights) or a run that cannot continue. Of the system's errors each number has its own words, and
no cause is named that the system did not name.
"""

from __future__ import annotations

import difflib
import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple


class SmolpilotError(Exception):
    """Base of all errors meant for a person; the command line prints it without a traceback.

    `found` is one sentence on what is wrong; `expected` and `fix` are optional sentences.
    """

    exit_code = 1

    def __init__(self, found: str, *, expected: str = "", fix: str = "") -> None:
        self.found, self.expected, self.fix = found, expected, fix
        parts = [found]
        if expected:
            parts.append(f"Expected: {expected}")
        if fix:
            parts.append(f"Fix: {fix}")
        super().__init__("\n".join(parts))


class UsageError(SmolpilotError):
    """The command, an option, a config key or a path given by the user is wrong."""

    exit_code = 2


class ProfileError(UsageError):
    """A robot profile is invalid, or does not fit the data or policy it is used with."""


class DatasetError(SmolpilotError):
    """A dataset on disk is missing, torn, inconsistent or of an unsupported version."""


class TransformError(SmolpilotError):
    """A frame cannot be transformed: a statistic, camera, joint or instruction does not fit."""


class CheckpointError(SmolpilotError):
    """A checkpoint or bundle is incomplete, damaged or of another policy."""


class NotFiniteError(CheckpointError):
    """A policy computes NaN or infinity: there is no action to give."""


class HubError(SmolpilotError):
    """A hub id was named but cannot be fetched (offline, unknown, no permission)."""


class TrainingError(SmolpilotError):
    """A training run cannot start or go on."""


class DeviceError(SmolpilotError):
    """A robot, camera or teleoperator does not answer, was used before it was connected, or breaks its contract."""


class DeviceGoneError(DeviceError):
    """The way to a device is gone, as when its cable was pulled out: asking again is of no use."""


class SimulationError(SmolpilotError):
    """A simulation broke, hung or died: its episode has failed, and others can go on."""


PROCESS_GONE = "The process of the environment"
"""How a SimulationError begins that says nothing of the simulation: its process died or hung, for whatever reason."""


class RunLogError(SmolpilotError):
    """A run log is damaged, of a newer format, or would hold what it may not."""


@contextmanager
def errors_of(what: str, kind: type[SmolpilotError] = SmolpilotError) -> Iterator[None]:
    """Put `what` before what the block's errors of a kind have found."""
    try:
        yield
    except kind as error:
        raise type(error)(f"{what}: {error.found}", expected=error.expected, fix=error.fix) from error


def check_seed(seed: int) -> None:
    """Refuse a seed that torch's generators do not take (with room to add a frame's or an episode's number)."""
    if not 0 <= seed < 2**62:
        raise UsageError(f"--seed is {seed}.", expected=f"0 to {2**62 - 1}")


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """One sentence that proposes the nearest of `choices`, or lists them when none is near."""
    options = sorted(choices)
    near = difflib.get_close_matches(name, options, n=1, cutoff=0.5)
    if near:
        return f"Did you mean '{near[0]}'?"
    return f"Known: {', '.join(options)}." if options else "There are none."


FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
LIMITS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""Of the process or the machine: they say nothing about the file that was asked for."""
UNSUPPORTED = frozenset({errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})


MACHINE = FULL | {
    errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ESTALE, errno.EAGAIN, errno.EINTR,
    errno.ETIMEDOUT,
}  # fmt: skip
"""What the machine cannot do now, whatever path is named: the same command may do it later."""

_OF_PATHS = frozenset({
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY,
    errno.ENAMETOOLONG, errno.ELOOP,
})  # fmt: skip
"""What is wrong with a path that was named: no permission, a file where a folder should be, too long a name."""


class Refusal(NamedTuple):
    """`found` says what happened, `fix` what to do; `fix` is empty where only the user can know."""

    found: str
    fix: str


_TEXTS: dict[int, tuple[str, str]] = {
    errno.ENOSPC: ("The disk is full", "free some space, or choose another disk; then run the same command again"),
    errno.EDQUOT: ("The disk quota is used up", "free some space, or choose another disk; then run the command again"),
    errno.EFBIG: ("The file became larger than this disk or a limit (ulimit -f) allows", "choose another disk"),
    errno.EACCES: ("No permission", "change the permissions, or choose another path"),
    errno.EPERM: ("The system does not permit this operation", "choose another path, or ask who owns this one"),
    errno.EROFS: ("The disk is mounted read-only", "choose a path on a disk that can be written"),
    errno.ENOENT: ("A file or folder is not there", "check the path"),
    errno.ENOTDIR: ("A part of the path is a file, not a folder", "check the path"),
    errno.EISDIR: ("A folder stands where a file is expected", "name the file, or choose another path"),
    errno.EEXIST: ("Something lies there already", "choose another path"),
    errno.ENOTEMPTY: ("The folder there is not empty", "choose another path"),
    errno.ENAMETOOLONG: ("The name is too long for this disk", "choose a shorter path"),
    errno.ELOOP: ("The path goes round in symbolic links", "check the links on the way"),
    errno.EXDEV: ("The two paths lie on different disks", "choose paths on one disk"),
    errno.EMFILE: ("Too many files are open at once", "raise the limit: ulimit -n 4096"),
    errno.ENFILE: ("Too many files are open at once on this machine", "close other programs"),
    errno.ENOMEM: ("The memory does not suffice", "close other programs, or ask for less at once"),
    errno.EIO: ("The disk or network share answered with an error", "look at the system's log (dmesg)"),
    errno.ESTALE: ("The network share has lost the file", "mount the share again"),
    errno.ETXTBSY: ("The file is in use", "close the program that uses it"),
    errno.EBUSY: ("The file or folder is in use", "close the program that uses it"),
}
_OPEN_FILES = frozenset({errno.EMFILE, errno.ENFILE})
_CANNOT = ("This disk or file system cannot do what was asked", "choose a path on another disk")


def exit_code(error: OSError) -> int:
    """2, as for every misuse, where another path or other permissions are needed; else 1."""
    return 2 if error.errno in _OF_PATHS else 1


def may(path: str | Path, mode: int) -> bool:
    """`os.access` for the user in whose name files are opened."""
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def explain(error: OSError) -> Refusal:
    """The error as found and fix: with the system's own words and the path, where it names one."""
    where = f": {error.filename}" if error.filename else ""
    own = error.strerror or str(error)
    known = _CANNOT if error.errno in UNSUPPORTED else _TEXTS.get(error.errno or 0)
    if known is None:
        return Refusal(f"The system reported: {own}{where}.", "")
    return Refusal(f"{known[0]}{where} ({own}).", known[1])


def too_many_files(error: BaseException) -> Refusal | None:
    """The refusal where an error comes from a limit of open files: whatever file was then asked for is not to blame."""
    cause: BaseException | None = error
    seen: set[int] = set()
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        code = getattr(cause, "errno", None)
        # Libraries that are not Python's give the system's words only.
        if code in _OPEN_FILES or os.strerror(errno.EMFILE) in str(cause):
            path = getattr(cause, "filename", None)
            known = code if code in _OPEN_FILES else errno.EMFILE
            return explain(OSError(known, os.strerror(known), path))
        cause = cause.__cause__ or cause.__context__
    return None
