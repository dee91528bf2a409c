"""Every benchmark still runs: its imports, also those in functions and in programs that it starts, and its --help."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SCRIPTS = sorted(path for path in BENCHMARKS.glob("*.py"))

# One process for all of them: each would import torch again.
HELP = """
import contextlib, io, runpy, sys
for script in sys.argv[1:]:
    sys.argv, shown = [script, "--help"], io.StringIO()
    sys.path.insert(0, script.rpartition("/")[0])
    try:
        with contextlib.redirect_stdout(shown):
            runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        assert not end.code and shown.getvalue().startswith("usage:"), (script, end.code, shown.getvalue()[:80])
    else:
        assert "argparse.ArgumentParser(" not in open(script).read(), f"{script} takes no --help"
    sys.path.pop(0)
"""


def programs(text: str) -> Iterator[ast.Module]:
    """A script, and the programs that stand in its texts; what an f-string fills in is a number here."""
    tree = ast.parse(text)
    yield tree
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        parts = node.values if isinstance(node, ast.JoinedStr) else [] if id(node) in inner else [node]
        said = "".join(str(part.value) if isinstance(part, ast.Constant) else "0" for part in parts)
        if any(isinstance(part, ast.Constant) for part in parts) and "from smolpilot" in said:
            yield ast.parse(said)


def wanted(text: str) -> Iterator[tuple[str, str]]:
    """(module, name) of each import of smolpilot."""
    for tree in programs(text):
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "smolpilot":
                yield from ((str(node.module), alias.name) for alias in node.names)


def test_the_programs_in_texts_are_found() -> None:
    text = 'def f():\n    from smolpilot.a import b\nRUN = "from smolpilot.c import d\\n"\n'
    assert list(wanted(text)) == [("smolpilot.a", "b"), ("smolpilot.c", "d")]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_what_a_benchmark_imports_is_there(script: Path) -> None:
    for module, name in wanted(script.read_text(encoding="utf-8")):
        found = importlib.import_module(module)
        assert hasattr(found, name) or importlib.util.find_spec(f"{module}.{name}"), f"{module} has no {name}"


def test_every_benchmark_shows_its_help() -> None:
    assert len(SCRIPTS) > 10
    done = subprocess.run(
        [sys.executable, "-c", HELP, *map(str, SCRIPTS)], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]
