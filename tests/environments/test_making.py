"""Environments by name, with settings as values and as text; what is refused, and by which words."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

from smolpilot.common.errors import SmolpilotError, UsageError
from smolpilot.contracts import ENVIRONMENTS, Environment, EnvironmentSpec
from smolpilot.environments import environment_factory, make_environment
from smolpilot.environments.making import named_task
from smolpilot.robots import RobotProfile

from ..helpers_packages import install_package


class World(Environment):
    """Keeps what it was given."""

    spec: Any = None
    reset: Any = None
    step: Any = None
    render: Any = None

    # `place` and `anything` are without annotation on purpose: then the default tells the kind.
    def __init__(  # type: ignore[no-untyped-def]
        self, colors: tuple[str, ...] = ("red",), size: int = 96, noise: float = 0.0, target: str | None = None,
        steps: int | None = None, shadows: bool = True, kind: Literal["flat", "steep"] = "flat",
        parts: Mapping[str, float] = {}, files: Sequence[Path] = (), place=(1, 2), anything=None,
    ) -> None:  # fmt: skip
        self.given = {key: value for key, value in locals().items() if key not in ("self", "__class__")}


def _open(**settings: Any) -> Environment:
    world = World()
    world.given = settings
    return world


def _needing(size: int, more: int = 3) -> Environment:
    return World(size=size + more)


def _failing() -> Environment:
    raise RuntimeError("no display\x1b[2J")


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {"world": World, "open": _open, "needing": _needing, "failing": _failing, "wrong": lambda: 3}
    real = ENVIRONMENTS.get
    monkeypatch.setattr(ENVIRONMENTS, "get", lambda name: kinds.get(name) or real(name))


def given(**settings: Any) -> dict[str, Any]:
    made = make_environment("world", settings)
    assert isinstance(made, World)
    return {key: value for key, value in made.given.items() if key in settings}


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("colors", "red,blue", ("red", "blue")),
        ("colors", " red , blue,", ("red", "blue")),
        ("colors", "none", ("none",)),
        ("size", "128", 128),
        ("noise", "0.5", 0.5),
        ("noise", "1", 1.0),
        ("target", "blue", "blue"),
        ("target", "none", None),
        ("target", "a,b", "a,b"),
        ("steps", "none", None),
        ("steps", "7", 7),
        ("shadows", "no", False),
        ("shadows", "true", True),
        ("kind", "steep", "steep"),
        ("parts", "a:1,b:0.5", {"a": 1.0, "b": 0.5}),
        ("files", "a/b.txt,c", (Path("a/b.txt"), Path("c"))),
        ("place", "3,4", ("3", "4")),  # of a default only the kind is known
        ("anything", "3", "3"),
    ],
)
def test_text_is_read_by_the_annotations(key: str, text: str, value: Any) -> None:
    found = given(**{key: text})[key]
    assert (tuple(found) if key == "files" else found) == value
    assert type(found) is type(value) or key == "files"


def test_values_of_yaml_pass_as_they_are() -> None:
    values = {"colors": ["red", "blue"], "size": 5, "noise": 1, "target": None, "shadows": False, "parts": {"a": 2}}
    assert given(**values) == {"colors": ("red", "blue"), "size": 5, "noise": 1.0, "target": None, "shadows": False,
                               "parts": {"a": 2.0}}  # fmt: skip
    assert given() == {}
    anything = make_environment("open", {"whatever": 3, "else": "x"})
    assert isinstance(anything, World)
    assert anything.given == {"whatever": 3, "else": "x"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"colours": "red"}, r"Unknown setting 'colours' of the environment 'world'\.\nExpected: one of colors, size, "
                             r".*\nFix: Did you mean 'colors'\?"),
        ({"zzz": 1}, r"Unknown setting 'zzz' of the environment 'world'\.\nExpected: one of colors, .*anything$"),
        ({"size": "big"}, r"Setting 'size' of the environment 'world': .*integer.*\(found 'big'\)"),
        ({"size": True}, r"The environment 'world': 'size' is true\.\nExpected: a number"),
        ({"size": 1.5}, r"Setting 'size' .*\(found 1\.5\)"),
        ({"noise": float("nan")}, "Setting 'noise' of the environment 'world' is nan"),
        ({"noise": "inf"}, "Setting 'noise' of the environment 'world' is inf"),
        ({"parts": {"a": float("inf")}}, "Setting 'parts' of the environment 'world' is inf"),
        ({"parts": "a=1"}, r"Setting 'parts' .* is 'a=1'\.\nExpected: NAME:VALUE"),
        ({"kind": "round"}, r"Setting 'kind' .*'flat' or 'steep' \(found 'round'\)"),
        ({"target": 3}, r"Setting 'target' .*string \(found 3\)"),
        ({"colors": 3}, r"Setting 'colors' .*tuple \(found 3\)"),
        ({"\x1b[2J": 3}, r"Unknown setting '\\x1b\[2J'"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_before_anything_is_made(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        environment_factory("world", settings)
    assert caught.value.exit_code == 2


def test_settings_without_a_default_have_to_be_given() -> None:
    with pytest.raises(UsageError, match="The environment 'needing' needs more settings: size"):
        environment_factory("needing")
    made = make_environment("needing", {"size": "4"})
    assert isinstance(made, World)
    assert made.given["size"] == 7


def test_unknown_names_propose_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"Unknown environment 'tabeltop'\.\nFix: Did you mean 'tabletop'\?"):
        environment_factory("tabeltop")


def test_each_call_makes_another_one() -> None:
    make = environment_factory("world")
    assert make() is not make()


def test_what_a_package_raises_or_returns_wrongly_is_one_error() -> None:
    with pytest.raises(SmolpilotError, match=r"'failing' cannot be made: RuntimeError: no display\\x1b\[2J$") as caught:
        make_environment("failing")
    assert caught.value.exit_code == 1
    with pytest.raises(SmolpilotError, match="'wrong' is a int without spec, reset, step, render, close"):
        make_environment("wrong")


STRANGER = """
from __future__ import annotations
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from nowhere import Thing

class Maze:
    spec = reset = step = render = close = None
    def __init__(self, size: int = 3, thing: Thing | None = None, lit=True):
        self.size, self.lit = size, lit
"""


def test_annotations_that_only_a_type_checker_sees_do_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = {"smolpilot.environments": {"maze": "stranger_maze:Maze"}}
    monkeypatch.syspath_prepend(install_package(tmp_path, "stranger_maze", STRANGER, points))
    made: Any = make_environment("maze", {"size": "5", "lit": "no"})
    assert (made.size, made.lit) == (5, False)


def test_the_package_is_light() -> None:
    code = (
        "import sys, smolpilot.environments, smolpilot.environments.demonstrations.record_options;"
        "sys.exit(any(name in sys.modules for name in ('gymnasium', 'torch', 'pydantic', 'yaml')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_name_with_a_task_is_the_environment_with_that_setting() -> None:
    assert named_task("aloha/insertion", {"msaa": "0"}) == ("aloha", {"task": "insertion", "msaa": "0"})
    assert named_task("aloha", {"task": "insertion"}) == ("aloha", {"task": "insertion"})
    assert named_task("some/path.yaml", {}) == ("some/path.yaml", {})


@pytest.mark.parametrize(
    ("name", "settings", "text"),
    [
        ("pusht/push", {}, "'pusht' has no tasks by name"),
        ("aloha/insertion", {"task": "insertion"}, "is said again by the setting 'task'"),
        ("aloa/insertion", {}, "aloa"),
    ],
)
def test_a_task_that_cannot_be_is_refused(name: str, settings: dict[str, str], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        named_task(name, settings)


@pytest.mark.parametrize("name", ["action_range", "rest"])
def test_a_spec_has_one_of_each_for_each_action(name: str) -> None:
    profile = RobotProfile.load("pusht")
    said: dict[str, Any] = {name: (0.0, 0.0, 0.0)}
    with pytest.raises(SmolpilotError, match=f"EnvironmentSpec 'fine': {name} is"):
        EnvironmentSpec("fine", profile, 10, "time passes", 3, **said)
