"""Verdicts that are kept: asked for once for each environment as it is, and anew where anything has changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smolpilot.cli.main import main
from smolpilot.environments import make_environment, shipped
from smolpilot.environments.gates import gate_cache
from smolpilot.environments.gates.gate import Gate
from smolpilot.environments.gates.gate_cache import default_folder, gate_key, keep_gate, kept_gate

FACTS: dict[str, Any] = {
    "rate": 50.0,
    "physics": {"mujoco": "3.8.1", "multiccd": False},
    "render": {"gl": "egl", "shadows": True, "width": 640},
    "packages": {"gym-aloha": "0.1.5"},
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "smolpilot" / "gates"


def played(settings: dict[str, Any]) -> tuple[Gate, int]:
    """The tabletop's verdict, and how many episodes were played for it."""
    told: list[int] = []
    gate = kept_gate("tabletop", settings, {}, progress=lambda what, done, total: told.append(done))
    return gate, len(told)


def test_a_verdict_is_found_once(cache: Path) -> None:
    first, before = played({"target": "green"})
    again, after = played({"target": "green"})
    assert (first, before, after) == (again, 20, 0)
    assert played({"target": "red"})[1] == 20, "other settings, another verdict"
    assert len([*cache.iterdir()]) == 2
    assert default_folder() == cache


def test_settings_that_mean_the_same_share_it() -> None:
    """As text, as the command line has them, and as values; what a policy is told changes no demonstration."""
    assert gate_key("pusht", {"width": "128"}, {}) == gate_key("pusht", {"width": 128}, {})
    assert gate_key("pusht", {"instruction": "push"}, {}) == gate_key("pusht", {}, {})
    assert gate_key("pusht", {"width": 128}, {}) != gate_key("pusht", {}, {})


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("physics", "mujoco", "3.9.0"),
        ("physics", "multiccd", True),
        ("render", "gl", "osmesa"),
        ("render", "shadows", False),
        ("packages", "gym-aloha", "0.1.6"),
    ],
)
def test_whatever_is_simulated_or_drawn_otherwise_needs_a_new_one(part: str, name: str, value: object) -> None:
    before = gate_key("aloha", {}, FACTS)
    assert gate_key("aloha", {}, {**FACTS, "rate": 49.0}) == before, "no fact of the simulation's record"
    assert gate_key("aloha", {}, {**FACTS, part: {**FACTS[part], name: value}}) != before


@pytest.mark.parametrize(
    ("name", "value"), [("VERSION", 99), ("__version__", "9.9"), ("EPISODES", 7), ("_code", lambda name: {"file": "x"})]
)
def test_another_program_needs_a_new_one(name: str, value: object, monkeypatch: pytest.MonkeyPatch) -> None:
    before = gate_key("aloha", {}, FACTS)
    assert gate_key("aloha", {}, FACTS, Path("/sims/bin/python")) != before
    monkeypatch.setattr(gate_cache, name, value)
    assert gate_key("aloha", {}, FACTS) != before


def test_the_code_that_plays_is_part_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert gate_key("tabletop", {}, {})["code"].keys() == {"files", "numpy", "smolpilot"}
    source = tmp_path / "maze_of_somebody.py"
    source.write_text("def make():\n    raise RuntimeError\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(shipped.SHIPPED, "maze", "maze_of_somebody:make")
    before = gate_key("maze", {}, {})
    assert before["code"].keys() == {"files", "numpy"}
    source.write_text(source.read_text() + "# another version\n")
    assert gate_key("maze", {}, {})["code"]["files"] != before["code"]["files"]


@pytest.mark.parametrize("change", [lambda text: text[: len(text) // 2], lambda text: text.replace("20", "19")])
def test_a_damaged_one_is_made_anew(cache: Path, change: Callable[[str], str]) -> None:
    first, _ = played({})
    (path,) = cache.iterdir()
    path.write_text(change(path.read_text()))
    again, count = played({})
    assert (again, count) == (first, 20)
    assert played({})[1] == 0


def test_a_cache_that_cannot_be_written_makes_nothing_wrong(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file in its place")
    assert [played({})[0].verdict, played({})[1]] == ["passed", 20]


def test_a_folder_in_its_place(cache: Path) -> None:
    played({})
    (path,) = cache.iterdir()
    path.unlink()
    path.mkdir()
    assert played({})[0].verdict == "passed"


def test_what_is_not_gated_or_broke_is_not_kept(cache: Path) -> None:
    keep_gate(Gate("not gated", "nothing is at hand"), "tabletop", {})
    keep_gate(Gate("failed", "the process was killed", 19, 20, errors=1), "tabletop", {})
    assert not cache.exists()


def test_a_check_that_broke_leaves_nothing_of_before() -> None:
    keep_gate(Gate("passed", "it was like this once", 20, 20), "tabletop", {})
    keep_gate(Gate("failed", "the process was killed", 10, 20, errors=10), "tabletop", {})
    assert played({})[1] == 20


def test_env_check_measures_anew_and_keeps_what_it_found(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = Gate("failed", "it was like this once", 0, 20)
    keep_gate(wrong, "tabletop", {})
    assert played({}) == (wrong, 0)
    assert main(["env", "check", "tabletop", "--episodes", "3"]) == 0
    assert played({}) == (wrong, 0), "fewer episodes than `rollout` asks for"
    capsys.readouterr()
    assert main(["env", "check", "tabletop", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "passed"
    assert played({})[0].verdict == "passed"
    assert played({})[1] == 0


def test_facts_of_an_environment_find_what_its_worker_said() -> None:
    """`env check` has them from a worker, `rollout` from the environment that it will use."""
    pytest.importorskip("gym_pusht", reason="gym-pusht is not installed")
    assert main(["env", "check", "pusht"]) == 0
    environment: Any = make_environment("pusht")
    told: list[int] = []
    gate = kept_gate("pusht", {}, environment.facts, progress=lambda what, done, total: told.append(done))
    environment.close()
    assert (gate.verdict, told) == ("replay-exact", [])
