"""Computing what a cache misses: video is decoded ahead, and several processes share the work.

Processes of one run and other runs on the same folder each claim a block by locking a file beside it; what another
computes is waited for, not computed twice. A lock ends with its process, so that nothing is left claimed after a kill.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import IO

from smolpilot.common.atomic import lock
from smolpilot.common.progress import track
from smolpilot.datasets.read.prefetch import ahead


class Claim:
    """The right to compute the block whose file is `path`, for as long as it is held."""

    def __init__(self, path: Path) -> None:
        self._path = path.with_suffix(".lock")
        self._file: IO[bytes] | None = None

    def take(self, *, wait: bool) -> bool:
        """Take it; False when another process has it and `wait` is not set."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = self._path.open("wb")
        # On a disk without locks a block is computed twice at worst, and written whole both times.
        if not lock(file.fileno(), wait=wait):
            file.close()
            return False
        self._file = file
        return True

    def release(self) -> None:
        """Give it up."""
        if self._file is not None:
            self._path.unlink(missing_ok=True)
            self._file.close()
            self._file = None


def build[Job, Loaded](
    jobs: Sequence[Job],
    *,
    path: Callable[[Job], Path],
    there: Callable[[Job], bool],
    load: Callable[[Job], Loaded],
    compute: Callable[[Job, Loaded], None],
    text: str,
) -> int:
    """Load and compute every job that is not `there`; the next is loaded while one is computed. Returns how many."""
    done, busy, held = 0, list[Job](), list[Claim]()
    claimed = _claimed(jobs, path, there, busy, held, text)
    stream = ahead(((job, claim, load(job)) for job, claim in claimed), depth=1)
    try:
        for job, claim, loaded in stream:
            compute(job, loaded)
            claim.release()
            done += 1
            del loaded
    finally:
        stream.close()
        claimed.close()
        for claim in held:
            claim.release()
    # Nothing is held while waiting for others, so that two processes cannot wait for each other.
    for job in busy:
        claim = Claim(path(job))
        claim.take(wait=True)
        try:
            if not there(job):
                compute(job, load(job))
                done += 1
        finally:
            claim.release()
    return done


def _claimed[Job](
    jobs: Sequence[Job], path: Callable[[Job], Path], there: Callable[[Job], bool], busy: list[Job],
    held: list[Claim], text: str,
) -> Generator[tuple[Job, Claim]]:  # fmt: skip
    """Jobs that this process may do, with their claims, also in `held`; those that another does go to `busy`."""
    for job in track(jobs, len(jobs), text):
        claim = Claim(path(job))
        if not claim.take(wait=False):
            busy.append(job)
        elif there(job):
            claim.release()
        else:
            held.append(claim)
            yield job, claim
