"""The policies that go by a name and come with smolpilot."""

from __future__ import annotations

SHIPPED = {
    "hold-state": "smolpilot.policies.baselines:hold_state",
    "mean-action": "smolpilot.policies.baselines:mean_action",
    "no-op": "smolpilot.policies.floors:no_op",
    "random": "smolpilot.policies.floors:random_targets",
}
