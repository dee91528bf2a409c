"""Computing what a cache misses: video is decoded ahead, and several processes share the work.

Processes of one run and other runs on the same folder each claim a block by locking a file beside it; what another
computes is waited for, not computed twice. A lock ends with its process, so that nothing is left claimed after a kill.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from smolpilot.common.atomic import lock
from smolpilot.common.progress import track
from smolpilot.datasets.read.prefetch import ahead


@contextmanager
def claimed(path: Path, *, wait: bool) -> Iterator[bool]:
    """Hold the right to compute the block whose file is `path`; False when another process has it and `wait` is not
    set."""
    place = path.with_suffix(".lock")
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("wb") as file:
        # On a disk without locks a block is computed twice at worst, and written whole both times.
        held = lock(file.fileno(), wait=wait)
        try:
            yield held
        finally:
            if held:
                place.unlink(missing_ok=True)


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
    done, busy, held = 0, list[Job](), list[ExitStack]()
    missing = _missing(jobs, path, there, busy, held, text)
    stream = ahead(((job, claim, load(job)) for job, claim in missing), depth=1)
    try:
        for job, claim, loaded in stream:
            compute(job, loaded)
            claim.close()
            done += 1
            del loaded
    finally:
        stream.close()
        missing.close()
        for claim in held:
            claim.close()
    # Nothing is held while waiting for others, so that two processes cannot wait for each other.
    for job in busy:
        with claimed(path(job), wait=True):
            if not there(job):
                compute(job, load(job))
                done += 1
    return done


def _missing[Job](
    jobs: Sequence[Job], path: Callable[[Job], Path], there: Callable[[Job], bool], busy: list[Job],
    held: list[ExitStack], text: str,
) -> Generator[tuple[Job, ExitStack]]:  # fmt: skip
    """Jobs that this process may do, with their claims, also in `held`; those that another does go to `busy`."""
    for job in track(jobs, len(jobs), text):
        with ExitStack() as claim:
            if not claim.enter_context(claimed(path(job), wait=False)):
                busy.append(job)
            elif not there(job):
                held.append(claim.pop_all())
                yield job, held[-1]
