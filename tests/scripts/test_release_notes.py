"""scripts/release_notes.py: the changelog's section on the version that a tag names, or one sentence why not."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "release_notes.py"
release_notes = runpy.run_path(str(SCRIPT))["release_notes"]

VERSION = '"""Version."""\n\n__version__ = "1.2.0"\n'
CHANGELOG = """# Changelog

## [Unreleased]

### Added

- later

## [1.2.0] - 2030-01-02

### Added

- now, with [a link](docs/training.md)

## [1.1.0] - 2029-01-02

- before

[1.2.0]: somewhere
"""


def test_notes_of_the_tagged_version_alone() -> None:
    notes = release_notes("v1.2.0", VERSION, CHANGELOG)
    assert notes == "### Added\n\n- now, with [a link](docs/training.md)"
    assert release_notes("v1.1.0", VERSION.replace("1.2.0", "1.1.0"), CHANGELOG) == "- before"


def test_a_tag_that_is_not_the_version_is_refused() -> None:
    with pytest.raises(ValueError, match=r"The tag is v1\.3\.0, but version\.py says 1\.2\.0\. Expected the tag v1\.2"):
        release_notes("v1.3.0", VERSION, CHANGELOG)
    with pytest.raises(ValueError, match=r"The tag is 1\.2\.0"):
        release_notes("1.2.0", VERSION, CHANGELOG)


@pytest.mark.parametrize("changelog", ["# Changelog\n", "## [1.2.0] - 2030-01-02\n\n## [1.1.0]\n\n- before\n"])
def test_a_version_without_notes_is_refused(changelog: str) -> None:
    with pytest.raises(ValueError, match=r"no notes on 1\.2\.0"):
        release_notes("v1.2.0", VERSION, changelog)


def test_as_the_release_runs_it() -> None:
    wrong = subprocess.run([sys.executable, SCRIPT, "v0.0.0"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("The tag is v0.0.0, but version.py says ")
    assert subprocess.run([sys.executable, SCRIPT], capture_output=True, check=False).returncode == 2
