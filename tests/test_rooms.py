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

# What a room may import of the package beside itself; a room stands below all that may import it.
MAY = {
    "common": set(),
    "robots": {"common"},
    "contracts": {"common", "robots"},
    "datasets": {"common", "robots"},
    "runtime": {"common", "contracts", "robots"},
    "environments": {"common", "contracts", "datasets", "robots"},
    "smolvla": {"common", "contracts", "datasets", "robots"},
    "inference": {"common", "contracts", "robots", "smolvla"},
    "policies": {"common", "contracts", "datasets", "inference", "robots", "runtime", "smolvla"},
    "evaluation": {"common", "contracts", "datasets", "robots"},
    "compatibility": {"common", "contracts", "datasets", "robots", "smolvla"},
    "training": {"common", "compatibility", "contracts", "datasets", "environments", "evaluation", "policies", "robots",
                 "smolvla"},
    "selftest": {"common", "compatibility", "contracts", "datasets", "evaluation", "robots", "smolvla", "training"},
}  # fmt: skip
TOP = {"cli"}  # may import every room
# `bench` measures policies side by side by their names, so it opens them itself.
EXCEPT = {"evaluation/timing/bench.py": {"policies", "smolvla"}}
LOOSE = {"__init__.py", "__main__.py", "version.py"}
MOST_MODULES, MOST_LINES = 16, 600
# Modules of one name in several rooms, and why: each is what its room calls so, and is imported with the room's name.
SAME_NAME = {
    "arm": "the driver of one; the tabletop's",
    "aloha": "the environment; its simulator, which runs in any interpreter",
    "bus": "the driver's end of it; the emulated servos' end",
    "cameras": "the transform; the package of a setup's",
    "engine": "what copies datasets; what runs policies",
    "environment": "the contract; a camera that shows one",
    "governor": "the package, and the class itself",
    "keys": "of a frame; of a keyboard, while an arm runs",
    "metaworld": "the environment; its simulator, which runs in any interpreter",
    "so101": "the environment; its simulator, a package, which runs in any interpreter",
    "libero": "the environment; its simulator, which runs in any interpreter",
    "opening": "of policies; of arms",
    "options": "of a copy of a dataset; the package of train's",
    "packets": "of a servo bus; of a video",
    "page": "of `dataset check`; of a robot run",
    "paths": "LeRobot's templates; where the files of a dataset with findings really lie",
    "policy": "the contract; SmolVLA behind it",
    "pusht": "the environment; its simulator, which runs in any interpreter",
    "run": "of all dataset checks; the package of a training run, and the run itself",
    "setup": "of a training run; of a robot",
    "preflight": "of a training, by the self-test; of a policy on an arm",
    "run_folder": "the contract; the folder of a training run",
    "schedule": "of the learning rate; of chunks",
    "shipped": "what comes with smolpilot: environments, policies",
    "smolvla": "the room; its entry in the list of policies",
    "statistics": "the numbers that all rooms share; the package that makes a dataset's",
    "summary": "of a dataset; of a checkpoint",
    "tables": "of the reader; of a copy",
    "video": "the reader's; the package of a copy's",
}
BRITISH = r"colour|normalis|optimis|initialis|serialis|favour|behaviour|neighbour|centre\b|millimetre|grey\b"
# Stored in files of before, or LeRobot's.
BRITISH_STORED = {"normalised", "colours", "colour"}

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


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name within it; a package by its folder's."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def arrows() -> dict[str, set[str]]:
    """Module -> the modules of the package that it imports, also in functions and for type checkers.

    A package imported for a name of its `__init__` counts as that package.
    """
    known = modules()
    found: dict[str, set[str]] = {}
    for name, path in known.items():
        package = list(path.relative_to(SOURCE).parent.parts)
        found[name] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                base = package[: len(package) - node.level + 1] if node.level else []
                parts = (node.module or "").split(".") if node.module else []
                if not node.level:
                    if parts[:1] != ["smolpilot"]:
                        continue
                    parts = parts[1:]
                targets = [".".join([*base, *parts, alias.name]) for alias in node.names]
            elif isinstance(node, ast.Import):
                targets = [alias.name.partition(".")[2] for alias in node.names if alias.name.startswith("smolpilot.")]
            else:
                continue
            for target in targets:
                while target and target not in known:
                    target = target.rpartition(".")[0]
                if target and target != name:
                    found[name].add(target)
    return found


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Names that lead back to the first one; empty without a circle."""
    done: set[str] = set()

    def walk(name: str, way: list[str]) -> list[str]:
        if name in way:
            return [*way[way.index(name) :], name]
        if name in done:
            return []
        for other in sorted(graph.get(name, ())):
            if found := walk(other, [*way, name]):
                return found
        done.add(name)
        return []

    return next((found for name in sorted(graph) if (found := walk(name, []))), [])


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
    assert circle(arrows()) == []


def test_the_rooms_stand_in_an_order() -> None:
    assert set(MAY) | TOP == ROOMS
    assert circle({room: set(below) for room, below in MAY.items()}) == []
    rooms: dict[str, set[str]] = {}
    for name, others in arrows().items():
        room = name.partition(".")[0]
        rooms.setdefault(room, set()).update(other.partition(".")[0] for other in others)
    inside = {room: others - {room} for room, others in rooms.items() if room in ROOMS}
    assert circle(inside) == []


def test_no_folder_holds_more_modules_than_a_reader_takes_in() -> None:
    counts: dict[str, int] = {}
    for path in SOURCE.rglob("*.py"):
        if path.name != "__init__.py":
            folder = path.parent.relative_to(SOURCE).as_posix()
            counts[folder] = counts.get(folder, 0) + 1
    assert {folder: count for folder, count in counts.items() if count > MOST_MODULES} == {}


def test_no_module_is_longer_than_600_lines() -> None:
    lengths = {name: path.read_text(encoding="utf-8").count("\n") for name, path in modules().items()}
    assert {name: length for name, length in lengths.items() if length > MOST_LINES} == {}


def test_nothing_lies_loose_beside_the_rooms() -> None:
    assert {path.name for path in SOURCE.glob("*.py")} == LOOSE


def test_a_name_of_a_module_says_which_one_is_meant() -> None:
    by_name: dict[str, list[str]] = {}
    for name in modules():
        if name.partition(".")[0] not in TOP:  # verbs are called as what they show
            by_name.setdefault(name.rpartition(".")[2], []).append(name)
    several = {name: found for name, found in by_name.items() if len(found) > 1}
    assert {name: found for name, found in several.items() if name not in SAME_NAME} == {}
    assert SAME_NAME.keys() - several.keys() == set(), "a name of the list is one module's alone"


def test_identifiers_are_spelled_as_the_field_spells_them() -> None:
    wrong = []
    for name, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            found = [
                getattr(node, attribute)
                for attribute in ("id", "attr", "arg", "name", "asname")
                if isinstance(getattr(node, attribute, None), str)
            ]
            wrong += [f"{name}: {word}" for word in found if re.search(BRITISH, word, re.IGNORECASE)]
    assert sorted(set(wrong)) == []


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
