"""Nothing is reported anywhere: every verb and every mode of the engine in a network namespace of its own, watched."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import matplotlib
import pytest

SCRIPT = Path(__file__).with_name("helpers_network.py")


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the verbs ended with, packets and Python's socket calls by verb, internet sockets that the kernel saw."""
    if subprocess.run(["unshare", "-rn", "true"], capture_output=True, check=False).returncode:
        pytest.skip("the kernel gives no network namespaces here")
    folder = tmp_path_factory.mktemp("network")
    trace = folder / "trace"
    strace = ["strace", "-f", "--seccomp-bpf", "-qq", "-e", "trace=socket", "-o", str(trace)]
    # A home of its own shows what a dependency writes there.
    home = folder / "home"
    home.mkdir()
    # Nothing of what switches telemetry off (`CI` does) or makes the hub offline comes from outside.
    kept = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR")
    environment = {
        **{name: os.environ[name] for name in kept if name in os.environ},
        "HOME": str(home),
        "OMP_NUM_THREADS": "1",
        "MPLCONFIGDIR": matplotlib.get_cachedir(),  # a list of fonts takes seconds to make
    }
    command = ["unshare", "-rn", sys.executable, str(SCRIPT), str(folder), *(strace if shutil.which("strace") else [])]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads((folder / "seen.json").read_text())
    found["stderr"] = done.stderr
    found["sockets"] = re.findall(r"socket\((AF_INET6?|AF_PACKET)\b", trace.read_text()) if trace.exists() else []
    found["home"] = sorted(path.name for path in (*home.iterdir(), *home.glob(".cache/*")))
    return found


def test_every_verb_did_its_work(seen: dict[str, Any]) -> None:
    codes = {name: code for name, code in seen["codes"].items() if not name.startswith("local")}
    # Four demonstrations and two steps reach no goal.
    assert codes.pop("demo") == 1
    flags = Path("/proc/cpuinfo").read_text()
    if not re.search("avx512_vnni|avx_vnni|amx_int8", flags):
        assert codes.pop("bench int8") == 2
    assert set(codes.values()) == {0}, (codes, seen["stderr"][-3000:])
    assert len(codes) > 20


def test_no_verb_and_no_dependency_speaks_to_anyone(seen: dict[str, Any]) -> None:
    assert {name: count for name, count in seen["packets"].items() if count} == {}
    assert seen["events"] == []
    assert Counter(seen["sockets"]) == {}


def test_no_dependency_keeps_an_id_of_the_user(seen: dict[str, Any]) -> None:
    """OpenVINO's telemetry writes ~/intel, ONNX Runtime's ~/.cache/Microsoft."""
    assert not {"intel", "Microsoft"} & set(seen["home"]), seen["home"]


def test_a_local_folder_is_no_reason_to_ask_the_hub(seen: dict[str, Any]) -> None:
    local = {name: code for name, code in seen["codes"].items() if name.startswith("local")}
    assert len(local) == 16
    # What the folder lacks is an error that names it; `preflight` says it in its table.
    assert {name for name, code in local.items() if code not in (1, 2)} <= {"local checkpoint: bundle localize"}
    assert seen["stderr"].count("some-org/some-model") >= 10
