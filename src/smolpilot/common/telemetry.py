"""No telemetry: what dependencies would report about a user is switched off before any of them is imported.

Read by the packages themselves, so that it holds for every verb, every process that one starts, and the Python API:

- OpenVINO sends an event to Google Analytics on import, through the package `openvino_telemetry`. Where that cannot be
  imported it takes its own stub, which does nothing.
- ONNX Runtime collects events and uploads them to Microsoft, and keeps a device id in ~/.cache/Microsoft.
- wandb (only with --track wandb) reports its own errors to Sentry.
- huggingface_hub and transformers tell the hub what they are used in, when a hub id was named.
- trackio (only with --track trackio) brings gradio, which sends analytics on import.

A variable that the user has set is left as it is.
"""

from __future__ import annotations

import os
import sys

_BLOCKED = ("openvino_telemetry",)
_SETTINGS = {
    "ORT_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "WANDB_ERROR_REPORTING": "false",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "DO_NOT_TRACK": "1",
}


def switch_off() -> None:
    """Switch it off in this process and those that it starts. Called when smolpilot is imported."""
    for name in _BLOCKED:
        # None: the next import of it is an ImportError. A program that imported it before us keeps it.
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]
    for variable, value in _SETTINGS.items():
        os.environ.setdefault(variable, value)
