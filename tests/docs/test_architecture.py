"""What the documents name is there: paths, modules, and the functions behind `file.py:name`; the twelve questions."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from smolpilot.contracts import REGISTRIES

from ..test_rooms import imports

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "smolpilot"
DOCS = ROOT / "docs"
ARCHITECTURE = DOCS / "architecture.md"
# The log and the changelog keep the names of their time.
PAGES = [
    *(ROOT / name for name in ("README.md", "README.zh-CN.md", "CONTRIBUTING.md", "SECURITY.md")),
    *(page for page in sorted(DOCS.glob("*.md")) if page.name != "log.md"),
    *sorted((ROOT / "plugins").glob("*/README.md")),
]
PACKAGES = {path.name for path in SOURCE.iterdir() if (path / "__init__.py").is_file()}
# Where a path begins that belongs to the project; others are files of datasets, bundles and runs.
ROOTS = PACKAGES | {"src", "smolpilot", "tests", "docs", "examples", "benchmarks", "scripts", "plugins", ".github"}
ENTRY_POINTS = {registry.group for registry in REGISTRIES}

CODE_BLOCK = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
PATH = re.compile(r"[\w.*-]+(?:/[\w.*-]+)*/?")
NAMED = re.compile(r"([\w./-]+\.py):([A-Za-z_][\w.]*)")
MODULE = re.compile(r"(?:smolpilot\.)?[a-z_]\w*(?:\.\w+)+")
LINKED = re.compile(r"\[`([^`]+)`\]\(([^)\s]+)\)")


def spans(page: Path) -> list[str]:
    """The code spans of a page, without those of its code blocks."""
    return SPAN.findall(CODE_BLOCK.sub("", page.read_text(encoding="utf-8")))


def found(path: str) -> Path | None:
    """A path as the documents spell it: from the root, from src, or from the package."""
    for base in (ROOT, ROOT / "src", SOURCE):
        if "*" in path:
            if any(base.glob(path)):
                return base
        elif (base / path).exists():
            return base / path
    return None


def defined(file: Path) -> set[str]:
    """Names that a module defines at its top, and `Class.member`."""
    names: set[str] = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        members = _names(node)
        names |= members
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{name}" for inner in node.body for name in _names(inner)}
    return names


def _names(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.TypeAlias):
        return {node.name.id}
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return {inner.id for target in targets for inner in ast.walk(target) if isinstance(inner, ast.Name)}
    return set()


def module_problem(name: str) -> str | None:
    """What is wrong with `smolpilot.room.module` or `room.module.attribute`; None where it does not mean a module."""
    if name in ENTRY_POINTS:
        return None
    words = name.removeprefix("smolpilot.").split(".")
    if words[0] not in PACKAGES:
        return f"{name}: no package {words[0]}" if name.startswith("smolpilot.") else None
    place, depth = SOURCE, 0
    while depth < len(words) and (place / words[depth]).is_dir():
        place, depth = place / words[depth], depth + 1
    if depth < len(words) and (place / f"{words[depth]}.py").is_file():
        place, depth = place / f"{words[depth]}.py", depth + 1
    rest = words[depth:]
    if not rest:
        return None
    text = (place / "__init__.py" if place.is_dir() else place).read_text(encoding="utf-8")
    return None if re.search(rf"\b{rest[0]}\b", text) else f"{name}: no {rest[0]} in {place.relative_to(SOURCE)}"


def problems(page: Path) -> list[str]:
    """Paths, names behind them and modules of a page that are not there."""
    wrong = []
    for span in spans(page):
        if named := NAMED.fullmatch(span):
            file = found(named[1])
            if file is None:
                wrong.append(f"{span}: no such file")
            elif named[2] not in defined(file):
                wrong.append(f"{span}: not defined there")
        elif "/" in span and PATH.fullmatch(span) and span.split("/")[0] in ROOTS:
            wrong += [f"{span}: no such path"] if found(span) is None else []
        elif MODULE.fullmatch(span) and not re.search(r"\.(py|json|yaml|yml|md|toml|txt|onnx|npz|html|data)$", span):
            problem = module_problem(span)
            wrong += [problem] if problem else []
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_document_names_is_there(page: Path) -> None:
    assert problems(page) == []


def test_the_search_finds_what_is_not_there(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "`robots/units.py:kind_of` `robots/units.py:Unit` `robots/profile.py:RobotProfile.load` `tests/cli`\n"
        "`robots/profiles/*.yaml` `smolpilot.contracts.Policy` `meta/info.json` `policy.model`\n"
        "`smolpilot.cameras`\n```\n`robots/no.py`\n```\n"
        "`robots/units.py:gone` `robots/profile.py:RobotProfile.gone` `robots/gone.py` `src/gone/` `robots/gone/*.py`\n"
        "`smolpilot.gone.Policy` `smolpilot.contracts.Gone` `smolvla.network.gone` `smolpilot.studio`\n"
    )
    assert [problem.partition(":")[0] for problem in problems(page)[:1]] == ["robots/units.py"]
    assert len(problems(page)) == 9


def test_links_on_a_name_lead_to_its_file() -> None:
    links = LINKED.findall(ARCHITECTURE.read_text(encoding="utf-8"))
    assert len(links) > 10
    for text, link in links:
        assert (DOCS / link).resolve() == found(text.partition(":")[0]), text


def test_questions_are_answered_by_links() -> None:
    text = ARCHITECTURE.read_text(encoding="utf-8").partition("## Where is it?\n")[2].partition("\n## ")[0]
    rows = [row.strip("|").split(" | ") for row in text.splitlines() if row.startswith("| ")][1:]
    assert len(rows) == 14
    words = ("letterbox", "learning rate", "camera", "flow matching loss", "frame cache", "dataset check", "resumed",
             "unit", "policy", "environment", "arm", "motor", "action", "command")  # fmt: skip
    for word, (question, answer) in zip(words, rows, strict=True):
        assert word in question
        assert re.search(r"\]\([^)]+\)", answer), question


def tree_lines() -> list[str]:
    text = ARCHITECTURE.read_text(encoding="utf-8")
    return text.partition("```\nsrc/smolpilot/\n")[2].partition("```")[0].splitlines()


def test_packages_import_only_what_is_listed_above_them() -> None:
    order = [line.split()[0].rstrip("/") for line in tree_lines() if re.match(r"  \w", line)]
    upward = []
    for path in sorted(path for name in order for path in (SOURCE / name).rglob("*.py")):
        place = path.relative_to(SOURCE)
        above = order[: order.index(place.parts[0]) + 1]
        found = imports(place.parent.parts, path.read_text(encoding="utf-8"))
        upward += [f"{place}:{line}: {name}" for line, name in found if name in PACKAGES and name not in above]
    assert upward == []


def test_the_tree_shows_every_package_and_no_other() -> None:
    shown: set[str] = set()
    room = ""
    for line in tree_lines():
        indent, name = len(line) - len(line.lstrip()), line.split()[0].rstrip("/")
        room = name if indent == 2 else room
        shown.add(name if indent == 2 else f"{room}/{name}")
        assert 10 < len(line.split(maxsplit=1)[1]) < 120, line
    assert {name for name in shown if "/" not in name} == PACKAGES
    assert [name for name in shown if not (SOURCE / name).is_dir()] == []
    large = {"datasets", "runtime", "smolvla", "inference", "training", "evaluation"}
    inner = {
        f"{name}/{path.name}"
        for name in large
        for path in (SOURCE / name).iterdir()
        if (path / "__init__.py").is_file()
    }
    assert inner - shown == set()
