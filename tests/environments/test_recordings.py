"""Which environment a recording is of, and settings by their earlier names: the tabletop's own knowledge."""

from __future__ import annotations

from typing import Any

import pytest

from smolpilot.environments import make_environment, shipped
from smolpilot.environments.of_datasets import environment_of, settings_of_before


@pytest.mark.parametrize(
    ("robot", "texts", "settings"),
    [
        ("tabletop", ["touch the red block"], {"target": "red"}),
        ("tabletop", ["touch the yellow block"], {"target": "yellow"}),
        ("tabletop", ["touch the red block", "touch the blue block"], None),
        ("tabletop", ["touch the pink block"], None),
        ("tabletop", ["fold the shirt"], None),
        ("so101", ["touch the red block"], None),
        (None, [], None),
    ],
)
def test_recordings(robot: str | None, texts: list[str], settings: dict[str, Any] | None) -> None:
    assert environment_of(robot, texts) == (None if settings is None else ("tabletop", settings))


def test_a_target_is_in_every_scene_of_the_default_colors() -> None:
    with_yellow = make_environment("tabletop", {"target": "yellow"})
    for seed in range(4):
        observation, info = with_yellow.reset(seed)
        assert observation["task"] == info.instruction == "touch the yellow block"
        assert info.alternatives[0] in ("touch the red block", "touch the blue block")


def test_earlier_names() -> None:
    assert settings_of_before(["target", "colours"], None) == ("tabletop", {"target": "target", "colours": "colors"})
    assert settings_of_before(["target"], "tabletop") == ("tabletop", {"target": "target"})
    assert settings_of_before(["target"], "pusht") is None
    assert settings_of_before(["shape"], None) is None
    assert settings_of_before([], None) is None
    assert settings_of_before(["target"], "nowhere") is None


def test_a_damaged_package_of_somebody_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    from smolpilot.contracts import ENVIRONMENTS, Plugin

    own = ENVIRONMENTS.plugins()
    damaged = Plugin("environment", "a_damaged", "somebody", "nowhere_at_all:Env")
    monkeypatch.setattr(type(ENVIRONMENTS), "plugins", lambda self: [damaged, *own])
    assert environment_of("tabletop", ["touch the red block"]) == ("tabletop", {"target": "red"})
    assert set(shipped.SHIPPED) <= {plugin.name for plugin in own}
