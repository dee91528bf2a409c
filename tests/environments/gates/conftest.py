"""An interpreter with another gym-pusht: what a release that changes a simulation would look like."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest


@pytest.fixture
def other_pusht(tmp_path: Path) -> Callable[[str, str], Path]:
    """A python whose gym-pusht has `new` in its source where the installed one has `old`."""
    pytest.importorskip("gym_pusht", reason="gym-pusht is not installed")

    def make(old: str, new: str) -> Path:
        spec = find_spec("gym_pusht")
        assert spec is not None
        assert spec.origin is not None
        folder = tmp_path / "other"
        shutil.copytree(Path(spec.origin).parent, folder / "gym_pusht", ignore=shutil.ignore_patterns("__pycache__"))
        source = folder / "gym_pusht" / "envs" / "pusht.py"
        text = source.read_text()
        assert text.count(old) == 1
        source.write_text(text.replace(old, new))
        python = folder / "python"
        python.write_text(f'#!/bin/sh\nPYTHONPATH="{folder}" exec "{sys.executable}" "$@"\n')
        python.chmod(0o755)
        return python

    assert os.name == "posix"
    return make
