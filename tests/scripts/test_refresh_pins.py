"""The pins in pyproject.toml: written from a lock file, complete, and free of addresses."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def pinner() -> ModuleType:
    spec = importlib.util.spec_from_file_location("refresh_pins", ROOT / "scripts" / "refresh_pins.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def package(name: str, version: str, *markers: str) -> dict[str, object]:
    source = {"registry": "https://example.org/simple"}
    return {"name": name, "version": version, "source": source, "resolution-markers": list(markers)}


def test_pins_of_a_lock_file(pinner: ModuleType) -> None:
    own = {"name": "smolpilot", "source": {"editable": "."}}
    lock = {
        "package": [
            package("b", "2.0", "sys_platform == 'win32'", "sys_platform == 'emscripten'"),
            package("b", "1.0", "sys_platform == 'linux'"),
            package("a", "3"),
            own,
        ]
    }
    assert pinner.pins_of_lock(lock) == [
        "a==3",
        "b==1.0 ; (sys_platform == 'linux')",
        "b==2.0 ; (sys_platform == 'win32') or (sys_platform == 'emscripten')",
    ]
    with pytest.raises(SystemExit, match="without a marker"):
        pinner.pins_of_lock({"package": [package("b", "2"), package("b", "1")]})


def test_writing_changes_nothing_outside_the_markers(pinner: ModuleType) -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    pins = ["a==1", "b==2 ; (python_version < '3.13')"]
    changed = pinner.write_pins(text, pins, ["c==3"])
    assert pinner.read_pins(changed) == (pins, ["c==3"])
    assert pinner.write_pins(changed, *pinner.read_pins(text)) == text
    assert pinner.read_pins(pinner.write_pins(text, [], [])) == ([], [])
    assert tomllib.loads(changed)["project"] == tomllib.loads(text)["project"]


def test_every_direct_requirement_is_pinned_exactly_and_without_an_address(pinner: ModuleType) -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    pins, build = pinner.read_pins(text)
    pattern = re.compile(r"[a-z0-9._-]+==[^\s;/:@]+( ; .+)?")
    assert [pin for pin in (*pins, *build) if not pattern.fullmatch(pin)] == []
    assert "://" not in "".join((*pins, *build))
    values = tomllib.loads(text)
    direct = [
        *values["project"]["dependencies"],
        *(requirement for group in values["dependency-groups"].values() for requirement in group),
        *values["project"]["optional-dependencies"]["lerobot"],
    ]
    names = {re.split(r"[^A-Za-z0-9._-]", text)[0].lower() for text in direct}
    assert names <= {pin.split("==")[0] for pin in pins}
    assert "hatchling" in {pin.split("==")[0] for pin in build}
    assert len(pins) > 100
