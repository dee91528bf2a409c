"""A package of one file adds a policy, another an environment, by entry points alone; every verb takes them by name."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smolpilot.cli.main import main
from smolpilot.datasets import DatasetWriter

from .helpers_packages import install_package, run_smolpilot

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = (ROOT / "examples" / "own_environment.py").read_text(encoding="utf-8")
# Does what it is told: a chunk of the end that the instruction names.
POLICY = """
import numpy as np

from smolpilot.contracts import Policy, PolicySpec


class Obedient(Policy):
    def __init__(self, source, options, embodiment):
        options.only("an obedient policy", "device")
        self.reach = float(source or 1)
        self.spec = PolicySpec("obedient", 1, 1, chunk_size=8, n_action_steps=4, profile=embodiment.profile)

    def predict(self, observations, *, seeds=None, previous=None):
        ends = [self.reach if "right" in o["task"] else -self.reach for o in observations]
        return np.broadcast_to(np.float32(ends)[:, None, None], (len(ends), 8, 1)).copy()
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Both packages, installed."""
    environments = {"smolpilot.environments": {"cart": "own_environment:Cart"}}
    site = install_package(tmp_path / "a", "own_environment", ENVIRONMENT, environments)
    more = install_package(
        tmp_path / "a", "obedient", POLICY, {"smolpilot.policies": {"obedient": "obedient:Obedient"}}
    )
    assert more == site
    monkeypatch.syspath_prepend(site)
    importlib.invalidate_caches()
    return site


@pytest.fixture
def recording(tmp_path: Path, installed: Path) -> Path:
    """Four episodes of the cart, driven to the named end."""
    from smolpilot.environments import make_environment

    cart: Any = make_environment("cart")
    path = tmp_path / "carts"
    with DatasetWriter(path, fps=10, state_names=["x"], action_names=["x"], cameras={"front": (64, 64)},
                       robot_type="cart") as writer:  # fmt: skip
        for seed in range(4):
            observation, info = cart.reset(seed)
            goal, outcome = (1.0 if "right" in info.instruction else -1.0), None
            while outcome is None:
                writer.add_frame({**observation, "action": np.array([goal], np.float32)})
                observation, outcome = cart.step([goal])
            assert outcome.success
            writer.end_episode()
    return path


def test_rollout_takes_both_by_name(tmp_path: Path, installed: Path) -> None:
    out = tmp_path / "obeyed"
    assert main(["rollout", "obedient", "--env", "cart", "--episodes", "6", "--seed", "3", "--video-episodes", "1",
                 "--out", str(out)]) == 0  # fmt: skip
    results = json.loads((out / "results.json").read_text())
    assert (results["env"], results["successes"], results["episodes"]) == ("cart", 6, 6)
    assert {row["value"] for row in results["by_group"]} <= {"drive to the left end", "drive to the right end"}
    assert (out / "video.mp4").stat().st_size > 0
    swapped = tmp_path / "swapped"
    assert main(["rollout", "obedient:0.5", "--env", "cart", "--env-settings", "start=0.1", "--episodes", "2",
                 "--swap-instruction", "--out", str(swapped)]) == 0  # fmt: skip
    results = json.loads((swapped / "results.json").read_text())
    assert results["successes"] == 0  # it goes half the way only, as its source says
    assert results["env_settings"] == {"start": "0.1"} or results["env_settings"] == {"start": 0.1}


def test_an_installed_package_is_found_by_the_command_itself(tmp_path: Path, installed: Path) -> None:
    done = run_smolpilot(installed, "rollout", "obedient", "--env", "cart", "--episodes", "2", "--video-episodes", "0",
                         "--out", str(tmp_path / "out"), "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["success_rate"] == 1.0


def test_eval_and_bench_take_the_policy(tmp_path: Path, recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "obedient", "--dataset", str(recording), "--episodes", "all", "--out", str(tmp_path / "e"),
                 "--json"]) == 0  # fmt: skip
    metrics = json.loads(capsys.readouterr().out)
    assert metrics["joints"][0]["mae"] == pytest.approx(0, abs=1e-6)
    assert metrics["joints"][0]["unit"] == "dataset units"
    assert main(["bench", "obedient", "--dataset", str(recording), "--repeats", "2", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["name"] for row in rows] == ["obedient"]
    assert rows[0]["total_p50_ms"] > 0


def test_stages_count_success_in_the_environment_beside_the_policy(tmp_path: Path, recording: Path) -> None:
    plan = tmp_path / "stages.yaml"
    plan.write_text(
        f"""
defaults: {{preset: tiny, from_scratch: true, held_out: 0.3, batch_size: 2, eval_frames: 4, cache: none, device: cpu}}
evaluation: {{frames: 4, resamples: 20, against: [obedient, hold-state]}}
stages:
  - {{name: carts, dataset: {recording}, steps: 1, simulation: {{env: cart, episodes: 3, settings: {{start: 0.1}}}}}}
"""
    )
    assert main(["train", "--stages", str(plan), "--out", str(tmp_path / "run")]) == 0
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    reached = {row["policy"]: row["success"][0]["value"] for row in report["references"]}
    assert reached == {"obedient": 1.0, "hold-state": 0.0}


def test_a_wrong_name_proposes_the_strangers(
    tmp_path: Path, installed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rollout", "obediant", "--env", "cart", "--out", str(tmp_path / "out")]) == 2
    assert "Did you mean 'obedient'?" in capsys.readouterr().err
    assert main(["rollout", "obedient", "--env", "card", "--out", str(tmp_path / "out")]) == 2
    assert "Did you mean 'cart'?" in capsys.readouterr().err
    assert (
        main(["rollout", "obedient", "--env", "cart", "--env-settings", "star=1", "--out", str(tmp_path / "out")]) == 2
    )
    assert "Did you mean 'start'?" in capsys.readouterr().err
