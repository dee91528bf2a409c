"""The policies that go by a name and come with smolpilot."""

from __future__ import annotations

SHIPPED = {
    "hold-state": "smolpilot.policies.baselines:hold_state",
    "mean-action": "smolpilot.policies.baselines:mean_action",
    "no-op": "smolpilot.policies.floor_policies:no_op",
    "random": "smolpilot.policies.floor_policies:random_targets",
}
