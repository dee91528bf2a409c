"""Registry: which policies, environments, robots, cameras and teleoperators there are, ours and installed ones.

A package adds one by an entry point, without touching smolpilot:

    [project.entry-points."smolpilot.environments"]
    maze = "my_package:Maze"
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from smolpilot.common.errors import SmolpilotError, UsageError, did_you_mean
from smolpilot.common.text import plain

from .plugins import blamed

_LIMIT = 120  # characters of a name or cause that a message shows


@dataclass(frozen=True)
class Plugin:
    """One name: `origin` is `smolpilot` or the distribution that brings it, `target` is `module:attribute`."""

    kind: str
    name: str
    origin: str
    target: str


class Registry:
    """The names of one kind. Nothing is imported before it is asked for."""

    def __init__(self, kind: str, group: str, shipped: str | None = None) -> None:
        """kind: "policy", ...; group: of the entry points; shipped: the module whose SHIPPED, name ->
        `module:attribute`, lists what comes with smolpilot (None: nothing does)."""
        self.kind, self.group, self._shipped = kind, group, shipped

    def plugins(self) -> list[Plugin]:
        """All that there are, by name; of a name that two bring, both."""
        shipped: Mapping[str, str] = importlib.import_module(self._shipped).SHIPPED if self._shipped else {}
        found = [Plugin(self.kind, name, "smolpilot", target) for name, target in shipped.items()]
        found += [
            Plugin(self.kind, point.name, _origin(point), point.value) for point in entry_points(group=self.group)
        ]
        return sorted(found, key=lambda plugin: (plugin.name, plugin.origin))

    def names(self) -> list[str]:
        """The names that `get` knows."""
        return sorted({plugin.name for plugin in self.plugins()})

    def get(self, name: str) -> Callable[..., Any]:
        """What the name stands for: a class or function.

        UsageError for an unknown name (it proposes the nearest) and for one that two packages bring; SmolpilotError,
        with its cause, for a package whose plugin cannot be imported.
        """
        found = [plugin for plugin in self.plugins() if plugin.name == name]
        if not found:
            raise UsageError(f"Unknown {self.kind} '{plain(name, _LIMIT)}'.", fix=did_you_mean(name, self.names()))
        if len(found) > 1:
            raise UsageError(
                f"The {self.kind} '{plain(name, _LIMIT)}' is brought by {' and '.join(one.origin for one in found)}.",
                expected="one package for each name",
                fix="uninstall one of them, or rename its entry point",
            )
        return _load(found[0])


def _load(plugin: Plugin) -> Callable[..., Any]:
    module, _, attributes = plugin.target.partition(":")
    whose = f"The {plugin.kind} '{plain(plugin.name, _LIMIT)}' of {plugin.origin}"
    fix = f"mend or uninstall {plugin.origin}; `python -c 'import {module}'` shows where it fails"
    ours = plugin.origin == "smolpilot"  # whose failures are bugs, to be seen whole
    with nullcontext() if ours else blamed(f"{whose} ({plain(plugin.target, _LIMIT)}) cannot be imported", fix=fix):
        target: Any = importlib.import_module(module)
        for attribute in filter(None, attributes.split(".")):
            target = getattr(target, attribute)
    if not callable(target):
        raise SmolpilotError(
            f"{whose} is a {type(target).__name__}.",
            expected="a class or function that makes one",
        )
    found: Callable[..., Any] = target
    return found


def _origin(point: EntryPoint) -> str:
    return plain(point.dist.name, _LIMIT) if point.dist is not None else "an unknown package"


POLICIES = Registry("policy", "smolpilot.policies", "smolpilot.policies.shipped")
ENVIRONMENTS = Registry("environment", "smolpilot.environments", "smolpilot.environments.shipped")
ROBOTS = Registry("robot", "smolpilot.robots", "smolpilot.runtime.drivers.shipped")
CAMERAS = Registry("camera", "smolpilot.cameras", "smolpilot.runtime.cameras.shipped")
TELEOPERATORS = Registry("teleoperator", "smolpilot.teleoperators", "smolpilot.runtime.teleoperators")
REGISTRIES = (POLICIES, ENVIRONMENTS, ROBOTS, CAMERAS, TELEOPERATORS)
