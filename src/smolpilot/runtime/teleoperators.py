"""The teleoperators that go by a name and come with smolpilot."""

from __future__ import annotations

SHIPPED = {"feetech": "smolpilot.runtime.drivers.feetech.leader:FeetechLeader"}
