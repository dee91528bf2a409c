"""Environments behind one contract: the tabletop, PushT, anything from gymnasium. The names load on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from .actions import checked_action
    from .gymnasium import GymnasiumEnvironment, make_gymnasium
    from .making import environment_factory, make_environment

__all__ = [
    "GymnasiumEnvironment",
    "checked_action",
    "environment_factory",
    "make_environment",
    "make_gymnasium",
]

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "actions": ["checked_action"],
        "gymnasium": ["GymnasiumEnvironment", "make_gymnasium"],
        "making": ["environment_factory", "make_environment"],
    },
)
