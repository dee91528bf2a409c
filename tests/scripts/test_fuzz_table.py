"""The table of the fuzzer in docs/security.md: how it is made, and that it has zeros where they belong."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fuzz_table", ROOT / "scripts" / "fuzz_table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def result(outcome: str, allowed: str = "") -> dict[str, Any]:
    return {"outcome": outcome, "allowed": allowed}


def test_counts_seeds_and_reasons(script: ModuleType) -> None:
    found = {
        "a": [result("right"), result("right"), result("error"), result("silent", "no checksum")],
        "b": [result("traceback"), result("hang"), result("silent"), result("silent", "no checksum")],
    }
    lines = script.table(found, 7, "2030-01-02").splitlines()
    assert lines[0].startswith("8 cases, 2030-01-02: of each kind the seeds from 7 on.")
    assert "| a | 4 | 2 | 1 | 0 | 0 | 1 |" in lines
    assert "| b | 4 | 0 | 0 | 1 | 1 | 2 |" in lines
    assert "| all | 8 | 2 | 1 | 1 | 1 | 3 |" in lines
    assert lines[-2:] == ["- NOT ALLOWED (b)", "- no checksum (a, b)"]


def test_only_the_block_is_replaced(script: ModuleType) -> None:
    text = f"before\n{script.BEGIN}\nold \\1\n{script.END}\nafter"
    assert script.replaced(text, "new \\1") == f"before\n{script.BEGIN}\nnew \\1\n{script.END}\nafter"
    with pytest.raises(ValueError, match="fuzz table: begin"):
        script.replaced("no marks", "new")


def test_the_documented_table_is_of_all_kinds_and_clean(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tests"))
    from fuzz.kinds import KINDS

    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    block = text.split(script.BEGIN)[1].split(script.END)[0]
    rows = [re.split(r" *\| *", line.strip("| ")) for line in block.splitlines() if line.startswith("|")][2:]
    assert [row[0] for row in rows] == [*(kind.name for kind in KINDS), "all"]
    assert all(int(row[1]) >= kind.cases for row, kind in zip(rows[:-1], KINDS, strict=True))
    assert {(row[4], row[5]) for row in rows} == {("0", "0")}, "tracebacks, hangs"
    assert "NOT ALLOWED" not in block
    for name in [name for name in sys.modules if name == "fuzz" or name.startswith("fuzz.")]:
        monkeypatch.delitem(sys.modules, name)
