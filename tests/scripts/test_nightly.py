"""scripts/nightly.sh: named parts, all of them run, a failure is told at the end and by the exit code."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "nightly.sh"


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder for PATH in which `uv` only notes what it is asked, and fails for the fuzzer."""
    folder = tmp_path / "tools"
    folder.mkdir()
    uv = folder / "uv"
    uv.write_text(
        f'#!/bin/sh\necho "$*" >> {tmp_path}/asked\necho "said $*"\ncase "$*" in *tests/fuzz*) exit 1;; esac\n'
    )
    uv.chmod(0o755)
    return folder


def nightly(tools: Path, *parts: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "NIGHTLY_LOGS": str(tools.parent / "logs")
    }  # fmt: skip
    return subprocess.run(
        ["bash", str(SCRIPT), *parts], env=environment, capture_output=True, text=True, check=False, timeout=60
    )


def test_every_part_runs_also_after_one_that_failed(tools: Path, tmp_path: Path) -> None:
    names = [line.split()[0] for line in nightly(tools, "--list").stdout.splitlines()]
    done = nightly(tools)
    assert done.returncode == 1, done.stderr
    assert done.stdout.splitlines()[-1] == "failed: fuzz"
    assert {path.stem for path in (tmp_path / "logs").glob("*.log")} == set(names)
    assert done.stdout.count("passed in") == len(names) - 1
    assert "said run --group test pytest -n 0 tests/fuzz" in (tmp_path / "logs" / "fuzz.log").read_text()
    asked = (tmp_path / "asked").read_text()
    assert asked.index("tests/fuzz") < asked.index("smolpilot demo") < asked.index("--python 3.13")


def test_the_tests_that_it_names_exist() -> None:
    named = re.findall(r"tests/[\w./]*\w", SCRIPT.read_text(encoding="utf-8"))
    assert len(named) > 5
    assert [name for name in named if not (SCRIPT.parents[1] / name).exists()] == []


def test_named_parts_run_alone_and_an_unknown_part_is_refused(tools: Path, tmp_path: Path) -> None:
    done = nightly(tools, "documents", "pins")
    assert done.returncode == 0, done.stdout
    assert [path.name for path in sorted((tmp_path / "logs").iterdir())] == ["documents.log", "pins.log"]
    wrong = nightly(tools, "documents", "no-such-part")
    assert wrong.returncode == 2
    assert "no-such-part" in wrong.stderr
    assert "python313" in wrong.stderr
