"""Every flag that help, errors, documents, examples or a README names exists in some verb: no phantom."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from smolpilot.cli.parsing.arguments import fields_of
from smolpilot.cli.parsing.completion import completion_script
from smolpilot.cli.parsing.help import help_text
from smolpilot.cli.parsing.verbs import VERBS, Verb, load, usage

ROOT = Path(__file__).resolve().parents[2]
FLAG = re.compile(r"(?<![\w/-])--[A-Za-z][\w-]*")
PAGES = [ROOT / "README.md", ROOT / "README.zh-CN.md", ROOT / "CONTRIBUTING.md",
         *(page for page in sorted((ROOT / "docs").rglob("*.md")) if page.name != "log.md")]  # fmt: skip

# Flags of other programs that code and documents name.
_BY_PROGRAM = {
    "smolpilot itself": "--version",
    "uv, pip": "--group --extra --reinstall --reinstall-package --only-binary",
    "hf download": "--repo-type --revision --local-dir --include",
    "torchrun": "--nnodes --nproc-per-node --rdzv-endpoint",
    "LeRobot and other trainers": "--pretrained-path --output_dir --save_freq --learning-rate --max_steps",
    "nvidia-smi": "--query-gpu --format",
    "trtexec": "--onnx --fp16 --saveEngine --minShapes --optShapes --maxShapes",
    "scripts and benchmarks of this repository": "--list --missing --step-ms --size --batch --curve --plot",
    "another spelling": "--Batch_Size",
}
OTHERS = frozenset(flag for flags in _BY_PROGRAM.values() for flag in flags.split())


def flags_of(verb: Verb) -> Iterator[str]:
    """The flags that a verb's parser takes."""
    yield from ("--help", "--help-all", *(["--config"] if verb.config else []))
    for field in fields_of(verb.options).values():
        if not field.positional:
            yield from (field.option, *([f"--no-{field.option[2:]}"] if field.has_no else []))


@cache
def flags_of_verbs() -> frozenset[str]:
    """Every flag that some verb's parser takes."""
    return frozenset(flag for name in VERBS for flag in flags_of(load(name)))


def phantoms(text: str) -> list[str]:
    """The flags of a text that no verb has, and that are no other program's; `--no-` with an open end is none."""
    return [flag for flag in FLAG.findall(text) if flag not in flags_of_verbs() | OTHERS and not flag.endswith("-")]


def strings_of(path: Path) -> Iterator[str]:
    """The strings of a module; of an f-string its constant parts, a value in it being the end of a flag."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "-" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield node.value


@pytest.mark.parametrize("name", VERBS)
def test_help_names_flags_of_its_own_verb_only(name: str) -> None:
    verb = load(name)
    own = set(flags_of(verb)) | {"--help-all"}
    for everything in (True, False):
        text = help_text(verb.options, name, everything=everything, config=verb.config)
        # Those of other verbs are named as such.
        text = re.sub(r"`smolpilot [^`]*`|--\w+\s+of\s+(the\s+train|train)", "", text)
        assert set(FLAG.findall(text)) <= own


def test_pages_of_verbs_and_the_completion_name_flags_that_exist() -> None:
    for text in (usage(), usage("dataset"), usage("robot"), completion_script("bash")):
        assert phantoms(text) == []


def test_errors_and_docstrings_name_flags_that_exist() -> None:
    wrong, number = [], 0
    for path in sorted((ROOT / "src" / "smolpilot").rglob("*.py")):
        if path.match("cli/parsing/foreign*.py") or path.match("common/renamed.py"):
            continue
        for text in strings_of(path):
            number += len(FLAG.findall(text))
            wrong += [f"{path.relative_to(ROOT)}: {flag} in {text[:60]!r}" for flag in phantoms(text)]
    assert wrong == []
    assert number > 300


def test_answers_to_flags_of_others_name_ours() -> None:
    text = (ROOT / "src" / "smolpilot" / "cli" / "parsing" / "foreign.yaml").read_text(encoding="utf-8")
    assert phantoms(re.sub(r"^ *(#|names:|  ).*$", "", text, flags=re.MULTILINE)) == []


@pytest.mark.parametrize("page", [page for page in PAGES if page.is_file()], ids=lambda page: page.name)
def test_documents_name_flags_that_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert phantoms(text) == []


def test_examples_name_flags_that_exist() -> None:
    for path in sorted(path for kind in ("*.sh", "*.py", "*.md") for path in (ROOT / "examples").rglob(kind)):
        own = set(re.findall(r"add_argument\(\s*\"(--[\w-]+)", path.read_text(encoding="utf-8")))
        assert [flag for flag in phantoms(path.read_text(encoding="utf-8")) if flag not in own] == [], path.name


@pytest.mark.parametrize(
    "flag", ["--no-json", "--execution-horizon", "--stats-from", "--modes", "--no-resume", "--stat"]
)
def test_phantoms_of_before_would_be_found(flag: str) -> None:
    assert phantoms(f"leave {flag} out") == [flag]
    assert phantoms("--no-train-expert-only and --no-freeze-vision, --no-preflight") == []
