"""What versions before 0.2 spelled otherwise in their files is read for ever, and written as it is spelled now."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from smolpilot.contracts.trained_on import layout_for
from smolpilot.datasets import read_meta
from smolpilot.robots import RobotProfile
from smolpilot.smolvla import load_policy, save_bundle
from smolpilot.training.run.run_folder import load_config

BEFORE = Path(__file__).parent / "data" / "before_contracts"
BUNDLE = BEFORE / "run" / "checkpoints" / "step_000002"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """The stored bundle, with a joint in the unit that was spelled `normalised`, and without digests."""
    folder = Path(shutil.copytree(BUNDLE, tmp_path / "bundle"))
    robot = folder / "robot.yaml"
    text = robot.read_text(encoding="utf-8")
    assert "unit: rad" in text
    robot.write_text("unit: normalised".join(text.rsplit("unit: rad", 1)), encoding="utf-8")
    facts = json.loads((folder / "smolpilot.json").read_text(encoding="utf-8"))
    facts.pop("digests", None)
    facts["lineage"]["dataset_units"] = {"state": ["rad", "rad", "normalised"], "action": ["rad", "rad", "normalised"]}
    (folder / "smolpilot.json").write_text(json.dumps(facts), encoding="utf-8")
    return folder


def test_a_stored_profile_is_the_shipped_one_of_today() -> None:
    text = (BEFORE / "so101.yaml").read_text(encoding="utf-8")
    assert "unit: normalised" in text
    old, shipped = RobotProfile.from_yaml(text), RobotProfile.load("so101")
    assert old == shipped
    assert "normalised" not in old.to_yaml()
    assert "unit: normalized" in old.to_yaml()


@pytest.mark.filterwarnings("ignore:.*has no digests")
def test_a_stored_bundle_keeps_its_execution_horizon_and_units(bundle: Path, tmp_path: Path) -> None:
    before = json.loads((bundle / "smolpilot.json").read_text(encoding="utf-8"))
    assert "n_action_steps" not in before
    policy = load_policy(bundle, device="cpu")
    assert policy.n_action_steps == before["execution_horizon"] == 2
    assert policy.profile is not None
    assert policy.profile.joints[-1].unit == "normalized"
    layout = layout_for(policy.profile, policy.lineage, read_meta(BEFORE / "dataset"))
    assert layout.state.units == layout.action.units == ("rad", "rad", "normalized")
    now = save_bundle(policy, tmp_path / "now")
    facts = json.loads((now / "smolpilot.json").read_text(encoding="utf-8"))
    assert facts["n_action_steps"] == 2
    assert "execution_horizon" not in facts
    assert "unit: normalized" in (now / "robot.yaml").read_text(encoding="utf-8")
    assert load_policy(now, device="cpu").n_action_steps == 2


def test_a_stored_run_with_old_keys_is_read_without_a_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = (BEFORE / "run" / "config.yaml").read_text(encoding="utf-8")
    assert "\nstats: parent\n" in config
    assert load_config(BEFORE / "run").norm_stats == "parent"
    more = "augment: {colour: 0.5}\nstats_from: data/d\nstatistics: s.json\n"
    (tmp_path / "config.yaml").write_text(f"{config}{more}", encoding="utf-8")
    options = load_config(tmp_path)
    assert (options.norm_stats, options.augment) == ("parent", {"color": 0.5})
    assert (options.policy_stats_from, options.norm_stats_file) == (Path("data/d"), Path("s.json"))
    assert capsys.readouterr().err == ""
