"""Every `smolpilot …` command that any text in the code names exists, and so do its options."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
from pathlib import Path
from types import ModuleType

from smolpilot.cli.parsing.verbs import VERBS

ROOT = Path(__file__).resolve().parents[2]
# A command ends where a quote, a sentence or a bracket does.
COMMAND = re.compile(r"smolpilot ((?:[a-z]+)(?:(?![`;)]|\. |, |: ).)*)")


def check_docs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_docs", ROOT / "scripts" / "check_docs.py")

    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def texts(path: Path) -> list[str]:
    """All strings of a module; what an f-string puts in is the word VALUE."""
    found: list[str] = []
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else "VALUE" for part in node.values]
            found.append("".join(str(part) for part in parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            found.append(node.value)
    return found


def test_every_command_that_the_code_names_exists() -> None:
    docs, problems, number = check_docs(), [], 0
    for path in sorted((ROOT / "src" / "smolpilot").rglob("*.py")):
        for text in texts(path):
            for match in COMMAND.finditer(" ".join(text.split())):
                words = match.group(1).replace("{path}", "PATH").split()
                known = words[0] in {name.split()[0] for name in VERBS}
                # `smolpilot` and then a sentence is no command.
                if not known and match.start() and match.string[match.start() - 1] != "`":
                    continue
                number += 1
                problem = docs.command_problem(shlex.join(words))
                problems += [f"{path.name}: {problem}"] if problem else []
    assert problems == []
    assert number > 60
