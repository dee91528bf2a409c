"""The environments that come with smolpilot, by name."""

from __future__ import annotations

SHIPPED = {
    "aloha": "smolpilot.environments.simulated.aloha:make_aloha",
    "gymnasium": "smolpilot.environments.gymnasium:make_gymnasium",
    "libero": "smolpilot.environments.simulated.libero:make_libero",
    "metaworld": "smolpilot.environments.simulated.metaworld:make_metaworld",
    "pusht": "smolpilot.environments.simulated.pusht:make_pusht",
    "so101": "smolpilot.environments.simulated.so101:make_so101",
    "tabletop": "smolpilot.environments.tabletop:make_tabletop",
}
