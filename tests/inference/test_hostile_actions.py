"""What is not finite never leaves as an action, whichever way it is asked for: one error with joint and step."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from smolpilot.common.errors import CheckpointError, NotFiniteError, TransformError, UsageError
from smolpilot.common.keys import STATE, TASK
from smolpilot.inference import prepare
from smolpilot.inference.example_frame import example_frame
from smolpilot.inference.export.exporting import export_policy
from smolpilot.smolvla import Policy, load_policy

from .helpers_engine import load_example

WORDS = r"computes (NaN|infinite) for joint 'pan' at step 0 of the chunk"


@pytest.fixture(scope="module")
def overflowing(policy: Policy) -> Policy:
    """Every weight is finite, and the numbers that they make are not: no look at the file can tell."""
    broken = copy.copy(policy)
    broken.model = copy.deepcopy(policy.model)
    with torch.no_grad():
        broken.model.action_out_proj.weight.fill_(3e38)
    return broken


WAYS: dict[str, Callable[[Any, dict[str, Any]], object]] = {
    "predict_chunk": lambda runner, frame: runner.predict_chunk(frame),
    "predict_chunks": lambda runner, frame: runner.predict_chunks([frame, frame]),
    "select_action": lambda runner, frame: runner.select_action(frame),
}
ENGINE_WAYS: dict[str, Callable[[Any, dict[str, Any]], object]] = {
    **WAYS,
    "guided": lambda engine, frame: engine.predict_chunk(frame, leftover=torch.zeros(5, 3), delay=1),
    "in_two_stages": lambda engine, frame: (engine.begin(frame), engine.finish(frame[STATE])),
    "normalized": lambda engine, frame: engine.predict_normalized(engine.transforms.inputs([frame])),
}


@pytest.mark.parametrize("way", WAYS)
def test_policy(way: str, overflowing: Policy) -> None:
    with pytest.raises(NotFiniteError, match=WORDS) as caught:
        WAYS[way](overflowing, example_frame(overflowing.transforms_config))
    assert "No action is given" in caught.value.found
    assert not overflowing._queue


def test_no_verdict_on_a_policy_that_computes_nothing(overflowing: Policy, tmp_path: Path) -> None:
    with pytest.raises(NotFiniteError, match=WORDS):
        prepare(overflowing, engine="exact", cache_dir=tmp_path)
    with prepare(overflowing, engine="exact", cache_dir=tmp_path, warm_up=False) as engine:
        with pytest.raises(NotFiniteError, match=WORDS):
            engine.predict_chunk(example_frame(overflowing.transforms_config))
        assert engine.verdict is None
    assert not list(tmp_path.rglob("verdict.json"))


@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_engine(mode: Any, overflowing: Policy, tmp_path: Path) -> None:
    frame = example_frame(overflowing.transforms_config)
    with prepare(overflowing, engine=mode, cache_dir=tmp_path, warm_up=False, check=False) as engine:
        for ask in ENGINE_WAYS.values():
            with pytest.raises(NotFiniteError, match=WORDS):
                ask(engine, frame)


def test_an_engine_that_fails_where_the_policy_does_not_is_replaced(policy: Policy, tmp_path: Path) -> None:
    """NaN of an engine is no chunk and no error: its check falls back to the plain network."""
    engine = prepare(policy, engine="fast", cache_dir=tmp_path, warm_up=False)
    backend: Any = engine._backend
    real = type(backend).denoise
    try:
        type(backend).denoise = lambda *args, **more: real(*args, **more) * float("nan")
        with pytest.warns(UserWarning, match="the plain network runs instead"):
            chunk = engine.predict_chunk(example_frame(policy.transforms_config), seed=0)
    finally:
        type(backend).denoise = real
    assert torch.isfinite(chunk).all()


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_noise_and_left_overs_are_looked_at(number: float, policy: Policy, tmp_path: Path) -> None:
    frame = example_frame(policy.transforms_config)
    noise = torch.zeros(12, 32)
    noise[3, 1] = number
    with pytest.raises(TransformError, match="The noise is not finite"):
        policy.predict_chunk(frame, noise)
    with prepare(policy, engine="exact", cache_dir=tmp_path, warm_up=False, check=False) as engine:
        with pytest.raises(TransformError, match="The noise is not finite"):
            engine.predict_chunk(frame, noise)
        with pytest.raises(TransformError, match="'action' is"):
            engine.predict_chunk(frame, leftover=noise[:4, :3])
        with pytest.raises(UsageError, match="max_gain"):
            engine.predict_chunk(frame, leftover=torch.zeros(4, 3), max_gain=number)
        inputs = engine.transforms.inputs([frame])
        inputs.state[0, 0] = number
        with pytest.raises(TransformError, match="The state is not finite"):
            engine.predict_normalized(inputs)
        for steps in (0, 1_001, 10**9, True):
            with pytest.raises(UsageError, match="num_steps is"):
                engine.predict_chunk(frame, num_steps=steps)


def test_a_finite_chunk_passes_to_its_last_bit(policy: Policy) -> None:
    noise = torch.randn(12, 32, generator=torch.Generator().manual_seed(0))
    frame = example_frame(policy.transforms_config)
    inputs = policy.transforms.inputs([frame])
    plain = policy.transforms.actions(policy.model.sample(inputs, noise[None]))[0]
    assert torch.equal(policy.predict_chunk(frame, noise), plain)


def test_exported_example(policy: Policy, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    frame = example_frame(policy.transforms_config)
    export_policy(policy, tmp_path / "out", [frame])
    exported = load_example(tmp_path / "out").ExportedPolicy(tmp_path / "out")
    images = {camera: frame[f"observation.images.{camera}"] for camera in ("front", "wrist")}
    exported.facts["action"]["scale"][1] = float("nan")
    with pytest.raises(ValueError, match="nan for lift at step 0 of the chunk: no action"):
        exported.predict_chunk(images, frame[STATE], frame[TASK])


def test_an_export_that_computes_nothing_leaves_nothing(overflowing: Policy, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    with pytest.raises(NotFiniteError, match=WORDS):
        export_policy(overflowing, tmp_path / "out", [example_frame(overflowing.transforms_config)])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["I32", "U32"])
def test_weights_whose_header_says_integers(kind: str, bundle: Path, tmp_path: Path) -> None:
    """The bytes of float32 as whole numbers: as large as before, and no weights."""
    folder = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    path = folder / "model.safetensors"
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + size].replace(b'"dtype":"F32"', f'"dtype":"{kind}"'.encode())
    assert len(header) == size
    path.write_bytes(content[:8] + header + content[8 + size :])
    with pytest.raises(CheckpointError, match=f"are {'u' if kind == 'U32' else ''}int32"):
        load_policy(folder, device="cpu")
