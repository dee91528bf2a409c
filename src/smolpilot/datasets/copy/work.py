"""The work folder beside the result: finished parts survive a kill and are used again; the result appears whole."""

from __future__ import annotations

import errno
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smolpilot.common.atomic import fsync, lock, refuse_existing, write_bytes_atomic
from smolpilot.common.errors import FULL, MACHINE, DatasetError, UsageError
from smolpilot.common.hashing import b2sum
from smolpilot.common.json_input import parse_json
from smolpilot.common.safe_paths import below

_STATE = "state"


@dataclass(frozen=True)
class Part:
    """A file of the result, or (output None) a result kept in the journal, which calls it by its name.

    `output` is a path relative to the work folder: `result/…`, or `state/…` for what only other parts need. `write`
    writes the file and gives facts for the journal (plain JSON values); it is called in any process.
    """

    name: str
    output: str | None
    write: Callable[[Path], dict[str, Any] | None]


def work_folder(target: Path) -> Path:
    """Where unfinished work for `target` lies."""
    return target.parent / f".{target.name}.smolpilot-partial"


def execute(task: tuple[Part, Path]) -> dict[str, Any]:
    """Write one part beside its place, hash it, put it in place; runs in any process."""
    part, folder = task
    scratch = folder / _STATE / f"{uuid.uuid4().hex}.tmp"
    try:
        facts = part.write(scratch) or {}
        if part.output is None:
            return {"part": part.name, "facts": facts}
        final = below(folder, part.output)
        final.parent.mkdir(parents=True, exist_ok=True)
        size, digest = scratch.stat().st_size, b2sum(scratch)
        scratch.replace(final)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
    return {"part": part.name, "output": part.output, "bytes": size, "blake2b": digest, "facts": facts}


class WorkFolder:
    """An unfinished result: finished files lie under `root`, a journal beside it says which they are."""

    def __init__(self, target: Path, fingerprint: str) -> None:
        self.target, self.folder = target, work_folder(target)
        self.root = self.folder / "result"
        self._state = self.folder / _STATE
        self._fingerprint = fingerprint
        self.records: dict[str, dict[str, Any]] = {}

    def open(self) -> None:
        """Go on with what an equal plan has left, or begin."""
        plan = self._state / "plan"
        if not plan.is_file() or plan.read_text() != self._fingerprint:
            self.clear()
        self._state.mkdir(parents=True, exist_ok=True)
        self.root.mkdir(exist_ok=True)
        for scratch in self._state.glob("*.tmp"):
            scratch.unlink()
        if not plan.exists():
            write_bytes_atomic(plan, self._fingerprint.encode())
        for record in self._journal():
            self.records[record["part"]] = record
        self._forget_damaged()

    def clear(self) -> None:
        """Forget all parts."""
        self.records = {}
        for folder in (self.root, self._state):
            if folder.exists():
                shutil.rmtree(folder)

    def add(self, record: dict[str, Any]) -> None:
        """Note a finished part."""
        with (self._state / "parts.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        self.records[record["part"]] = record

    def take(self, name: str) -> dict[str, Any]:
        """The facts of a finished part; they are not kept in memory beyond that."""
        facts: dict[str, Any] = self.records[name].pop("facts")
        return facts

    def changed_since(self) -> list[str]:
        """Finished files that no longer have the content they were written with: paths relative to the result."""
        found = []
        for record in self.records.values():
            output = record.get("output", "")
            if output.startswith("result/") and b2sum(self.folder / output) != record["blake2b"]:
                found.append(output.removeprefix("result/"))
        return found

    def finish(self) -> None:
        """Everything to disk, then in place under its name."""
        for path in sorted(self.root.rglob("*"), reverse=True):
            fsync(path)
        fsync(self.root)
        refuse_existing(self.target, "datasets")
        self.root.rename(self.target)
        fsync(self.target.parent)
        shutil.rmtree(self.folder)

    def _journal(self) -> Iterator[dict[str, Any]]:
        journal = self._state / "parts.jsonl"
        if not journal.exists():
            return
        lines = journal.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        whole = []
        for line in lines:
            try:
                record = parse_json(line) if line.endswith("\n") else None
            except ValueError:
                record = None
            # A kill or a power cut tears the last line; what follows a torn line cannot be trusted.
            if not isinstance(record, dict) or not isinstance(record.get("part"), str):
                break
            whole.append(line)
            yield record
        if len(whole) < len(lines):
            write_bytes_atomic(journal, "".join(whole).encode())

    def _forget_damaged(self) -> None:
        """A power cut can leave files shorter than the journal says: those are made again."""
        for name, record in list(self.records.items()):
            if "output" in record:
                path = self.folder / record["output"]
                if not path.is_file() or path.stat().st_size != record["bytes"] or b2sum(path) != record["blake2b"]:
                    del self.records[name]
        known = {record["output"] for record in self.records.values() if "output" in record}
        for path in list(self.root.rglob("*")):
            if path.is_file() and path.relative_to(self.folder).as_posix() not in known:
                path.unlink()


class NoRoomError(DatasetError):
    """The disk has not the room for the result: the same command may go on when there is more."""


def may_go_on(error: BaseException) -> bool:
    """Whether the same command can go on later with what is finished: it was stopped, or the machine refused.

    Not after an error in the data or in the program, which it would meet again.
    """
    if not isinstance(error, Exception) or isinstance(error, MemoryError | BrokenPipeError):
        return True
    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__) is not None and len(causes) < 20:
        causes.append(cause)
    return any(
        isinstance(one, NoRoomError | BrokenExecutor) or (isinstance(one, OSError) and one.errno in MACHINE)
        for one in causes
    )


@contextmanager
def locked(target: Path) -> Iterator[None]:
    """Keep two commands from writing the same result; the lock goes with the process that holds it."""
    folder = work_folder(target)
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if not lock(handle, wait=False):
            raise UsageError(
                f"Another smolpilot is writing {target} at this moment.", fix="Wait for it, or choose another folder."
            )
        yield
    finally:
        os.close(handle)


@contextmanager
def clear_errors(target: Path) -> Iterator[None]:
    """Turn refusals of the system into errors that say what is kept and what to do."""
    try:
        yield
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        if error.errno in FULL:
            raise DatasetError(
                f"The disk is full: {target} could not be finished.",
                expected="room for a second copy of the dataset",
                fix=f"Free some space and run the same command again: {work_folder(target)} keeps finished parts.",
            ) from error
        if error.errno in (errno.ENOTDIR, errno.EEXIST):
            raise UsageError(
                f"{target.parent} is not a folder that can hold {target.name}.", fix="Choose another path."
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise UsageError(
                f"No permission: {error.filename or target}.",
                expected="a readable dataset, and a folder that may be written to",
                fix="Choose another output folder, or change the permissions.",
            ) from error
        raise
