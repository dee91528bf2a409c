"""The cameras that come with smolpilot, by name."""

from __future__ import annotations

SHIPPED = {
    "environment": "smolpilot.runtime.cameras.environment:EnvironmentCamera",
    "file": "smolpilot.runtime.cameras.file:FileCamera",
}
