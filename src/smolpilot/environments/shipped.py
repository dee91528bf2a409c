"""The environments that come with smolpilot, by name."""

from __future__ import annotations

SHIPPED = {
    "tabletop": "smolpilot.environments.tabletop:make_tabletop",
    "pusht": "smolpilot.environments.pusht:make_pusht",
}
