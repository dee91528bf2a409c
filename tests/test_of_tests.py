"""Rules for the tests themselves."""

from __future__ import annotations

import ast
from pathlib import Path

TESTS = Path(__file__).parent
# Where a test says what it expects: these, numpy's and torch's `testing`, and helpers whose names begin so.
SAYING = {"pytest.raises", "pytest.warns", "pytest.fail"}
HELPERS = ("assert_", "check_")
# What a setting without annotation is read as, is what this one is for.
UNTYPED = {"test_making.py: __init__"}
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


def functions(path: Path) -> list[ast.FunctionDef]:
    return [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.FunctionDef)]


def asserts(test: ast.FunctionDef) -> bool:
    """In its own lines: a reader sees what is expected without opening a helper."""
    for node in ast.walk(test):
        if isinstance(node, ast.Assert):
            return True
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in SAYING or ".testing." in name or name.rpartition(".")[2].startswith(HELPERS):
                return True
    return False


def test_every_test_shows_what_it_expects() -> None:
    silent = [
        f"{path.relative_to(TESTS)}: {test.name}"
        for path in sorted(TESTS.rglob("test_*.py"))
        for test in functions(path)
        if test.name.startswith("test_") and not asserts(test)
    ]
    assert silent == []


def test_every_function_of_the_tests_is_annotated() -> None:
    """mypy checks what the types are; a function without any would not be checked at all."""
    bare = []
    for path in sorted(TESTS.rglob("*.py")):
        if path.relative_to(TESTS).parts[0] == "data":  # scripts of earlier versions
            continue
        for function in functions(path):
            arguments = function.args
            named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
            missing = [one.arg for one in named if one and not one.annotation and one.arg not in ("self", "cls")]
            if function.returns is None:
                missing.append("return")
            if missing and f"{path.name}: {function.name}" not in UNTYPED:
                bare.append(f"{path.relative_to(TESTS)}: {function.name}: {', '.join(missing)}")
    assert bare == []
