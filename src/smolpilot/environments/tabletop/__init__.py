"""The tabletop: an arm, colored blocks, "touch the red block", with a scripted expert. The names load on first use.

`record` lives in `smolpilot.environments.tabletop.recording`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from .adapter import make_tabletop
    from .env import TabletopEnv
    from .scripted_expert import ScriptedExpert

__all__ = ["ScriptedExpert", "TabletopEnv", "make_tabletop"]

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={"adapter": ["make_tabletop"], "env": ["TabletopEnv"], "scripted_expert": ["ScriptedExpert"]},
)
