"""Telemetry of dependencies is off once smolpilot is imported, and in the example that an export carries.

tests/cli/test_network.py watches every verb; this needs no network namespace.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import smolpilot

EXAMPLE = Path(smolpilot.__file__).parent / "inference" / "export" / "example.py"
KEPT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG")

STUB = "print('telemetry_stub')"
USES = {
    "openvino": "import smolpilot, openvino; from openvino.tools.ovc import telemetry_utils; "
    "print(telemetry_utils.tm.__name__)",
    "onnxruntime": f"import smolpilot, onnxruntime; onnxruntime.get_available_providers(); {STUB}",
    "example": f"import runpy; runpy.run_path({str(EXAMPLE)!r}); {STUB}",
    "hub": "import smolpilot; from huggingface_hub import constants as hub; assert hub.HF_HUB_DISABLE_TELEMETRY; "
    + STUB,
}


@pytest.mark.parametrize("name", USES)
def test_a_dependency_reports_nothing_and_keeps_no_id(name: str, tmp_path: Path) -> None:
    # As a user has it: nothing outside switches it off.
    environment = {**{key: os.environ[key] for key in KEPT if key in os.environ}, "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", USES[name]], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("telemetry_stub")
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    assert not {"intel", ".cache/Microsoft"} & written


@pytest.mark.parametrize("wish", [None, "true"])
def test_a_wish_of_the_user_stays(wish: str | None) -> None:
    code = "import os, smolpilot; print(os.environ['WANDB_ERROR_REPORTING'])"
    environment = {key: value for key, value in os.environ.items() if key != "WANDB_ERROR_REPORTING"}
    environment |= {"WANDB_ERROR_REPORTING": wish} if wish else {}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == (wish or "false")
