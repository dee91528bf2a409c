"""docs/safety.md says what is tried, in both languages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_tables_name_every_fault_that_is_tried() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts/safety_table.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("not tried") > 20
