"""The frame cache: the same loss and gradients from disk, names made of contents, damage noticed, misuse refused."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from smolpilot.datasets import open_dataset
from smolpilot.errors import TrainingError, UsageError
from smolpilot.policy import Policy, load_policy, new_policy, save_bundle
from smolpilot.training import TrainOptions, train
from smolpilot.training.batches import Batches
from smolpilot.training.block_store import BlockStore
from smolpilot.training.frame_cache import FrameCache, Kind, cache_spec
from smolpilot.training.metrics_log import read_metrics

H = 5
CPU = torch.device("cpu")
FROZEN = {"train_expert_only": True, "freeze_vision_encoder": True, "chunk_size": H, "n_action_steps": H}


@pytest.fixture(scope="module")
def parent(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    policy = new_policy("tiny", meta=open_dataset(tiny_dataset).meta, seed=3, device="cpu", overrides=FROZEN)
    return save_bundle(policy, tmp_path_factory.mktemp("parents") / "parent")


@pytest.fixture(scope="module")
def policy(parent: Path) -> Policy:
    return load_policy(parent, device="cpu", dtype="float32")


def batches(
    policy: Policy, path: Path, kind: Kind | None, folder: Path, **more: Any
) -> tuple[Batches, FrameCache | None]:
    made: list[FrameCache] = []

    def cache(own: Batches, rows: Any) -> FrameCache:
        assert kind is not None
        spec = cache_spec(policy, kind, own.plans, own.token_width, more.get("dtype"))
        made.append(FrameCache(policy, own.dataset, own.plans, rows, spec, own.uncached, folder))
        return made[-1]

    dataset = open_dataset(path, episodes=more.get("episodes"), chunk_size=H)
    result = Batches(dataset, policy.transforms, CPU, chunk_size=H, cache=cache if kind else None)
    return result, made[0] if made else None


def gradients(policy: Policy, inputs: Any) -> tuple[float, dict[str, torch.Tensor]]:
    policy.model.zero_grad(set_to_none=True)
    g = torch.Generator().manual_seed(1)
    noise, time = torch.randn(inputs.actions.shape, generator=g), torch.rand(len(inputs), generator=g)
    loss = policy.model.loss(inputs, noise, time)
    loss.backward()
    named = policy.model.named_parameters()
    return loss.item(), {name: p.grad.clone() for name, p in named if p.grad is not None}


@pytest.mark.parametrize("kind", ["vision", "prefix"])
def test_loss_and_every_gradient_from_disk(policy: Policy, tiny_dataset: Path, tmp_path: Path, kind: Kind) -> None:
    plain, _ = batches(policy, tiny_dataset, None, tmp_path)
    cached, cache = batches(policy, tiny_dataset, kind, tmp_path)
    assert cache is not None
    assert cache.build() > 1
    rows = [0, 40, 77, 19, 100]  # both instructions, of different length
    expected, found = gradients(policy, plain.batch(rows)), gradients(policy, cached.batch(rows))
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    assert found[1].keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=0, atol=1e-5 * float(gradient.abs().max()) + 1e-9)


def test_another_run_finds_what_is_there(policy: Policy, tiny_dataset: Path, tmp_path: Path) -> None:
    _, first = batches(policy, tiny_dataset, "vision", tmp_path)
    _, again = batches(policy, tiny_dataset, "vision", tmp_path)
    assert first is not None
    assert again is not None
    assert first.build() == 6
    assert again.build() == 0
    rows = np.array([3, 50])
    left, right = (cache.fields(rows, CPU)["image_tokens"] for cache in (first, again))
    assert torch.equal(left, right)


def test_only_the_wanted_episodes_are_computed_and_shared(policy: Policy, tiny_dataset: Path, tmp_path: Path) -> None:
    _, part = batches(policy, tiny_dataset, "prefix", tmp_path, episodes=[1, 3])
    _, whole = batches(policy, tiny_dataset, "prefix", tmp_path)
    assert part is not None
    assert whole is not None
    assert part.build() == 2
    # One instruction alone may be shorter than both: then the tokens, and so the keys, are others.
    assert whole.build() in (4, 6)


@pytest.mark.parametrize("damage", ["torn", "flipped", "empty", "gone"])
def test_damage_is_noticed_and_computed_again(policy: Policy, tiny_dataset: Path, tmp_path: Path, damage: str) -> None:
    _, cache = batches(policy, tiny_dataset, "vision", tmp_path)
    assert cache is not None
    cache.build()
    expected = cache.fields(np.arange(20), CPU)["image_tokens"]
    path = sorted(tmp_path.rglob("*.block"))[2]
    content = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    else:
        content[5000] ^= 1
        path.write_bytes({"torn": content[:-10], "flipped": content, "empty": b""}[damage])
    _, again = batches(policy, tiny_dataset, "vision", tmp_path)
    assert again is not None
    assert again.build() == 1
    assert torch.equal(again.fields(np.arange(20), CPU)["image_tokens"], expected)


def test_other_weights_or_other_video_have_other_names(
    policy: Policy, parent: Path, tiny_dataset: Path, tmp_path: Path
) -> None:
    _, cache = batches(policy, tiny_dataset, "vision", tmp_path)
    assert cache is not None
    cache.build()
    changed = load_policy(parent, device="cpu", dtype="float32")
    with torch.no_grad():
        changed.model.connector.proj.weight[0, 0] += 1e-3
    _, other = batches(changed, tiny_dataset, "vision", tmp_path)
    assert other is not None
    assert other.build() == 6
    # The expert's weights are not in it: a trained policy finds its parent's cache.
    trained = load_policy(parent, device="cpu", dtype="float32")
    with torch.no_grad():
        trained.model.action_out_proj.weight += 1
    _, same = batches(trained, tiny_dataset, "vision", tmp_path)
    assert same is not None
    assert same.build() == 0


def test_a_coarser_cache_is_near_and_half_as_large(policy: Policy, tiny_dataset: Path, tmp_path: Path) -> None:
    plain, _ = batches(policy, tiny_dataset, None, tmp_path)
    coarse, cache = batches(policy, tiny_dataset, "prefix", tmp_path, dtype="bfloat16")
    assert cache is not None
    cache.build()
    assert cache.spec.gigabytes(10) * 2 == dataclasses.replace(cache.spec, dtype=torch.float32).gigabytes(10)
    left, right = plain.batch([5, 60]), coarse.batch([5, 60])
    assert right.context is not None
    assert right.context.dtype == torch.float32
    noise = torch.zeros(2, H, 32)
    apart = (policy.model.sample(left, noise) - policy.model.sample(right, noise)).abs().max()
    assert 0 < float(apart) < 0.05


def options(dataset: Path, parent: Path, out: Path, **changes: Any) -> TrainOptions:
    base = TrainOptions(
        dataset=dataset, out=out, policy=str(parent), steps=6, batch_size=24, log_every=1, eval_every=3, save_every=6,
        eval_frames=6, device="cpu",
    )  # fmt: skip
    return dataclasses.replace(base, **changes)


def test_whole_runs_with_and_without_cache_agree(tiny_dataset: Path, parent: Path, tmp_path: Path, capsys) -> None:
    curves, scores, weights = [], [], []
    for kind in ("none", "vision", "prefix", "auto"):
        run = train(options(tiny_dataset, parent, tmp_path / kind, cache=kind, cache_dir=tmp_path / "cache"))
        lines = read_metrics(run / "metrics.jsonl")
        curves.append([line["loss"] for line in lines if line["kind"] == "train"])
        scores.append([line["score"] for line in lines if line["kind"] == "validation"])
        weights.append(load_file(run / "checkpoints" / "last" / "model.safetensors"))
    assert "cache: prefix" in capsys.readouterr().out
    for curve, score in zip(curves[1:], scores[1:], strict=True):
        np.testing.assert_allclose(curve, curves[0], rtol=2e-4)
        np.testing.assert_allclose(score, scores[0], rtol=2e-3)
    # Auto is the prefix cache, found on disk: the same run bit for bit.
    assert curves[3] == curves[2]
    assert all(torch.equal(weights[3][name], weights[2][name]) for name in weights[2])


def test_a_run_that_is_too_short_or_trains_the_context_takes_no_cache(
    tiny_dataset: Path, parent: Path, tmp_path: Path, capsys
) -> None:
    folder = tmp_path / "cache"
    train(options(tiny_dataset, parent, tmp_path / "a", steps=1, batch_size=2, cache_dir=folder))
    train(options(tiny_dataset, parent, tmp_path / "b", cache_dir=folder, train_expert_only=False))
    train(options(tiny_dataset, parent, tmp_path / "c", cache_dir=folder, augment={"crop": 0.5}))
    assert not folder.exists()
    assert "cache: vision" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"train_expert_only": False}, "model is trained"), ({"augment": {"crop": 0.5}}, "--augment changes")],
)
def test_a_cache_that_cannot_be_is_refused(
    tiny_dataset: Path, parent: Path, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        train(options(tiny_dataset, parent, tmp_path / "run", cache="prefix", **changes))


def test_no_room_is_said_before_anything_is_computed(
    tiny_dataset: Path, parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
    with pytest.raises(TrainingError, match=r"0\.0 GB are free"):
        train(options(tiny_dataset, parent, tmp_path / "run", cache="prefix", cache_dir=tmp_path / "cache"))
    assert not list((tmp_path / "cache").rglob("*.block"))


def test_store_refuses_another_shape(tmp_path: Path) -> None:
    store = BlockStore(tmp_path, (2, 3), torch.bfloat16)
    block = torch.randn(4, 2, 3).bfloat16()
    store.write("abcd", block)
    found = store.read("abcd", 4)
    assert found is not None
    assert torch.equal(found, block)
    assert store.read("abcd", 3) is None or len(store.read("abcd", 3)) == 4  # opened already
    assert BlockStore(tmp_path, (2, 3), torch.bfloat16).read("abcd", 3) is None
    with pytest.raises(ValueError, match="a block of"):
        store.write("abcd", block.float())
