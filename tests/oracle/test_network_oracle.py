"""LeRobot beside a policy asks no hub: `bench --against lerobot` in a network namespace of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import matplotlib
import pytest

SCRIPT = Path(__file__).parents[1] / "cli" / "helpers_network.py"


@pytest.mark.nightly
@pytest.mark.oracle
def test_lerobot_beside_a_policy_asks_no_hub(tmp_path: Path) -> None:
    if subprocess.run(["unshare", "-rn", "true"], capture_output=True, check=False).returncode:
        pytest.skip("the kernel gives no network namespaces here")
    kept = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR")
    environment = {
        **{name: os.environ[name] for name in kept if name in os.environ},
        "HOME": str(tmp_path),
        "MPLCONFIGDIR": matplotlib.get_cachedir(),
    }
    command = ["unshare", "-rn", sys.executable, str(SCRIPT), str(tmp_path), "--lerobot"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "seen.json").read_text())
    assert found["codes"]["bench"] == 0, done.stderr[-3000:]
    assert set(found["packets"].values()) == {0}
    assert found["events"] == []
