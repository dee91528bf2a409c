"""An exported policy beside the one it came from: real frames, every shape, and a process without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from smolpilot.common.errors import CheckpointError, UsageError
from smolpilot.common.keys import ACTION, STATE, TASK, image_key
from smolpilot.evaluation.offline.policy_frames import recorded_frames
from smolpilot.inference.export import exporting
from smolpilot.inference.export.exporting import export_policy
from smolpilot.inference.onnx_graphs.runtimes import openvino_core
from smolpilot.smolvla import Policy, SmolVLA, Transform, Transforms, TransformsConfig
from smolpilot.smolvla.config import PolicyConfig
from smolpilot.smolvla.config.presets import preset
from smolpilot.smolvla.transforms.byte_tokenizer import byte_level_tokenizer

from ...smolvla.helpers_new_transforms import DeltaActions, Politely, UpsideDown, with_extra
from ..helpers_engine import has_dot_products, load_example

SPECIAL: dict[str, Any] = {
    "add_image_special_tokens": True, "fake_image_token_id": 259, "global_image_token_id": 261,
}  # fmt: skip


def make_policy(cameras: int, **overrides: Any) -> Policy:
    shapes = {f"camera{i}": (3, 48, 64) for i in range(cameras)}
    config: PolicyConfig = preset("tiny", image_shapes=shapes, state_dim=3, action_dim=3, **overrides)
    tokenizer = byte_level_tokenizer(config.vlm)
    model = SmolVLA(config)
    model.initialize(torch.Generator().manual_seed(1))
    low, high = np.array([-1.0, 50.0, -180.0]), np.array([2.0, 90.0, 180.0])
    numbers = {"mean": (low + high) / 2, "std": (high - low) / 4, "min": low, "max": high}
    return Policy(
        model,
        Transforms(TransformsConfig(config, {STATE: numbers, ACTION: numbers}, tokenizer, same_names(config))),
    )


def make_frame(cameras: int, text: str, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    images = {image_key(f"camera{i}"): rng.integers(0, 256, (48, 64, 3), dtype=np.uint8) for i in range(cameras)}
    return {STATE: rng.uniform((-1, 50, -180), (2, 90, 180)).astype(np.float32), TASK: text, **images}


def call(exported: Any, frame: dict[str, Any], noise: Any, **options: Any) -> Any:
    images = {slot: frame[image_key(slot)] for slot in exported.facts["slots"] if slot}
    return exported.predict_chunk(images, frame[STATE], frame[TASK], noise, **options)


@pytest.fixture(scope="module")
def exported_folder(policy: Policy, tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "out"
    export_policy(policy, folder, recorded_frames(policy, tiny_dataset, 3))
    return folder


def test_parity_on_recorded_frames_and_a_complete_folder(exported_folder: Path) -> None:
    report = json.loads((exported_folder / "parity.json").read_text())
    assert report["frames"] == 3
    assert report["precision"] == "fp32"
    assert [joint["name"] for joint in report["joints"]] == ["pan", "lift", "gripper"]
    assert 0 < max(joint["max"] for joint in report["joints"]) < 1e-4
    assert report["cosine"] > 0.999999
    names = {path.name for path in exported_folder.iterdir()}
    graphs = {f"{name}.onnx{end}" for name in ("vision", "prefix", "denoise") for end in ("", ".data")}
    assert names == graphs | {"policy.json", "tokenizer.json", "example.py", "example_frame.npz", "parity.json"}


def test_the_example_runs_where_torch_cannot_be_imported(exported_folder: Path, tmp_path: Path) -> None:
    for name in ("torch", "smolpilot", "onnx", "openvino", "PIL"):
        (tmp_path / f"{name}.py").write_text(f"raise ImportError('{name} was imported')\n")
    command = [sys.executable, str(exported_folder / "example.py")]
    environment = {"PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1", "PATH": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "next action: pan" in done.stdout
    assert float(done.stdout.split()[-1]) < 1e-4


def test_the_example_is_short(exported_folder: Path) -> None:
    code = [line for line in (exported_folder / "example.py").read_text().splitlines() if line.strip()]
    assert len(code) <= 80


@pytest.mark.parametrize("normalization", ["MEAN_STD", "MIN_MAX", "IDENTITY"])
@pytest.mark.parametrize("cameras", [1, 2, 3])
def test_cameras_and_normalization(cameras: int, normalization: str, tmp_path: Path) -> None:
    mapping = {"VISUAL": "IDENTITY", "STATE": normalization, "ACTION": normalization}
    policy = make_policy(cameras, normalization_mapping=mapping)
    frames = [make_frame(cameras, "put it away", seed) for seed in range(2)]
    report = export_policy(policy, tmp_path / "out", frames)
    assert report["sigma"] < 1e-4
    assert report["frames"] == 2


@pytest.mark.parametrize(
    "overrides",
    [
        SPECIAL,
        {"empty_cameras": 1},
        {
            "empty_cameras": 1,
            "add_image_special_tokens": True,
            "fake_image_token_id": 259,
            "global_image_token_id": 261,
        },
        {"attention_mode": "self_attn"},
        {"num_steps": 4, "chunk_size": 7, "n_action_steps": 5},
    ],
    ids=["special tokens", "empty camera", "special tokens and empty camera", "self-attention", "steps and chunk"],
)
def test_configurations(overrides: dict[str, Any], tmp_path: Path) -> None:
    policy = make_policy(2, **overrides)
    if "empty_cameras" in overrides:
        shapes = {**policy.config.image_shapes, "empty_camera_0": (3, 48, 64)}
        policy = make_policy_like(policy, shapes)
        assert len(policy.config.cameras) == 3
    assert export_policy(policy, tmp_path / "out", [make_frame(2, "fold the towel")])["sigma"] < 1e-4


def same_names(config: PolicyConfig) -> dict[str, str | None]:
    return {slot: slot for slot in config.real_cameras}


def make_policy_like(policy: Policy, shapes: dict[str, tuple[int, int, int]]) -> Policy:
    import dataclasses

    config = dataclasses.replace(policy.config, image_shapes=shapes)
    return Policy(
        policy.model.__class__(config),
        Transforms(TransformsConfig(config, policy.statistics, policy.tokenizer, same_names(config))),
    )


def test_instructions_of_1_to_48_tokens_and_other_step_counts(tmp_path: Path) -> None:
    policy = make_policy(1)
    export_policy(policy, tmp_path / "out", [make_frame(1, "a")])
    exported = load_example(tmp_path / "out").ExportedPolicy(tmp_path / "out")
    noise = torch.randn(12, 32, generator=torch.Generator().manual_seed(0))
    sigma = np.array(exported.facts["action"]["scale"])
    for length in range(1, 49):
        # One byte, one token; the newline is the last one, so a text of one token is the newline's only companion.
        frame = make_frame(1, "x" * max(length - 1, 1), seed=length)
        expected = policy.predict_chunk(frame, noise).numpy()
        assert np.abs((call(exported, frame, noise.numpy()) - expected) / sigma).max() < 1e-4
    with pytest.raises(ValueError, match="at most 48 fit"):
        call(exported, make_frame(1, "x" * 48), noise.numpy())
    frame = make_frame(1, "again")
    inputs = policy.transforms.inputs([frame])
    expected = policy.transforms.actions(policy.model.sample(inputs, noise[None], num_steps=3))[0].numpy()
    assert np.abs((call(exported, frame, noise.numpy(), steps=3) - expected) / sigma).max() < 1e-4


def test_batches_of_one_to_three(exported_folder: Path) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(exported_folder / "vision.onnx"))
    images = np.random.default_rng(0).uniform(-1, 1, (3, 3, 64, 64)).astype(np.float32)
    (together,) = session.run(None, {"images": images})
    for count in (1, 2):
        (part,) = session.run(None, {"images": images[:count]})
        np.testing.assert_allclose(part, together[:count], rtol=0, atol=1e-5)
    for graph in ("vision", "prefix", "denoise"):
        model = onnx.load(exported_folder / f"{graph}.onnx", load_external_data=False)
        first = {port.type.tensor_type.shape.dim[0].dim_param for port in model.graph.input}
        assert first == ({"images"} if graph == "vision" else {"batch"})
        onnx.checker.check_model(str(exported_folder / f"{graph}.onnx"), full_check=True)


def test_openvino_runs_the_files(policy: Policy, exported_folder: Path, frames: list[dict[str, Any]]) -> None:
    class Session:
        """What the example asks of a session, by OpenVINO."""

        def __init__(self, path: Path) -> None:
            self.model = openvino_core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

        def get_outputs(self) -> list[Any]:
            return [type("Port", (), {"name": port.get_any_name()}) for port in self.model.outputs]

        def run(self, _: None, feed: dict[str, Any]) -> list[Any]:
            known = {port.get_any_name() for port in self.model.inputs}
            result = self.model({name: value for name, value in feed.items() if name in known})
            return [result[i].copy() for i in range(len(self.model.outputs))]

    exported = load_example(exported_folder).ExportedPolicy(exported_folder)
    for name in ("vision", "prefix", "denoise"):
        setattr(exported, name, Session(exported_folder / f"{name}.onnx"))
    noise = np.random.default_rng(0).standard_normal((12, 32)).astype(np.float32)
    frame = {key: np.asarray(value) if key != TASK else value for key, value in frames[0].items()}
    images = {slot: to_bytes(frame[image_key(slot)]) for slot in exported.facts["slots"]}
    expected = policy.predict_chunk(frames[0], noise).numpy()
    assert np.abs(exported.predict_chunk(images, frame[STATE], frame[TASK], noise) - expected).max() < 1e-4


def to_bytes(image: Any) -> Any:
    return (image.transpose(1, 2, 0) * 255).round().astype(np.uint8)


_NO_INT8 = pytest.mark.skipif(not has_dot_products(), reason="this processor has no 8-bit dot products")


@pytest.mark.parametrize(("precision", "limit"), [("fp16", 0.02), pytest.param("int8", 0.5, marks=_NO_INT8)])
def test_narrow_precisions_say_their_error(
    policy: Policy, tiny_dataset: Path, tmp_path: Path, exported_folder: Path, precision: Any, limit: float
) -> None:
    frames = recorded_frames(policy, tiny_dataset, 4)
    report = export_policy(policy, tmp_path / "out", frames[:2], precision=precision, calibration=frames)
    assert 1e-5 < report["sigma"] < limit
    assert json.loads((tmp_path / "out" / "policy.json").read_text())["precision"] == precision
    wide = sum(path.stat().st_size for path in exported_folder.glob("*.data"))
    assert sum(path.stat().st_size for path in (tmp_path / "out").glob("*.data")) < 0.7 * wide


def test_nothing_is_left_after_an_error(policy: Policy, tiny_dataset: Path, tmp_path: Path, monkeypatch: Any) -> None:
    frames = recorded_frames(policy, tiny_dataset, 1)
    out = tmp_path / "out"
    with pytest.raises(UsageError, match="calibrate"):
        export_policy(policy, out, frames, precision="int8")
    monkeypatch.setattr(exporting, "_LARGEST_FP32", 0.0)
    with pytest.raises(CheckpointError, match="differ from the policy"):
        export_policy(policy, out, frames)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("extra", "name"),
    [(DeltaActions(), "delta_actions"), (UpsideDown("camera0"), "upside_down"), (Politely(), "politely")],
)
def test_a_transform_without_a_place_in_the_files_is_refused_by_name(
    extra: Transform, name: str, tmp_path: Path
) -> None:
    policy = with_extra(make_policy(1), extra)
    with pytest.raises(UsageError, match=f"has no place for its transform '{name}'"):
        export_policy(policy, tmp_path / "out", [make_frame(1, "a")])
    assert list(tmp_path.iterdir()) == []


def test_policy_json_is_what_earlier_readers_know(exported_folder: Path) -> None:
    facts = json.loads((exported_folder / "policy.json").read_text())
    assert list(facts) == [
        "format", "smolpilot", "precision", "robot", "rate", "slots", "image_special_tokens", "image_size",
        "max_tokens", "chunk", "n_action_steps", "num_steps", "max_state_dim", "max_action_dim", "frequencies",
        "state", "action", "instructions", "digests", "digest",
    ]  # fmt: skip
    assert facts["format"] == 1
    assert facts["slots"] == ["front", "wrist"]
    assert facts["image_size"] == 64
    for feature in ("state", "action"):
        assert list(facts[feature]) == ["joints", "units", "scale", "offset"]
        assert facts[feature]["joints"] == ["pan", "lift", "gripper"]
