"""Rules for the tests themselves."""

from __future__ import annotations

import ast
from pathlib import Path

TESTS = Path(__file__).parent
# They carry no words of ours.
WORDLESS = {"pytest.raises(KeyboardInterrupt)"}


def test_every_expected_error_is_told_from_others() -> None:
    """By its words (`match`), or by reading it afterwards: another error of the same type is another finding."""
    loose = []
    for path in sorted(TESTS.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in (node for node in ast.walk(tree) if isinstance(node, ast.With)):
            for item in node.items:
                call = item.context_expr
                if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.raises":
                    told = item.optional_vars is not None or any(word.arg == "match" for word in call.keywords)
                    if not told and ast.unparse(call) not in WORDLESS:
                        loose.append(f"{path.relative_to(TESTS)}:{node.lineno}: {ast.unparse(call)}")
    assert loose == []


def test_errors_that_are_kept_are_read() -> None:
    """`as caught` without a word about it afterwards tells no more than the type."""
    unread = []
    for path in sorted(TESTS.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
            kept = {
                item.optional_vars.id: item.context_expr
                for node in ast.walk(function)
                if isinstance(node, ast.With)
                for item in node.items
                if isinstance(item.optional_vars, ast.Name) and "pytest.raises(" in ast.unparse(item.context_expr)
            }
            read = {
                node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
            }
            unread += [f"{path.relative_to(TESTS)}: {function.name}: {name}" for name in kept if name not in read]
    assert unread == []
