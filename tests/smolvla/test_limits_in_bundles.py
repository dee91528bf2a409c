"""`operating_limits.json` of a bundle: written, sealed, read, moved by joint name, and missing in older ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from smolpilot.common.errors import CheckpointError
from smolpilot.datasets import open_dataset
from smolpilot.datasets.read.joint_units import derive_profile
from smolpilot.datasets.statistics.operating_limits import demonstrated_by
from smolpilot.inference import prepare
from smolpilot.robots.demonstrated import FILE, Demonstrated, read_demonstrated
from smolpilot.robots.layout import FrameLayout
from smolpilot.smolvla import Policy, adapt_policy, load_policy, localize, new_policy, save_bundle, seal_bundle

BEFORE = Path(__file__).parents[1] / "data" / "before_contracts" / "run"


@pytest.fixture(scope="module")
def demonstrated(tiny_dataset: Path) -> Demonstrated:
    dataset = open_dataset(tiny_dataset)
    return demonstrated_by(dataset, FrameLayout.of_dataset(dataset.meta), derive_profile(dataset.meta))


@pytest.fixture(scope="module")
def policy(tiny_dataset: Path, demonstrated: Demonstrated) -> Policy:
    made = new_policy("tiny", meta=open_dataset(tiny_dataset).meta, seed=3, device="cpu")
    assert made.demonstrated is None
    made.demonstrated = demonstrated
    return made


@pytest.fixture(scope="module")
def kept(policy: Policy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bundle(policy, tmp_path_factory.mktemp("kept") / "bundle")


@pytest.fixture
def bundle(kept: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(kept, tmp_path / "bundle"))


def test_they_are_of_the_datasets_frames(tiny_dataset: Path, demonstrated: Demonstrated) -> None:
    dataset = open_dataset(tiny_dataset)
    parts = [dataset.actions[dataset.episode_index == one].astype(float) for one in dataset.episodes]
    speeds = np.concatenate([np.abs(np.diff(part, axis=0)) for part in parts]) * 10
    wanted = 1.5 * np.percentile(speeds, 99.9, axis=0)
    assert [joint.velocity for joint in demonstrated.joints] == pytest.approx(wanted.tolist())
    assert (demonstrated.episodes, demonstrated.frames) == (6, len(dataset))


def test_a_bundle_gives_back_what_the_policy_knew(kept: Path, demonstrated: Demonstrated, tmp_path: Path) -> None:
    loaded = load_policy(kept, device="cpu")
    assert loaded.demonstrated == loaded.spec.demonstrated == read_demonstrated(kept) == demonstrated
    again = save_bundle(loaded, tmp_path / "again")
    assert (again / FILE).read_bytes() == (kept / FILE).read_bytes()


def test_the_engine_says_the_same(kept: Path, demonstrated: Demonstrated) -> None:
    assert prepare(str(kept), engine="exact", device="cpu").spec.demonstrated == demonstrated


def test_a_policy_that_knows_none_writes_none(tiny_dataset: Path, tmp_path: Path) -> None:
    made = new_policy("tiny", meta=open_dataset(tiny_dataset).meta, seed=3, device="cpu")
    assert not (save_bundle(made, tmp_path / "bundle") / FILE).exists()
    assert load_policy(tmp_path / "bundle", device="cpu").demonstrated is None


def test_a_bundle_of_an_earlier_version_keeps_none() -> None:
    assert load_policy(BEFORE, device="cpu").spec.demonstrated is None
    assert read_demonstrated(BEFORE / "checkpoints" / "best") is None


def test_a_changed_or_missing_file_is_seen_and_sealing_lets_it_be(bundle: Path) -> None:
    path = bundle / FILE
    values = json.loads(path.read_text(encoding="utf-8"))
    values["joints"][0]["velocity"] *= 2
    path.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(CheckpointError, match=f"changed: {FILE}"):
        load_policy(bundle, device="cpu")
    _, found = seal_bundle(bundle)
    assert found is not None
    assert found.changed == (FILE,)
    reloaded = load_policy(bundle, device="cpu").demonstrated
    assert reloaded is not None
    assert reloaded.joints[0].velocity == values["joints"][0]["velocity"]
    path.unlink()
    with pytest.raises(CheckpointError, match=f"missing: {FILE}"):
        load_policy(bundle, device="cpu")


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [("velocity", -1, "joints.0.velocity is -1"), ("name", "elbow", "of other joints or units than robot.yaml")],
)
def test_what_cannot_be_the_robots_limits_is_not_sealed(bundle: Path, place: str, value: object, said: str) -> None:
    values = json.loads((bundle / FILE).read_text(encoding="utf-8"))
    values["joints"][0][place] = value
    (bundle / FILE).write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(CheckpointError, match=said):
        seal_bundle(bundle)


def test_localizing_a_bundle_leaves_them(bundle: Path, demonstrated: Demonstrated) -> None:
    localize(bundle)
    assert load_policy(bundle, device="cpu").demonstrated == demonstrated


def test_a_fine_tuned_policy_has_them_in_the_order_of_its_robot(kept: Path, tiny_dataset: Path) -> None:
    parent, meta = load_policy(kept, device="cpu"), open_dataset(tiny_dataset).meta
    profile = derive_profile(meta)
    turned = profile.model_copy(update={"joints": profile.joints[::-1]})
    child = adapt_policy(parent, meta=meta, profile=turned)
    assert child.demonstrated is not None
    assert [joint.name for joint in child.demonstrated.joints] == ["gripper", "lift", "pan"]
    assert child.demonstrated == parent.demonstrated.for_profile(turned) if parent.demonstrated else False
    other = profile.model_copy(
        update={"joints": [joint.model_copy(update={"unit": "rad"}) for joint in profile.joints]}
    )
    child = adapt_policy(load_policy(kept, device="cpu"), meta=meta, profile=other)
    assert child.demonstrated is None
    assert any(note.startswith("operating limits: those of the parent's") for note in child.report.notes)
