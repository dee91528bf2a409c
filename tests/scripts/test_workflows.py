"""What runs on the project's host: workflows, forms and hooks name scripts, groups and Pythons that exist."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted(path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def read(path: Path) -> dict[str, Any]:
    """YAML, with the key `on` as text: YAML 1.1 takes it for a truth value."""
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {"on" if key is True else key: value for key, value in values.items()}


def steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in read(path)["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_read_only_and_ends_in_time(path: Path) -> None:
    workflow = read(path)
    assert workflow["permissions"] == {"contents": "read"}, "a job that writes asks for it itself"
    assert all(job["timeout-minutes"] <= 120 for job in workflow["jobs"].values())


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_by_their_major_version(path: Path) -> None:
    used = [step["uses"] for step in steps(path) if "uses" in step]
    assert used
    for name in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+|docker://[\w./-]+:\d+\.\d+\.\d+", name), name


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_script_and_file_of_a_workflow_exists(path: Path) -> None:
    text = "\n".join(step.get("run", "") for step in steps(path))
    named = re.findall(r"(?<![\w/])(?:scripts|requirements|tests)/[\w./-]+", text)
    assert named
    assert [name for name in named if not (ROOT / name).is_file()] == []
    assert [name for name in named if name.endswith(".sh") and not os.access(ROOT / name, os.X_OK)] == []


def test_the_tests_run_on_every_python_that_the_package_supports() -> None:
    pythons = read(ROOT / ".github" / "workflows" / "tests.yml")["jobs"]["tests"]["strategy"]["matrix"]["python"]
    classifiers = PROJECT["project"]["classifiers"]
    claimed = [name.rpartition(" ")[2] for name in classifiers if re.search(r"Python :: 3\.\d+$", name)]
    assert pythons == claimed
    lowest, end = re.findall(r"3\.(\d+)", PROJECT["project"]["requires-python"])
    assert pythons == [f"3.{minor}" for minor in range(int(lowest), int(end))]


def test_a_release_is_built_once_and_published_by_jobs_of_its_own() -> None:
    workflow = read(ROOT / ".github" / "workflows" / "release.yml")
    assert workflow["on"] == {"push": {"tags": ["v*"]}}
    jobs = workflow["jobs"]
    assert [name for name, job in jobs.items() if any("uv build" in step.get("run", "") for step in job["steps"])] == [
        "build"
    ]
    assert jobs["github"]["permissions"] == {"contents": "write"}
    assert jobs["pypi"]["permissions"] == {"id-token": "write"}
    assert jobs["pypi"]["environment"] == "pypi"
    assert jobs["github"]["needs"] == jobs["pypi"]["needs"] == "build"


def test_actionlint_finds_nothing() -> None:
    """scripts/nightly.sh has its own environment for it (`nightly.sh workflows`)."""
    command = shutil.which("actionlint") or shutil.which("actionlint", path=str(Path(sys.executable).parent))
    if command is None:
        pytest.skip("actionlint is not here")
    done = subprocess.run([command, *map(str, WORKFLOWS)], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_a_form_can_be_filled_in(path: Path) -> None:
    form = read(path)
    assert {"name", "description", "body"} <= set(form)
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in fields}) == len(fields)
    assert {field["type"] for field in fields} <= {"input", "textarea", "dropdown", "checkboxes"}
    assert any(field.get("validations", {}).get("required") for field in fields)
    labels = [field["attributes"]["label"] for field in fields]
    assert len(set(labels)) == len(labels)
    if path.stem == "bug":
        assert "`smolpilot doctor --json`" in " ".join(labels)


def test_hooks_run_what_is_installed_and_fetch_nothing() -> None:
    repositories = read(ROOT / ".pre-commit-config.yaml")["repos"]
    assert [repository["repo"] for repository in repositories] == ["local"]
    hooks = {hook["id"]: hook for hook in repositories[0]["hooks"]}
    assert list(hooks) == ["ruff-check", "ruff-format", "mypy", "docs"]
    for hook in hooks.values():
        assert hook["language"] == "system"
        words = hook["entry"].split()
        assert words[:3] == ["uv", "run", "--no-sync"]
        assert shutil.which(words[3], path=str(Path(sys.executable).parent)), words[3]
        assert all((ROOT / word).is_file() for word in words if word.startswith("scripts/"))
