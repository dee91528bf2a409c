"""The checker of the documents finds broken links and commands that do not exist."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def checker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_docs", ROOT / "scripts" / "check_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_links_to_files_and_headings(checker: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# A title, with `code`\n", encoding="utf-8")
    page = tmp_path / "page.md"
    page.write_text(
        "# Top\n[a](other.md) [b](other.md#a-title-with-code) [c](#top) [d](https://example.org/x)\n"
        "[e](gone.md) [f](other.md#nothing) ![g](picture.png)\n```\n[h](in-code.md)\n```\n",
        encoding="utf-8",
    )
    problems = " | ".join(checker.broken_links(page))
    assert [name in problems for name in ("gone.md", "#nothing", "picture.png")] == [True] * 3
    assert problems.count("link to") == 3


def test_commands_are_found_in_blocks_and_spans(checker: ModuleType) -> None:
    text = (
        "Run `smolpilot robot show so101` or `smolpilot --help`; `import smolpilot` is Python.\n"
        "```bash\nuv run smolpilot robot profile check mine.yaml  # a comment\n"
        "$ HF_HUB_OFFLINE=1 smolpilot doctor \\\n  --json\n```\n"
    )
    found = [" ".join(command.split()) for command in checker.commands(text)]
    assert sorted(found) == ["--help", "doctor --json", "robot profile check mine.yaml", "robot show so101"]


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("robot show so101 --json", None),
        ("doctor --dataset=X", None),
        ("--version", None),
        ("VERB --help", None),
        ("fly", "no verb 'fly'"),
        ("robot list --fast", "no option --fast"),
        ("robots", "no verb 'robots'"),
        ("dataset inof", "no verb 'dataset inof'"),
        ("dataset VERB", None),
    ],
)
def test_verbs_and_options(checker: ModuleType, command: str, problem: str | None) -> None:
    found = checker.command_problem(command)
    assert (found is None) if problem is None else (problem in found)
