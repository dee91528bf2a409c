"""The rooms keep to themselves: who imports whom, and words that belong to one room only."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "smolpilot"

# What a room may import of the package beside itself.
MAY = {
    "common": set(),
    "robots": {"common"},
    "contracts": {"common", "robots"},
    "evaluation": {"common", "contracts", "datasets", "robots"},
    "environments": {"common", "contracts", "datasets", "robots"},
}
# `bench` measures policies side by side by their names, so it opens them itself.
EXCEPT = {"evaluation/timing/bench.py": {"policies", "smolvla"}}
ROOMS = {path.name for path in SOURCE.iterdir() if (path / "__init__.py").is_file()}

# Words of one task's world, and of one policy's network. `block` alone is also a part of the frame cache, of a
# template and of a report.
WORDS = (
    r"tabletop",
    r"\bcolou?rs\b",
    r"by_colou?r",
    r"\b(red|green|blue|yellow|named|other) block",
    r"\bblocks?\b.*\btouch|\btouch\w*\b.*\bblocks?\b",
)
SMOLVLA = (r"isinstance\(.*\bEngine\b", r"max_action_dim")


def imports(room: Sequence[str], text: str) -> Iterator[tuple[int, str]]:
    """Line and room of each import of the package in the code of a room, also in functions and for type checkers."""
    package = ["smolpilot", *room]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = [*base, *(node.module or "").split(".")] if node.module else base
            names = [[*module, alias.name] for alias in node.names] if module == ["smolpilot"] else [module]
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        else:
            continue
        yield from ((node.lineno, name[1]) for name in names if name[0] == "smolpilot" and len(name) > 1)


def lines_with(patterns: tuple[str, ...], folders: list[Path]) -> list[str]:
    """`file:line: text` of each line of code or template that one of the patterns finds."""
    found = []
    for path in sorted(path for folder in folders for kind in ("*.py", "*.j2") for path in folder.rglob(kind)):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if any(re.search(pattern, line) for pattern in patterns):
                found.append(f"{path.relative_to(SOURCE)}:{number}: {line.strip()}")
    return found


@pytest.mark.parametrize("room", sorted(MAY))
def test_a_room_imports_what_it_may_and_nothing_else(room: str) -> None:
    wrong = []
    for path in sorted((SOURCE / room).rglob("*.py")):
        place = path.relative_to(SOURCE)
        allowed = MAY[room] | EXCEPT.get(place.as_posix(), set()) | {room}
        found = imports(place.parent.parts, path.read_text(encoding="utf-8"))
        wrong += [f"{place}:{line}: {other}" for line, other in found if other in ROOMS - allowed]
    assert wrong == []


def test_the_walk_finds_imports_of_every_form() -> None:
    text = (
        "from ..policy.policy import Policy\nfrom . import b\nfrom smolpilot import training\n"
        "def f():\n    import smolpilot.inference.engine\nimport numpy\n"
    )
    found = list(imports(["evaluation"], text))
    assert found == [(1, "policy"), (2, "evaluation"), (3, "training"), (5, "inference")]


def test_judging_loads_no_torch() -> None:
    code = (
        "import importlib, pkgutil, sys, smolpilot.evaluation as room\n"
        "for module in pkgutil.walk_packages(room.__path__, 'smolpilot.evaluation.'):\n"
        "    importlib.import_module(module.name)\n"
        "heavy = {'torch', 'lerobot', 'gymnasium', 'onnxruntime', 'transformers'} & set(sys.modules)\n"
        "rooms = {'smolpilot.inference', 'smolpilot.training', 'smolpilot.environments'} & set(sys.modules)\n"
        "assert not heavy | rooms, heavy | rooms\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_evaluation_and_training_know_no_world() -> None:
    assert lines_with(WORDS, [SOURCE / "evaluation", SOURCE / "training"]) == []
    # They are words of this room, so the search finds what it looks for.
    assert len(lines_with(WORDS, [SOURCE / "environments" / "tabletop"])) > 20


def test_nobody_else_knows_smolvlas_network_or_asks_for_an_engine() -> None:
    own = {"smolvla", "policies", "inference"}
    others = [SOURCE / room for room in sorted(ROOMS - own)]
    # The table of LeRobot's options names them all.
    found = [line for line in lines_with(SMOLVLA, others) if not line.startswith("cli/foreign_options.py")]
    assert found == []
    assert lines_with(SMOLVLA, [SOURCE / "smolvla"]) != []
