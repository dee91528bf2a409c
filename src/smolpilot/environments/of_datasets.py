"""Which environment a dataset is of, as environments themselves say: what stages ask when nobody names one.

A factory of an environment may carry two attributes:

    for_recording(robot_type, instructions) -> settings with which it gives these instructions; None for what is not its
    old_settings: Mapping of earlier names of its settings to the present ones
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from smolpilot.common.errors import SmolpilotError
from smolpilot.common.text import LIMIT, plain
from smolpilot.contracts import ENVIRONMENTS
from smolpilot.contracts.plugins import blamed

from .shipped import SHIPPED


def environment_of(robot_type: str | None, instructions: Sequence[str]) -> tuple[str, dict[str, Any]] | None:
    """Name and settings of the environment in which this was recorded; None where none says so."""
    for name, factory in _factories():
        ask = getattr(factory, "for_recording", None)
        with blamed(f"The environment '{plain(name, LIMIT)}' fails in for_recording"):
            settings = ask(robot_type, instructions) if ask is not None else None
        if settings is not None:
            return name, dict(settings)
    return None


def settings_of_before(keys: Collection[str], env: str | None) -> tuple[str, dict[str, str]] | None:
    """The environment (`env` where it is named) whose settings were once called so, and their present names."""
    for name, factory in _factories() if env is None else _factories((env,)):
        old: Mapping[str, str] = getattr(factory, "old_settings", {})
        if keys and set(keys) <= old.keys():
            return name, {key: old[key] for key in keys}
    return None


def _factories(names: Sequence[str] | None = None) -> Iterator[tuple[str, Any]]:
    # Ours first: a package that nobody named is imported only where none of them knows.
    for name in sorted(ENVIRONMENTS.names(), key=lambda name: name not in SHIPPED) if names is None else names:
        try:
            yield name, ENVIRONMENTS.get(name)
        except SmolpilotError:  # somebody's package that is damaged: it is named where it is asked for
            continue
