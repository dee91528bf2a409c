"""The ONNX graphs in both runtimes against the plain network, and what the cache folder keeps."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from smolpilot.common.errors import UsageError
from smolpilot.inference import prepare
from smolpilot.inference.backends import openvino_backend
from smolpilot.inference.backends.backend import EngineSpec
from smolpilot.inference.backends.guidance import make_guidance
from smolpilot.inference.backends.onnx_network import open_network
from smolpilot.inference.backends.plain import PlainNetwork
from smolpilot.inference.onnx_graphs.runtimes import openvino_core
from smolpilot.smolvla.network.inputs import PolicyInputs
from smolpilot.smolvla.network.model import SmolVLA

_helpers = importlib.util.spec_from_file_location("helpers_engine", Path(__file__).parents[1] / "helpers_engine.py")
assert _helpers is not None
assert _helpers.loader is not None
helpers: Any = importlib.util.module_from_spec(_helpers)
_helpers.loader.exec_module(helpers)

TOLERANCE = 2e-5
RUNTIMES = ("openvino", "onnxruntime")


def make_spec(model: SmolVLA, folder: Path, mode: Any = "fast", calibration: list[PolicyInputs] | None = None) -> Any:
    return EngineSpec(
        config=model.config,
        mode=mode,
        device=torch.device("cpu"),
        precision="int8" if mode == "int8" else "float32",
        cameras=tuple(range(len(model.config.cameras))),
        max_tokens=48,
        steps=model.config.num_steps,
        folder=folder,
        calibration=calibration or [],
        threads=1,
    )


def never() -> SmolVLA:
    raise AssertionError("the weights were read again")


@pytest.mark.parametrize("name", helpers.CONFIGS)
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_configuration_gives_the_plain_chunk(name: str, runtime: Any, tmp_path: Path) -> None:
    config = helpers.make_config(**helpers.CONFIGS[name])
    model = helpers.make_model(config)
    side = config.resize_imgs_with_padding[0]
    inputs = helpers.make_inputs(3, masks=[[True, True], [True, False], [False, True]], lengths=[9, 4, 6], side=side)
    noise = helpers.make_noise(3)
    expected = helpers.run(PlainNetwork(model), inputs, noise, config.num_steps)
    chunk = helpers.run(
        open_network(make_spec(model, tmp_path), lambda: model, runtime), inputs, noise, config.num_steps
    )
    assert chunk.shape == (3, 12, 32)
    assert (chunk - expected).abs().max() < TOLERANCE


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_sizes_change_from_call_to_call(runtime: Any, tmp_path: Path) -> None:
    model = helpers.make_model(helpers.make_config(cameras=3))
    plain, network = PlainNetwork(model), open_network(make_spec(model, tmp_path), lambda: model, runtime)
    all_masks = {1: [[True, True, True]], 2: [[False, True, False]] * 2, 3: [[True, False, True]] * 3}
    for batch, length, steps in ((1, 1, 10), (2, 48, 3), (3, 17, 1), (1, 5, 10)):
        inputs = helpers.make_inputs(batch, 3, masks=all_masks[batch], lengths=[length] * batch, seed=length)
        noise = helpers.make_noise(batch, seed=length)
        expected = helpers.run(plain, inputs, noise, steps)
        assert (helpers.run(network, inputs, noise, steps) - expected).abs().max() < TOLERANCE


def test_guidance_and_a_newer_state_for_the_same_context(tmp_path: Path) -> None:
    model = helpers.make_model(helpers.make_config())
    plain, network = PlainNetwork(model), open_network(make_spec(model, tmp_path), lambda: model, "openvino")
    inputs, noise = helpers.make_inputs(), helpers.make_noise()
    guidance = make_guidance(torch.randn(1, 8, 3), chunk_size=12, action_dim=32, steps=10, delay=2)
    results = []
    backend: Any
    for backend in (plain, network):
        tokens = backend.vision(inputs.images[0])[None]
        context = backend.context(tokens, inputs.image_masks, inputs.tokens, inputs.token_mask)
        first = backend.denoise(context, inputs.state, noise, 10, guidance)
        results.append((first, backend.denoise(context, inputs.state + 1, noise, 10, None)))
    for ours, theirs in zip(*results, strict=True):
        assert (ours - theirs).abs().max() < TOLERANCE
    assert (results[0][0] - results[0][1]).abs().max() > 0.1


def test_two_contexts_do_not_share_buffers(tmp_path: Path) -> None:
    model = helpers.make_model(helpers.make_config())
    network = open_network(make_spec(model, tmp_path), lambda: model, "openvino")
    noise = helpers.make_noise()
    batches = [helpers.make_inputs(seed=seed) for seed in (0, 1)]
    alone = [helpers.run(network, inputs, noise) for inputs in batches]
    tokens = [network.vision(inputs.images[0])[None] for inputs in batches]
    contexts = [
        network.context(own, inputs.image_masks, inputs.tokens, inputs.token_mask)
        for own, inputs in zip(tokens, batches, strict=True)
    ]
    for _ in range(2):
        for context, inputs, expected in zip(contexts, batches, alone, strict=True):
            assert torch.equal(network.denoise(context, inputs.state, noise, 10, None), expected)


def test_the_graphs_are_kept_and_damage_is_repaired(tmp_path: Path) -> None:
    model = helpers.make_model(helpers.make_config())
    spec = make_spec(model, tmp_path)
    inputs, noise = helpers.make_inputs(), helpers.make_noise()
    first = helpers.run(open_network(spec, lambda: model, "openvino"), inputs, noise)
    assert torch.equal(helpers.run(open_network(spec, never, "openvino"), inputs, noise), first)
    graph = next(tmp_path.rglob("prefix.onnx"))
    graph.write_bytes(graph.read_bytes()[:1000])
    assert torch.equal(helpers.run(open_network(spec, lambda: model, "openvino"), inputs, noise), first)
    next(tmp_path.rglob("embeddings.npy")).unlink()
    assert torch.equal(helpers.run(open_network(spec, lambda: model, "openvino"), inputs, noise), first)
    assert not list(tmp_path.rglob("*.partial"))


def test_weights_of_another_dtype(tmp_path: Path) -> None:
    model = helpers.make_model(helpers.make_config())
    expected = helpers.run(PlainNetwork(model), helpers.make_inputs(), helpers.make_noise())
    network = open_network(make_spec(model, tmp_path), lambda: model.bfloat16(), "openvino")
    chunk = helpers.run(network, helpers.make_inputs(), helpers.make_noise())
    assert 1e-4 < (chunk - expected).abs().max() < 0.3
    assert network.memory_bytes > 1e6


@pytest.mark.skipif(not helpers.has_dot_products(), reason="this processor has no 8-bit dot products")
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_int8_is_near_the_plain_chunk_and_computes_in_integers(runtime: Any, tmp_path: Path) -> None:
    model = helpers.make_model(helpers.make_config())
    calibration = [helpers.make_inputs(seed=seed) for seed in range(4)]
    spec = make_spec(model, tmp_path, "int8", calibration)
    network = open_network(spec, lambda: model, runtime)
    inputs, noise = helpers.make_inputs(seed=9), helpers.make_noise(seed=9)
    expected = helpers.run(PlainNetwork(model), inputs, noise)
    chunk = helpers.run(network, inputs, noise)
    error = float((chunk - expected).abs().mean() / expected.abs().mean())
    assert 1e-5 < error < 0.05
    assert torch.equal(helpers.run(open_network(spec, never, runtime), inputs, noise), chunk)
    if runtime == "openvino" and not openvino_backend.unavailable("int8", torch.device("cpu")):
        kinds = _kernels(next(tmp_path.rglob("denoise.onnx")))
        assert "i8" in kinds, "no product runs in integers"


def _kernels(path: Path) -> str:
    """What OpenVINO runs the matrix products of a graph with."""
    model = openvino_core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    products = [
        node.get_rt_info()["primitiveType"].astype(str)
        for node in model.get_runtime_model().get_ops()
        if "FullyConnected" in node.get_rt_info()["layerType"].astype(str)
    ]
    return " ".join(products)


def test_int8_without_frames_says_what_to_do(tmp_path: Path) -> None:
    model = helpers.make_model(helpers.make_config())
    with pytest.raises(UsageError, match="calibrate"):
        open_network(make_spec(model, tmp_path, "int8"), lambda: model, "openvino")
    assert not list(tmp_path.rglob("*.onnx"))


def test_smoothing_changes_no_product() -> None:
    from smolpilot.inference.onnx_graphs.ranges import Ranges, quantize_weight, smoothing_of

    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((64, 32)).astype(np.float32), rng.standard_normal((16, 32)).astype(np.float32)
    x[:, 3] *= 50  # one channel that sticks out, as in trained networks
    channels, columns = np.abs(x).max(axis=0), np.abs(weight).max(axis=0)
    divisor = smoothing_of(channels, columns, 0.5)
    np.testing.assert_allclose((x / divisor) @ (weight * divisor).T, x @ weight.T, rtol=1e-4, atol=1e-3)

    def error(ranges: Ranges, divisor: Any) -> float:
        step = ranges.largest("x") / 127
        rounded = np.rint(x / divisor / step) * step
        integers, scale = quantize_weight((weight * divisor).T)
        return float(np.abs(rounded @ (integers * scale) - x @ weight.T).mean())

    plain = error(Ranges({"x": channels}), 1.0)
    assert error(Ranges({"x": channels}, {"x": divisor}), divisor) < 0.5 * plain


@pytest.mark.parametrize(("mode", "device"), [("exact", "cpu"), ("fast", "cuda")])
def test_where_openvino_does_not_serve(mode: Any, device: str) -> None:
    assert openvino_backend.unavailable(mode, torch.device(device))


def test_a_spec_says_its_precision() -> None:
    names = {field.name for field in dataclasses.fields(EngineSpec)}
    assert {"calibration", "folder", "threads"} <= names
    possible: Callable[..., tuple[str, ...]] = openvino_backend.precisions
    assert possible("fast", torch.device("cpu"), "bfloat16") == ("float32",)
    assert possible("int8", torch.device("cpu"), "bfloat16") == ("int8",)


@pytest.mark.skipif(not helpers.has_dot_products(), reason="this processor has no 8-bit dot products")
def test_the_engine_remembers_the_calibration(bundle: Path, frames: list[dict[str, Any]], tmp_path: Path) -> None:
    options: Any = {"engine": "int8", "device": "cpu", "cache_dir": tmp_path, "check": False, "warm_up": False}
    with pytest.raises(UsageError, match="calibrate"):
        prepare(bundle, **options)
    first = prepare(bundle, calibration=frames, **options).predict_chunk(frames[0], seed=0)
    again = prepare(bundle, **options)
    assert torch.equal(again.predict_chunk(frames[0], seed=0), first)
    assert again.report.precision == "int8"
    other = prepare(bundle, calibration=frames[:1], **options)
    assert not torch.equal(other.predict_chunk(frames[0], seed=0), first)
