"""The check against the plain network: what it says, where it is kept, and what happens above the limit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from smolpilot.common.hashing import folder_digest, tensors_digest
from smolpilot.inference import prepare
from smolpilot.inference.backends.parity_check import compare
from smolpilot.inference.backends.plain import PlainNetwork
from smolpilot.smolvla import Policy, seal_bundle

Frames = list[dict[str, Any]]


def noise(seed: int) -> torch.Tensor:
    return torch.randn(12, 32, generator=torch.Generator().manual_seed(seed))


def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Notes each time that weights are read."""
    from smolpilot.smolvla import loading

    seen: list[str] = []
    read = loading.load_model  # type: ignore[attr-defined]
    monkeypatch.setattr(loading, "load_model", lambda *a, **k: seen.append("read") or read(*a, **k))
    return seen


@pytest.mark.parametrize(("backend", "reads"), [("torch", ["read"]), ("openvino", [])])
def test_a_warm_start_knows_the_verdict_and_loads_the_weights_at_most_once(
    bundle: Path, frames: Frames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str, reads: list[str]
) -> None:
    # float32: on CPUs with bfloat16 products the torch backend would take those.
    options: Any = {"engine": "fast", "backend": backend, "device": "cpu", "precision": "float32", "frame": frames,
                    "cache_dir": tmp_path}  # fmt: skip
    first = prepare(bundle, **options)
    assert first.verdict is not None
    assert not first.verdict.stored
    assert first.verdict.frames == 3
    assert 0 < first.verdict.sigma < 1e-5
    seen = loads(monkeypatch)
    again = prepare(bundle, **options)
    assert seen == reads
    assert again.verdict is not None
    assert again.verdict.stored
    assert again.verdict.difference == first.verdict.difference
    assert again._plain._model is None, "the plain network is let go"  # type: ignore[attr-defined]


@pytest.mark.parametrize("change", ["weights", "mode", "steps", "cameras", "damaged"])
def test_what_changed_is_checked_again(bundle: Path, frames: Frames, tmp_path: Path, change: str) -> None:
    cache, copy = tmp_path / "cache", tmp_path / "bundle"
    shutil.copytree(bundle, copy)
    prepare(copy, engine="fast", device="cpu", frame=frames[0], cache_dir=cache)
    options: dict[str, Any] = {"engine": "fast"}
    if change == "weights":
        file = copy / "model.safetensors"
        weights = safetensors.torch.load_file(file)
        next(iter(weights.values())).view(-1)[0] += 1e-3
        safetensors.torch.save_file(weights, file, metadata={"format": "pt"})
        seal_bundle(copy)
    elif change == "mode":
        options["engine"] = "exact"
    elif change == "steps":
        options["num_steps"] = 3
    elif change == "cameras":
        options["cameras"] = ["wrist"]
    else:
        (verdict,) = cache.glob("*/verdict.json")
        verdict.write_text(verdict.read_text()[:40])
    engine = prepare(copy, device="cpu", frame=frames[0], cache_dir=cache, **options)
    assert engine.verdict is not None
    assert not engine.verdict.stored


def test_without_a_frame_the_first_one_is_the_check(policy: Policy, frames: Frames, tmp_path: Path) -> None:
    engine = prepare(policy, engine="fast", cache_dir=tmp_path)
    assert engine.verdict is None, "the made-up frame of the warm-up is no check"
    assert "not yet" in str(engine.report)
    engine.begin(frames[0])
    chunk = engine.finish(frames[0]["observation.state"], seed=0)
    assert engine.verdict is not None
    assert engine.verdict.passed
    assert (chunk - policy.predict_chunk(frames[0], noise(0))).abs().max() < 1e-5


@pytest.mark.parametrize("late", [False, True])
def test_above_the_limit_the_plain_network_runs(policy: Policy, frames: Frames, tmp_path: Path, late: bool) -> None:
    engine = prepare(policy, engine="fast", precision="bfloat16", limit=1e-6, cache_dir=tmp_path)
    expected = policy.predict_chunk(frames[0], noise(0))
    if late:
        engine.begin(frames[0])
    state = frames[0]["observation.state"]
    with pytest.warns(UserWarning, match=r"differs from the plain network by at most[\s\S]*the plain network runs"):
        chunk = engine.finish(state, seed=0) if late else engine.predict_chunk(frames[0], seed=0)
    assert torch.equal(chunk, expected)
    assert isinstance(engine._backend, PlainNetwork)
    assert engine.report.mode == "plain"
    assert engine.report.asked_mode == "fast"
    assert "WARNING" in str(engine.report)
    # The next start does not build what will not be used; a wider limit lets it pass.
    with pytest.warns(UserWarning, match="the plain network runs"):
        again = prepare(policy, engine="fast", precision="bfloat16", limit=1e-6, cache_dir=tmp_path)
    assert isinstance(again._backend, PlainNetwork)
    assert torch.equal(again.predict_chunk(frames[0], seed=0), expected)
    wide = prepare(policy, engine="fast", precision="bfloat16", limit=0.5, cache_dir=tmp_path)
    assert wide.report.mode == "fast"
    assert wide.report.precision == "bfloat16"


def test_the_verdict_says_joint_unit_and_sigma() -> None:
    ours, plain = torch.zeros(2, 5, 8), torch.zeros(2, 5, 8)
    ours[1, 2, 1] = 0.25
    ours[0, 0, 7] = 99.0  # a padded dimension: nobody executes it
    units = torch.zeros(2, 5, 2), torch.zeros(2, 5, 2)
    units[0][1, 2, 1] = -4.5
    verdict = compare(ours, plain, units, {"pan": "deg", "grip": "mm"}, limit=0.3)
    assert verdict.sigma == 0.25
    assert verdict.passed
    assert verdict.largest == ("grip", 4.5)
    assert "at most 4.5 mm (grip), 0.25 standard deviations (limit 0.3), 2 frames" in verdict.text()
    ours[0, 0, 0] = float("nan")
    assert not compare(ours, plain, units, {}, limit=0.3).passed
    assert "every bit" in compare(plain, plain, units, {}, limit=0.0).text()


def test_digests_see_one_changed_bit(bundle: Path, tmp_path: Path) -> None:
    big = tmp_path / "a"
    big.mkdir()
    rng = np.random.default_rng(0)
    content = rng.integers(0, 256, 70 << 20, dtype=np.uint8)
    (big / "model.safetensors").write_bytes(content.tobytes())
    first = folder_digest(big)
    assert first == folder_digest(big)
    for place in (0, 40 << 20, len(content) - 1):
        changed = content.copy()
        changed[place] ^= 1
        (big / "model.safetensors").write_bytes(changed.tobytes())
        assert folder_digest(big) != first
    one = {"w": torch.zeros(3), "b": torch.ones(2)}
    assert tensors_digest(one) != tensors_digest({"w": torch.zeros(3), "b": torch.tensor([1.0, 1.0 + 1e-7])})
    assert tensors_digest(one) != tensors_digest({"v": torch.zeros(3), "b": torch.ones(2)})


def test_the_stored_verdict_is_readable(policy: Policy, frames: Frames, tmp_path: Path) -> None:
    prepare(policy, engine="exact", frame=frames[0], cache_dir=tmp_path)
    (path,) = tmp_path.glob("*/verdict.json")
    values = json.loads(path.read_text())
    assert values["sigma"] == 0.0
    assert set(values["difference"]) == {"pan", "lift", "gripper"}
