"""Temporary: removed at the merge."""

from __future__ import annotations

from typing import Any

from smolpilot.environments.tabletop import TabletopEnv


class _Old(TabletopEnv):
    def __init__(self, *, colours: Any = ("red", "blue"), **more: Any) -> None:
        super().__init__(colors=colours, **more)

    def _info(self) -> dict[str, Any]:
        info = super()._info()
        return info | {"colours": info["colors"]}


ENVIRONMENTS: dict[str, Any] = {"tabletop": _Old}
