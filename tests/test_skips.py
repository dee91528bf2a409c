"""Skips that the list does not have end a run of the tests with an error, whichever worker they come from."""

from __future__ import annotations

import ast
import fnmatch
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
TINY = """
import pytest

@pytest.mark.skipif(True, reason="no GPU here (7)")
def test_a(): ...

@pytest.mark.parametrize("number", range(3))
def test_b(number):
    if number == 1:
        pytest.skip({reason!r})

def test_c():
    pytest.importorskip("no_such_package", reason="needs no_such_package")
"""
WHOLE_FILE = 'import pytest\n\npytest.skip("not on this system", allow_module_level=True)\n'
ALLOWED = "# a comment\n\nno GPU here (*)   # machines without\nneeds no_such_package\n"


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    shutil.copy(TESTS / "conftest.py", tmp_path)
    (tmp_path / "allowed.txt").write_text(ALLOWED)
    (tmp_path / "test_tiny.py").write_text(TINY.format(reason="no GPU here (8)"))
    return tmp_path


def run(suite: Path, *options: str) -> tuple[int, str]:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(suite),
        str(suite),
        *options,
    ]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    environment.pop("PYTEST_XDIST_WORKER", None)
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=suite)
    return ended.returncode, ended.stdout + ended.stderr


@pytest.mark.parametrize("workers", [[], ["-p", "xdist", "-n", "2"]], ids=["one process", "two workers"])
def test_a_skip_for_a_new_reason_fails_the_run(suite: Path, workers: list[str]) -> None:
    listed = [*workers, "--allowed-skips", "allowed.txt"]
    code, said = run(suite, *listed)
    assert (code, "3 skipped" in said) == (0, True), said
    (suite / "test_tiny.py").write_text(TINY.format(reason="the moon is full"))
    (suite / "test_whole.py").write_text(WHOLE_FILE)
    code, said = run(suite, *listed)
    assert code == 1, said
    assert "test_tiny.py::test_b[1]: the moon is full" in said
    assert "test_whole.py: not on this system" in said
    assert "no GPU here" not in said.partition("is not allowed")[2].partition("short test summary")[0]


def test_without_the_list_nothing_is_compared(suite: Path) -> None:
    (suite / "test_tiny.py").write_text(TINY.format(reason="the moon is full"))
    assert run(suite)[0] == 0


def test_every_reason_of_the_tests_is_in_the_list() -> None:
    """Those that are written as one text; so that a list is not only found wanting where they first come up."""
    lines = [line.partition("#")[0].strip() for line in (TESTS / "allowed_skips.txt").read_text().splitlines()]
    reasons: dict[str, str] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        if path != Path(__file__):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and ast.unparse(node.func) in ("pytest.skip", "pytest.mark.skipif"):
                    texts = [*node.args[:1], *(one.value for one in node.keywords if one.arg == "reason")]
                    reasons |= {str(one.value): path.name for one in texts if isinstance(one, ast.Constant)}
    assert len(reasons) >= 5
    # A package of the group `test` that is missing is no reason: CI has them all.
    del reasons["wandb is not installed"]
    assert {reason: file for reason, file in reasons.items()
            if not any(line and fnmatch.fnmatchcase(reason, line) for line in lines)} == {}  # fmt: skip
