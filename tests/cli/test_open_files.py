"""A limit of open files is named as that: no file that was asked for then is called damaged."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from smolpilot.cli.main import main
from smolpilot.datasets import open_dataset
from smolpilot.policy import new_policy, save_bundle

LIMIT = "Too many files are open at once"


@pytest.fixture(scope="module")
def bundle(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    policy = new_policy("tiny", meta=open_dataset(tiny_dataset).meta, seed=3, device="cpu")
    return save_bundle(policy, tmp_path_factory.mktemp("open") / "bundle")


@contextmanager
def room_for(files: int) -> Iterator[None]:
    """Room for so many more open files than there are."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 10, before[1]))
    held: list[int] = []
    try:
        with contextlib.suppress(OSError):
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        for _ in range(files):
            os.close(held.pop())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for descriptor in held:
            os.close(descriptor)


@pytest.mark.parametrize(("verb", "room"), [("bundle", 0), ("bundle", 1), ("dataset info", 0)])
def test_the_limit_is_named(
    verb: str, room: int, bundle: Path, tiny_dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = [*verb.split(), str(bundle if verb == "bundle" else tiny_dataset)]
    assert main(args) == 0
    capsys.readouterr()
    with room_for(room):
        code = main(args)
    said = capsys.readouterr().err
    assert code == 1
    assert said.startswith(f"error: {LIMIT}")
    assert "ulimit -n" in said
    for word in ("torn", "damaged", "Traceback", "copy or download"):
        assert word not in said
