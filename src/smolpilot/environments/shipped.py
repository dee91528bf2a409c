"""The environments that come with smolpilot, by name."""

from __future__ import annotations

SHIPPED = {
    "aloha": "smolpilot.environments.aloha:make_aloha",
    "gymnasium": "smolpilot.environments.gymnasium:make_gymnasium",
    "pusht": "smolpilot.environments.pusht:make_pusht",
    "tabletop": "smolpilot.environments.tabletop:make_tabletop",
}
