"""Seeded changes of every file that comes from others, through the verbs: the right result, or one clear error.

In CI each kind (`kinds.KINDS`) has a fixed number of cases, the same in every run: under a minute in all. By hand:

    SMOLPILOT_FUZZ_SECONDS=600 pytest -n 0 tests/fuzz          new seeds until the time is up, shared among the kinds
    SMOLPILOT_FUZZ_SECONDS=600 SMOLPILOT_FUZZ_SEED=5000 ...    from this seed on

One failing case again, by its kind and seed (both stand in the message):

    SMOLPILOT_FUZZ_SEED=17 pytest -n 0 'tests/fuzz/test_fuzz.py::test_kind[config.json]'

SMOLPILOT_FUZZ_KEEP=DIR keeps the failing inputs as DIR/KIND-SEED. `scripts/fuzz_table.py` writes the counts into
docs/security.md. A seed means the same change while `world.py` and the changers stay as they are.

How it works: `runner` starts a process that loads everything once (`server`); that forks a child for each kind, with a
limit of memory and of time, in which `case` copies the sound input, changes one file (`changes`: bytes and folder
entries; `documents`, `tables`, `binary`: by format), and looks at it through verbs and public functions (`looks`). It
is `right` (the unchanged input's result), `error` (a clear refusal, or a finding of `check`), `traceback` (also: crash,
exit code above 2, changed source, left-overs, a file elsewhere, NaN in a result), `hang` (time or memory) or `silent`
(another value without a word). The last is allowed only where the format cannot show it: `Kind.silent`, with reasons.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .kinds import KINDS
from .runner import Server
from .ways import WAYS

SECONDS = float(os.environ.get("SMOLPILOT_FUZZ_SECONDS", "0"))
SEED = os.environ.get("SMOLPILOT_FUZZ_SEED")
KEEP = os.environ.get("SMOLPILOT_FUZZ_KEEP")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # both workers use one set of sound inputs
    server = Server(folder / "fuzz-world")
    yield server
    server.close()


def run(server: Server, name: str, number: int) -> list[dict[str, Any]]:
    """The results of CI's seeds, of one seed, or of as many as the time allows."""
    keep = str(Path(KEEP).absolute()) if KEEP else None
    if SECONDS:
        until = time.time() + SECONDS / len(KINDS)
        first = int(SEED or number)
        return list(server.cases(name, range(first, first + 10_000), until=until, keep=keep, deep=True))
    seeds = range(number) if SEED is None else [int(SEED)]
    return list(server.cases(name, seeds, keep=keep, deep=SEED is not None))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_kind(server: Server, kind: Any) -> None:
    results = run(server, kind.name, kind.cases)
    assert results
    lines = [
        f"seed {one['seed']}: {one['file']}: {one['what']}: {one['change'][:150]}\n    "
        f"{one['outcome']} in {one['look']} {one['parts'] or ''}: {one['detail'][:600]}"
        for one in results
        if one["failed"]
    ]
    command = f"SMOLPILOT_FUZZ_SEED=SEED pytest -n 0 'tests/fuzz/test_fuzz.py::test_kind[{kind.name}]'"
    assert not lines, f"{len(lines)} of {len(results)} failed; again: {command}\n" + "\n".join(lines)
    if not SECONDS and SEED is None:
        assert len(results) == kind.cases


def test_the_harness_sees_what_it_is_there_for(server: Server) -> None:
    """What goes wrong in each of the ways is called out: else zeros would mean nothing."""
    found = {way: list(server.cases(f"way {way}", [0])) for way in WAYS}
    assert {way: [one["outcome"] for one in results] for way, results in found.items()} == {
        way: [outcome] for way, outcome in WAYS.items()
    }
    assert [way for way, results in found.items() if not results[0]["failed"]] == [
        "warns of another value", "refuses", "does well",
    ]  # fmt: skip
