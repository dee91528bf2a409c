"""A limit of open files is named as that: no file that was asked for then is called damaged."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from smolpilot.cli.main import main
from smolpilot.datasets import open_dataset
from smolpilot.smolvla import new_policy, save_bundle

FewFiles = Callable[[int], AbstractContextManager[None]]
LIMIT = "Too many files are open at once"


@pytest.fixture(scope="module")
def bundle(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    policy = new_policy("tiny", meta=open_dataset(tiny_dataset).meta, seed=3, device="cpu")
    return save_bundle(policy, tmp_path_factory.mktemp("open") / "bundle")


@pytest.mark.parametrize(("verb", "room"), [("bundle", 0), ("bundle", 1), ("dataset info", 0)])
def test_the_limit_is_named(
    verb: str, room: int, few_files: FewFiles, bundle: Path, tiny_dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = [*verb.split(), str(bundle if verb == "bundle" else tiny_dataset)]
    assert main(args) == 0
    capsys.readouterr()
    with few_files(room):
        code = main(args)
    said = capsys.readouterr().err
    assert code == 1
    assert said.startswith(f"error: {LIMIT}")
    assert "ulimit -n" in said
    for word in ("torn", "damaged", "Traceback", "copy or download"):
        assert word not in said
