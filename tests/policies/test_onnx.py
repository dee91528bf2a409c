"""An export folder as a policy: beside the policy that it came from, and without its own code or torch."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from smolpilot.common.errors import CheckpointError, NotFiniteError, TransformError, UsageError
from smolpilot.common.keys import STATE, TASK, image_key
from smolpilot.contracts import Embodiment, PolicyOptions
from smolpilot.policies.onnx import drawn_noise, open_onnx
from smolpilot.smolvla import Policy as SmolVLAPolicy

from .helpers_conformance import check_policy

PLAIN = PolicyOptions()


@pytest.fixture
def folder(exported: Path, tmp_path: Path) -> Path:
    """A copy to be changed."""
    return Path(shutil.copytree(exported, tmp_path / "copy"))


def reseal(folder: Path, **changes: Any) -> None:
    """Other facts with the digest that fits them: what a hand has changed, not a disk."""
    from smolpilot.inference.export.exporting import with_digests

    facts = json.loads((folder / "policy.json").read_text())
    for key in ("digest", "digests"):
        facts.pop(key)
    (folder / "policy.json").unlink()
    (folder / "policy.json").write_text(json.dumps(with_digests({**facts, **changes}, folder)))


def test_it_keeps_the_contract(exported: Path, embodiment: Embodiment, observations: list[dict[str, Any]]) -> None:
    policy = open_onnx(exported, PLAIN, embodiment)
    assert policy.spec.facts.kind == "onnx"
    check_policy(policy, observations)


def test_the_same_seed_gives_the_chunk_of_the_policy_it_came_from(
    exported: Path, smolvla: SmolVLAPolicy, embodiment: Embodiment, observations: list[dict[str, Any]]
) -> None:
    policy = open_onnx(exported, PLAIN, embodiment)
    spec, config = policy.spec, smolvla.config
    assert (spec.chunk_size, spec.n_action_steps) == (config.chunk_size, smolvla.n_action_steps)
    assert spec.action_names == ("pan", "lift", "gripper")
    assert spec.rate == 10
    assert spec.cameras == ("front", "wrist")
    noise = [
        torch.randn(config.chunk_size, config.max_action_dim, generator=torch.Generator().manual_seed(seed))
        for seed in (7, 8, 2**61 + 9)
    ]
    expected = smolvla.predict_chunks(observations, torch.stack(noise)).numpy()
    np.testing.assert_allclose(policy.predict(observations, seeds=[7, 8, 2**61 + 9]), expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(policy.predict_from(observations[0], noise[0].numpy()), expected[0], rtol=0, atol=1e-5)
    # Fewer steps are another number, as there.
    short = open_onnx(exported, PolicyOptions(num_steps=2), embodiment)
    assert short.spec.facts.num_steps == 2
    inputs = smolvla.transforms.inputs(observations[:1])
    wanted = smolvla.transforms.actions(smolvla.model.sample(inputs, noise[0][None], 2)).numpy()
    np.testing.assert_allclose(short.predict(observations[:1], seeds=[7]), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(50, 32), (12, 32), (7, 5), (3, 6)])
def test_noise_is_what_torch_draws(shape: tuple[int, int]) -> None:
    for seed in (0, 7, 2**32 + 7, 2**63 - 1):
        expected = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).numpy()
        np.testing.assert_allclose(drawn_noise(seed, shape), expected, rtol=0, atol=1e-6)


def test_it_needs_no_torch_and_does_not_run_the_folders_code(folder: Path, observations: list[dict[str, Any]]) -> None:
    (folder / "example.py").write_text("raise SystemExit('the code of a stranger ran')\n")
    np.savez(folder.parent / "frame.npz", **{key: value for key, value in observations[0].items() if key != TASK})
    code = f"""
import sys
import numpy as np
from smolpilot.contracts import PolicyOptions
from smolpilot.policies.onnx import open_onnx
frame = dict(np.load({str(folder.parent / "frame.npz")!r})) | {{"task": "touch the red block"}}
print(open_onnx({str(folder)!r}, PolicyOptions(), None).predict([frame], seeds=[1]).shape, "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["(1,", "12,", "3)", "False"]


def test_cameras_are_paired_by_name_or_as_typed(exported: Path, observations: list[dict[str, Any]]) -> None:
    robot = Embodiment("the robot", cameras=("wrist", "top"))
    with pytest.raises(UsageError, match=r"--camera-map[\s\S]*top=front"):
        open_onnx(exported, PLAIN, robot)
    policy = open_onnx(exported, PolicyOptions(camera_map={"top": "front"}), robot)
    assert policy.spec.facts.camera_map == {"top": "front", "wrist": "wrist"}
    renamed = {image_key("top") if key == image_key("front") else key: value for key, value in observations[0].items()}
    expected = open_onnx(exported, PLAIN, None).predict(observations[:1], seeds=[1])
    np.testing.assert_array_equal(policy.predict([renamed], seeds=[1]), expected)
    with pytest.raises(TransformError, match=r"lacks camera 'top'\. The observation has camera 'front'"):
        policy.predict(observations[:1])


def test_observations_that_do_not_fit(exported: Path, observations: list[dict[str, Any]]) -> None:
    policy, one = open_onnx(exported, PLAIN, None), observations[0]
    front = image_key("front")
    floats = one[front].transpose(2, 0, 1).astype(np.float32) / 255
    np.testing.assert_allclose(
        policy.predict([{**one, front: floats}], seeds=[1]), policy.predict([one], seeds=[1]), rtol=0, atol=1e-4
    )
    for change, message in (
        ({TASK: "x" * 60}, "at most 48, as the policy was trained"),
        ({TASK: " \n"}, "is empty"),
        ({TASK: None}, "has no 'task'"),
        ({front: one[front][..., :2]}, r"uint8 \[48, 64, 2\]"),
        ({front: one[front].astype(np.int32)}, r"int32 \[48, 64, 3\]"),
        ({front: floats * 2}, "values from"),
        ({front: np.full((3, 4, 4), np.nan, np.float32)}, "values from nan"),
        ({f"{front}_padding_mask": False}, "delivers no image"),
    ):
        with pytest.raises(TransformError, match=message):
            policy.predict([{**one, **change}], seeds=[1])


def test_nan_never_leaves_it(folder: Path, observations: list[dict[str, Any]]) -> None:
    action = json.loads((folder / "policy.json").read_text())["action"]
    reseal(folder, action={**action, "offset": [0.0, float("inf"), 0.0]})
    with pytest.raises(NotFiniteError, match="inf for lift at step 0 of the chunk"):
        open_onnx(folder, PLAIN, None).predict(observations[:1], seeds=[1])


def test_the_profile_is_the_shipped_one_of_that_name(folder: Path) -> None:
    joints = ["shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper"]
    feature = {"joints": joints, "units": ["deg"] * 6, "scale": [1.0] * 6, "offset": [0.0] * 6}
    reseal(folder, robot="so101", state=feature, action=feature)
    policy = open_onnx(folder, PLAIN, None)
    assert policy.spec.profile is not None
    assert policy.spec.profile.name == "so101"
    reseal(folder, robot="my_arm")
    policy = open_onnx(folder, PLAIN, None)
    assert policy.spec.profile is None
    assert policy.spec.facts.notes == ("limits of the robot 'my_arm' are unknown: no profile of that name is shipped",)


def test_damaged_and_foreign_folders_are_one_error(folder: Path) -> None:
    with (folder / "prefix.onnx.data").open("r+b") as file:
        file.write(b"?")
    with pytest.raises(CheckpointError, match=r"prefix\.onnx\.data is damaged, or was changed"):
        open_onnx(folder, PLAIN, None)
    (folder / "vision.onnx").write_bytes(b"no graph")
    reseal(folder)
    with pytest.raises(CheckpointError, match="graphs or the tokenizer in"):
        open_onnx(folder, PLAIN, None)
    reseal(folder, slots=3)
    shutil.copy(folder / "denoise.onnx", folder / "vision.onnx")
    reseal(folder)
    with pytest.raises(CheckpointError, match=r"is not as an export writes it"):
        open_onnx(folder, PLAIN, None)
    for text, message in (
        ("{", "cannot be read"),
        ("[]", "has the format None"),
        ('{"format": 7}', "has the format 7"),
    ):
        (folder / "policy.json").write_text(text)
        with pytest.raises(CheckpointError, match=message):
            open_onnx(folder, PLAIN, None)
    (folder / "policy.json").unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        open_onnx(folder, PLAIN, None)


def test_without_onnxruntime_the_extra_is_named(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "smolpilot.inference.export.example", raising=False)
    monkeypatch.delattr("smolpilot.inference.export.example", raising=False)
    with pytest.raises(UsageError, match=r"needs the package onnxruntime[\s\S]*smolpilot\[export\]"):
        open_onnx(exported, PLAIN, None)


def test_options_that_an_export_does_not_have(exported: Path, embodiment: Embodiment) -> None:
    with pytest.raises(UsageError, match="--engine is given, but an exported policy has no such option"):
        open_onnx(exported, PolicyOptions(engine="fast"), embodiment)
    with pytest.raises(UsageError, match="The device is 'cuda'"):
        open_onnx(exported, PolicyOptions(device="cuda"), embodiment)
    with pytest.raises(UsageError, match="has no camera"):
        open_onnx(exported, PLAIN, dataclasses.replace(embodiment, cameras=()))
    assert STATE in embodiment.statistics
