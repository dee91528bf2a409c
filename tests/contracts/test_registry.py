"""The registry: what ships, what installed packages add, and what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from smolpilot.common.errors import SmolpilotError, UsageError
from smolpilot.contracts import ENVIRONMENTS, POLICIES, REGISTRIES, ROBOTS, Registry

from ..helpers_packages import install_package, run_smolpilot

ARM = "class Arm:\n    pass\n\nnumber = 3\n"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with a robot that works, one that is no class, one of a module that is not there."""
    points = {"smolpilot.robots": {"arm": "stranger:Arm", "number": "stranger:number", "gone": "nowhere_at_all:Arm"}}
    site = install_package(tmp_path, "stranger", ARM, points)
    monkeypatch.syspath_prepend(site)
    return site


def test_the_groups_of_entry_points_are_those_of_the_documents() -> None:
    groups = ["policies", "environments", "robots", "cameras", "teleoperators"]
    assert [registry.group for registry in REGISTRIES] == [f"smolpilot.{group}" for group in groups]


def test_everything_that_ships_can_be_imported() -> None:
    shipped = [(registry, plugin.name) for registry in REGISTRIES for plugin in registry.plugins()
               if plugin.origin == "smolpilot"]  # fmt: skip
    assert {name for _, name in shipped} >= {"hold-state", "mean-action", "tabletop", "pusht"}
    for registry, name in shipped:
        assert callable(registry.get(name))


def test_an_unknown_name_proposes_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"Unknown policy 'hold_stat'.\nFix: Did you mean 'hold-state'\?"):
        POLICIES.get("hold_stat")
    with pytest.raises(UsageError, match=r"Unknown environment 'pushT'\.\nFix: Did you mean 'pusht'"):
        ENVIRONMENTS.get("pushT")


def test_a_package_adds_a_name_without_touching_ours(installed: Path) -> None:
    assert "arm" in ROBOTS.names()
    assert ROBOTS.get("arm").__module__ == "stranger"
    assert [plugin.origin for plugin in ROBOTS.plugins() if plugin.name == "arm"] == ["stranger"]


def test_a_package_that_cannot_be_imported_is_named_with_its_cause(installed: Path) -> None:
    with pytest.raises(SmolpilotError, match=r"'gone' of stranger .* imported: ModuleNotFoundError") as caught:
        ROBOTS.get("gone")
    assert caught.value.exit_code == 1
    with pytest.raises(SmolpilotError, match="'number' of stranger is a int"):
        ROBOTS.get("number")


def test_a_name_that_two_bring_is_refused_with_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("first", "second"):
        site = install_package(tmp_path / name, name, ARM, {"smolpilot.policies": {"hold-state": f"{name}:Arm"}})
        monkeypatch.syspath_prepend(site)
    with pytest.raises(UsageError, match="'hold-state' is brought by first and second and smolpilot"):
        POLICIES.get("hold-state")


def test_our_own_modules_fail_as_they_are() -> None:
    broken = Registry("thing", "smolpilot.things", f"{__package__}.shipped_badly")
    with pytest.raises(AttributeError, match="no attribute 'Missing'"):
        broken.get("missing")


def test_the_verb_lists_them_and_says_which_fail(installed: Path) -> None:
    done = run_smolpilot(installed, "plugins", "--json", "--check")
    assert done.returncode == 1, done.stderr
    rows = {(row["kind"], row["name"]): row for row in json.loads(done.stdout)["plugins"]}
    assert rows["robot", "arm"] == {"kind": "robot", "name": "arm", "origin": "stranger", "target": "stranger:Arm",
                                    "problem": ""}  # fmt: skip
    assert "cannot be imported" in rows["robot", "gone"]["problem"]
    assert rows["policy", "hold-state"]["origin"] == "smolpilot"


def test_the_verb_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    from smolpilot.cli.main import main

    assert main(["plugins"]) == 0
    said = capsys.readouterr().out
    assert "hold-state" in said
    assert "smolpilot.teleoperators" in said
