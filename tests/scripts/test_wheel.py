"""The wheel and the source distribution hold what a user needs: every file of the package, `py.typed` among them."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from smolpilot.version import __version__

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built by hatchling as it is installed here: no network, no environment of its own."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_wheel_holds_every_file_of_the_package(built: Path) -> None:
    with zipfile.ZipFile(built / f"smolpilot-{__version__}-py3-none-any.whl") as wheel:
        held = {name for name in wheel.namelist() if name.startswith("smolpilot/")}
    package = ROOT / "src" / "smolpilot"
    files = (path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    assert held == {path.relative_to(ROOT / "src").as_posix() for path in files}
    assert "smolpilot/py.typed" in held, "type checkers read the annotations of a package that has this file"


def test_the_wheel_says_what_it_runs_on(built: Path) -> None:
    with zipfile.ZipFile(built / f"smolpilot-{__version__}-py3-none-any.whl") as wheel:
        metadata = wheel.read(f"smolpilot-{__version__}.dist-info/METADATA").decode()
    lines = set(metadata.splitlines())
    assert {"Requires-Python: <3.14,>=3.12", "Classifier: Typing :: Typed"} <= lines
    assert {f"Classifier: Programming Language :: Python :: 3.{minor}" for minor in (12, 13)} <= lines
    assert "Classifier: Programming Language :: Python :: 3.14" not in lines


def test_a_package_can_be_built_from_the_source_distribution(built: Path) -> None:
    with tarfile.open(built / f"smolpilot-{__version__}.tar.gz") as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "src/smolpilot/py.typed", "examples/own_policy.py"} <= held
    assert not {name for name in held if name.startswith(("tests/data/", ".venv", "runs/", "site/"))}
    assert "license-files" in tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
