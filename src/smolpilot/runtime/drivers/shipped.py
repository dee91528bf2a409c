"""The drivers that go by a name and come with smolpilot."""

from __future__ import annotations

SHIPPED = {
    "emulated": "smolpilot.runtime.drivers.emulated:EmulatedArm",
    "feetech": "smolpilot.runtime.drivers.feetech.arm:FeetechArm",
}
