"""Every policy that smolpilot can run, behind one contract; `open_policy` finds the right one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from .opening import open_policy

__all__ = ["open_policy"]

__getattr__, __dir__, _ = lazy_loader.attach(__name__, submod_attrs={"opening": ["open_policy"]})
