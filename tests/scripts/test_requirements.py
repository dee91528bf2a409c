"""requirements/*.txt: every package of a set at its pinned version, with the hashes of its files and no address."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
NEEDED = {
    "runtime": PROJECT["project"]["dependencies"],
    **{name: [*PROJECT["project"]["dependencies"], *needed] for name, needed in EXTRAS.items()},
    "test": [*PROJECT["project"]["dependencies"], *PROJECT["dependency-groups"]["test"]],
    **{name: PROJECT["dependency-groups"][name] for name in ("site", "workflows")},
    "build": PROJECT["build-system"]["requires"],
}
PIN = re.compile(r"([a-z0-9][a-z0-9._-]*)==([0-9][A-Za-z0-9.+!]*)( ; [A-Za-z0-9_<>=!.'() ]+)? \\")
HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}( \\)?")


def pins(name: str) -> dict[str, set[str]]:
    """Versions by package of a file in which nothing but pins and hashes stands, at least one hash for each pin."""
    found: dict[str, set[str]] = {}
    lines = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        pin = PIN.fullmatch(line)
        if pin:
            found.setdefault(pin[1], set()).add(pin[2])
        else:
            # No index, no link, no path, no option, no comment that names a host.
            assert HASH.fullmatch(line), f"{name}.txt: {line}"
        # A line that goes on is followed by a hash, one that does not by a pin or nothing.
        assert line.endswith("\\") == following.startswith("    --hash="), f"{name}.txt: {line}"
    return found


@pytest.mark.parametrize("name", NEEDED)
def test_a_set_is_whole_pinned_and_without_addresses(name: str) -> None:
    found = pins(name)
    key = "build-constraint-dependencies" if name == "build" else "constraint-dependencies"
    declared: dict[str, set[str]] = {}
    for pin in PROJECT["tool"]["uv"][key]:
        package, _, version = pin.split(" ; ")[0].partition("==")
        declared.setdefault(package, set()).add(version)
    assert found
    assert {
        package: versions for package, versions in found.items() if not versions <= declared.get(package, set())
    } == {}
    direct = {re.split(r"[^A-Za-z0-9._-]", requirement)[0].lower() for requirement in NEEDED[name]}
    assert direct - set(found) == set()


def test_no_set_is_forgotten() -> None:
    assert {path.stem for path in (ROOT / "requirements").iterdir()} == set(NEEDED)
