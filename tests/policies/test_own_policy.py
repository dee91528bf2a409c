"""The example of docs/own-policy.md: it keeps the contract, and a package of that one file adds it by name."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from smolpilot.cli.main import main
from smolpilot.common.errors import UsageError
from smolpilot.contracts import Embodiment, PolicyOptions
from smolpilot.datasets import open_dataset

from ..helpers_packages import install_package, run_smolpilot
from .helpers_conformance import check_policy

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_policy.py"
POINTS = {"smolpilot.policies": {"nearest": "own_policy:Nearest"}}


def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("example_of_a_policy", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_keeps_the_contract(tiny_dataset: Path, embodiment: Embodiment, observations: list[dict[str, Any]]) -> None:
    policy = example().Nearest(str(tiny_dataset), PolicyOptions(), embodiment)
    data = open_dataset(tiny_dataset)
    rows = np.minimum(3 + np.arange(20), 17)  # episode 0 has 18 frames
    np.testing.assert_array_equal(policy.predict(observations[:1])[0], data.actions[rows])
    check_policy(policy, observations)
    with pytest.raises(UsageError, match=r"nearest needs recorded motions\.[\s\S]*nearest:DATASET"):
        example().Nearest("", PolicyOptions(), embodiment)


def test_the_example_is_short() -> None:
    lines = [line for line in EXAMPLE.read_text(encoding="utf-8").splitlines() if line.strip()]
    assert len(lines) <= 40


def test_a_package_of_that_file_adds_it_by_name(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    site = install_package(tmp_path, "own_policy", EXAMPLE.read_text(encoding="utf-8"), POINTS)
    name = f"nearest:{tiny_dataset}"
    out = str(tmp_path / "report")
    done = run_smolpilot(site, "eval", name, "--dataset", str(tiny_dataset), "--episodes", "0", "--max-frames", "3",
                         "--out", out, "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert [joint["mae"] for joint in document["joints"]] == [0, 0, 0], "what it has seen it knows"
    assert document["bundle"]["kind"] == "nearest"
    # The others in this process.
    monkeypatch.syspath_prepend(site)
    options = ["--dataset", str(tiny_dataset), "--repeats", "1", "--against", "hold-state", "--json"]
    assert main(["bench", name, *options]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)["rows"]] == ["nearest", "hold-state"]
    assert main(["bench", "nearst:x", "--repeats", "1"]) == 2
    assert "Did you mean 'nearest'?" in capsys.readouterr().err
