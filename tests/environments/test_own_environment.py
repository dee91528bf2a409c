"""The example of docs/own-environment.md: it keeps the contract, and a package of that one file adds it by name."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from smolpilot.common.errors import UsageError
from smolpilot.environments import environment_factory, make_environment

from ..helpers_packages import install_package, run_smolpilot
from .helpers_conformance import check_environment

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_environment.py"
POINTS = {"smolpilot.environments": {"cart": "own_environment:Cart"}}


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    site = install_package(tmp_path, "own_environment", EXAMPLE.read_text(encoding="utf-8"), POINTS)
    monkeypatch.syspath_prepend(site)
    monkeypatch.delitem(sys.modules, "own_environment", raising=False)
    return site


def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("example_of_an_environment", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_keeps_the_contract() -> None:
    check_environment(example().Cart)


@pytest.mark.parametrize("swapped", [False, True])
def test_who_obeys_succeeds_in_every_episode_and_who_stands_still_in_none(swapped: bool) -> None:
    module = example()
    cart = module.Cart()
    for seed in range(10):
        for obeys in (True, False):
            observation, info = cart.reset(seed)
            if swapped:
                observation, info = cart.reset(seed, instruction=info.alternatives[0])
            outcome = None
            while outcome is None:
                goal = [module.ENDS[info.instruction]] if obeys else observation["observation.state"]
                observation, outcome = cart.step(goal)
            assert (outcome.success, outcome.label) == ((True, "named") if obeys else (False, "none"))
            assert outcome.reached == ((info.instruction,) if obeys else ())


def test_a_package_of_one_file_adds_it_by_name(installed: Path) -> None:
    check_environment(environment_factory("cart", {"start": "0.5"}))
    starts = [make_environment("cart", {"start": 0.9}).reset(seed)[0]["observation.state"] for seed in range(30)]
    assert np.abs(starts).max() > 0.5
    with pytest.raises(UsageError, match=r"Unknown setting 'stat' .*'cart'.\nExpected: one of start\nFix: Did you"):
        environment_factory("cart", {"stat": "1"})


def test_rollout_takes_it_by_name(installed: Path, tmp_path: Path) -> None:
    out = tmp_path / "still"
    done = run_smolpilot(installed, "rollout", "hold-state", "--env", "cart", "--out", str(out), "--episodes", "2",
                         "--env-settings", "start=0.5")  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = json.loads((out / "results.json").read_text())
    assert (results["env"], results["env_settings"], results["successes"]) == ("cart", {"start": "0.5"}, 0)
    assert results["failures"] == {"none": 2, "other": 0}
    assert (out / "video.mp4").is_file()


def test_the_command_line_sees_it(installed: Path) -> None:
    done = run_smolpilot(installed, "plugins", "--json", "--check")
    rows = {row["name"]: row for row in json.loads(done.stdout)["plugins"] if row["kind"] == "environment"}
    assert rows["cart"] == {"kind": "environment", "name": "cart", "origin": "own_environment",
                            "target": "own_environment:Cart", "problem": ""}  # fmt: skip
    assert {row["problem"] for row in rows.values()} == {""}
