"""SIGKILL at fifty random points of a conversion, and of a split: run again, they end in the same bytes.

Conversions run in forks of this process, so that none has to start an interpreter.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from smolpilot.datasets import read_meta
from smolpilot.datasets.compare import compare
from smolpilot.datasets.convert import convert
from smolpilot.datasets.copy import CopyOptions, work_folder
from smolpilot.datasets.edit.split import plan_parts, split

from .helpers_recordings import tree_hash

OPTIONS = CopyOptions(version="v2.1")
# Everything that changes or opens a file, as Python reports it.
EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree")


def in_a_fork(work: Callable[[], object], *, kill_after: float | None = None) -> int:
    """Run `work` in a fork; gives the exit status, negative for a signal."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def converting(source: Path, target: Path) -> Callable[[], object]:
    return lambda: convert(source, target, OPTIONS)


def splitting(source: Path, target: Path) -> Callable[[], object]:
    meta = read_meta(source)
    return lambda: split(meta, target, plan_parts(meta, {"first": "0-1", "second": "4", "third": "rest"}))


def counted(
    operation: Callable[[], object], target: Path, kill_at: int, report: Path | None = None
) -> Callable[[], object]:
    """An operation that kills itself just before its `kill_at`th event on files beside the target."""

    def work() -> None:
        seen, place = 0, str(target.parent)

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal seen
            if event in EVENTS and arguments and str(arguments[0]).startswith(place):
                seen += 1
                if seen == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        operation()
        if report is not None:
            events = seen
            report.write_text(str(events))

    return work


@pytest.fixture(scope="module")
def finished(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], int, float]:
    """Hashes of an uninterrupted result, its number of events, its seconds."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "a").mkdir()
    begin = time.monotonic()
    assert in_a_fork(counted(converting(tiny_dataset, out := folder / "a" / "out"), out, 0, folder / "events")) == 0
    return tree_hash(folder / "a" / "out"), int((folder / "events").read_text()), time.monotonic() - begin


def finish_and_check(source: Path, target: Path, whole: dict[str, str]) -> None:
    if not target.exists():
        assert in_a_fork(partial(convert, source, target, OPTIONS)) == 0
    assert tree_hash(target) == whole


@pytest.mark.parametrize("seed", range(5))
def test_killed_at_random_file_operations(
    tiny_dataset: Path, tmp_path: Path, finished: tuple[dict[str, str], int, float], seed: int
) -> None:
    whole, events, _ = finished
    before = tree_hash(tiny_dataset)
    points = np.random.default_rng(seed).choice(np.arange(1, events + 1), 8, replace=False)
    for point in map(int, points):
        target = tmp_path / str(point) / "out"
        target.parent.mkdir()
        assert in_a_fork(counted(converting(tiny_dataset, target), target, point)) == -signal.SIGKILL
        finish_and_check(tiny_dataset, target, whole)
        assert not work_folder(target).exists() or not (work_folder(target) / "result").exists()
    assert tree_hash(tiny_dataset) == before
    assert compare(tiny_dataset, target).equal


def test_killed_at_random_times_and_again_while_resuming(
    tiny_dataset: Path, tmp_path: Path, finished: tuple[dict[str, str], int, float]
) -> None:
    whole, _, seconds = finished
    before = tree_hash(tiny_dataset)
    delays = np.random.default_rng(9).uniform(0, seconds, (5, 2))
    for number, pair in enumerate(delays):
        target = tmp_path / str(number) / "out"
        target.parent.mkdir()
        for delay in pair:
            if not target.exists():
                in_a_fork(partial(convert, tiny_dataset, target, OPTIONS), kill_after=delay)
        finish_and_check(tiny_dataset, target, whole)
    assert tree_hash(tiny_dataset) == before


def test_finished_parts_are_used_again(
    tiny_dataset: Path, tmp_path: Path, finished: tuple[dict[str, str], int, float]
) -> None:
    whole, events, _ = finished
    target = tmp_path / "out"
    assert in_a_fork(counted(converting(tiny_dataset, target), target, events - 30)) == -signal.SIGKILL
    report = convert(tiny_dataset, target, OPTIONS)
    assert 0 < report.resumed <= report.parts
    assert tree_hash(target) == whole


def test_a_part_that_a_power_cut_has_torn_is_made_again(
    tiny_dataset: Path, tmp_path: Path, finished: tuple[dict[str, str], int, float]
) -> None:
    whole, events, _ = finished
    target = tmp_path / "out"
    assert in_a_fork(counted(converting(tiny_dataset, target), target, events - 30)) == -signal.SIGKILL
    torn = sorted((work_folder(target) / "result").rglob("*.mp4"))[0]
    torn.write_bytes(torn.read_bytes()[:100])
    convert(tiny_dataset, target, OPTIONS)
    assert tree_hash(target) == whole


def test_other_options_begin_anew(
    tiny_dataset: Path, tmp_path: Path, finished: tuple[dict[str, str], int, float]
) -> None:
    _, events, _ = finished
    target = tmp_path / "out"
    assert in_a_fork(counted(converting(tiny_dataset, target), target, events - 30)) == -signal.SIGKILL
    report = convert(tiny_dataset, target, CopyOptions(version="v3.0"))
    assert report.resumed == 0
    assert not list(target.rglob("episode_*"))


def test_a_killed_split_resumes(tiny_dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    out = tmp_path / "whole" / "out"
    assert in_a_fork(counted(splitting(tiny_dataset, out), out, 0, tmp_path / "events")) == 0
    whole, events = tree_hash(out), int((tmp_path / "events").read_text())
    before = tree_hash(tiny_dataset)
    points = np.random.default_rng(3).choice(np.arange(1, events + 1), 12, replace=False)
    for point in [*map(int, points), events - 1, events]:
        target = tmp_path / str(point) / "out"
        target.parent.mkdir(exist_ok=True)
        assert in_a_fork(counted(splitting(tiny_dataset, target), target, point)) == -signal.SIGKILL
        if not target.exists():
            assert in_a_fork(splitting(tiny_dataset, target)) == 0
        assert tree_hash(target) == whole, f"killed at {point} of {events}"
    assert tree_hash(tiny_dataset) == before
    assert {name.split("/")[0] for name in whole} == {"first", "second", "third"}
