"""The package as a whole: light imports, the command line's manners, and the rules of the house."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import smolpilot
from smolpilot.cli.main import main
from smolpilot.cli.parsing.verbs import GROUPS, PURPOSES, VERBS

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
HEAVY = ("torch", "lerobot", "numpy", "av", "pyarrow", "matplotlib", "transformers")
# The only places that may import lerobot: an adapter for its policies and one for its robots.
BORDERS = ("policies/lerobot.py", "runtime/lerobot_robot.py")
MAX_FILE, MAX_FUNCTION = 600, 80


def modules_after(code: str) -> list[str]:
    """The heavy modules that a fresh Python has loaded after running `code`."""
    report = f"\nimport sys, json; print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code + report], capture_output=True, text=True, check=True, env=environment
    )
    return list(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "code",
    [
        "import smolpilot; smolpilot.__version__",
        "from smolpilot.cli.main import main; main(['--help'])",
        "from smolpilot.cli.main import main; main(['--version'])",
        "from smolpilot.cli.main import main; main(['no-such-verb'])",
    ],
)
def test_import_and_help_load_nothing_heavy(code: str) -> None:
    assert modules_after(code) == []


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_there_and_its_help_loads_no_torch(verb: str) -> None:
    code = (
        f"from smolpilot.cli.main import main\ntry:\n    main([*{verb!r}.split(), '--help'])\nexcept SystemExit: pass"
    )
    assert not {"torch", "lerobot"} & set(modules_after(code))


def test_the_installed_command_answers() -> None:
    command = Path(sys.executable).with_name("smolpilot")
    done = subprocess.run([str(command), "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"smolpilot {smolpilot.__version__}\n"


def test_public_names_exist() -> None:
    for name in smolpilot.__all__:
        assert getattr(smolpilot, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = smolpilot.no_such_name


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    out = capsys.readouterr().out
    for verb in (verb for verb in PURPOSES if " " not in verb):
        assert re.search(rf"^  {verb} ", out, re.MULTILINE)
    for group in GROUPS:
        assert main([group]) == 0
        said = capsys.readouterr().out
        for verb in (verb.removeprefix(f"{group} ") for verb in VERBS if verb.startswith(f"{group} ")):
            assert re.search(rf"^  {verb} ", said, re.MULTILINE)


def test_an_unknown_verb_exits_2_and_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian"]) == 2
    err = capsys.readouterr().err
    assert "Unknown verb 'trian'" in err
    assert "Did you mean 'train'?" in err


@pytest.mark.parametrize("verb", VERBS)
def test_an_unknown_option_exits_2(verb: str) -> None:
    code = (
        f"from smolpilot.cli.main import main; import sys; sys.exit(main([*{verb!r}.split(), '--no-such-option-here']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    # Where an argument is required, its absence is told first.
    assert re.search("no-such-option-here|[Mm]issing|[Rr]equired", done.stdout + done.stderr)
    assert "Traceback" not in done.stderr


def test_a_misspelled_option_exits_2_and_names_the_nearest(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--jsn"]) == 2
    captured = capfd.readouterr()
    assert "--jsn" in captured.out + captured.err
    assert "--json" in captured.out + captured.err


def imports_of(path: Path) -> set[str]:
    """The top-level packages that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src" / "smolpilot")))
def test_rules_of_the_house(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if not str(path).endswith(BORDERS):
        assert "lerobot" not in imports_of(path)
    assert text.count("\n") < MAX_FILE
    long = [
        f"{node.name}: {length} lines"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or 0) - node.lineno + 1) > MAX_FUNCTION
    ]
    assert long == []
    assert ast.get_docstring(ast.parse(text)), "a file starts with one line on its purpose"
    assert not re.search(r"\b(TODO|FIXME|XXX)\b", text)


def test_cli_files_load_nothing_heavy_at_the_top() -> None:
    paths = sorted((ROOT / "src" / "smolpilot" / "cli").rglob("*.py"))
    assert paths
    for path in paths:
        top = {
            name.split(".")[0]
            for node in ast.parse(path.read_text(encoding="utf-8")).body
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in ([a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""])
        }
        assert not top & set(HEAVY), path.name
