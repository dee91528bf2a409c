"""The engine as a user meets it: chunks in robot units, late state, seeds, batches, threads, start and stop."""

from __future__ import annotations

import gc
import threading
import tracemalloc
import warnings
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from smolpilot.common.errors import TransformError, UsageError
from smolpilot.inference import Engine, prepare
from smolpilot.inference.backends.fast import FastNetwork
from smolpilot.smolvla import Policy

Frames = list[dict[str, Any]]
MODES = ("exact", "fast")
TOLERANCE = {"exact": 0.0, "fast": 1e-5}  # standard deviations are of the order of one here


@pytest.fixture(scope="module", params=MODES)
def engine(
    request: pytest.FixtureRequest, bundle: Path, frames: Frames, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    cache = tmp_path_factory.mktemp("engines")
    with prepare(bundle, engine=request.param, device="cpu", frame=frames[0], cache_dir=cache) as engine:
        yield engine


def noise(seed: int) -> torch.Tensor:
    return torch.randn(12, 32, generator=torch.Generator().manual_seed(seed))


def test_chunks_are_those_of_the_policy(engine: Engine, policy: Policy, frames: Frames) -> None:
    for i, frame in enumerate(frames):
        expected = policy.predict_chunk(frame, noise(i))
        found = engine.predict_chunk(frame, noise(i))
        assert found.shape == (12, 3)
        assert (found - expected).abs().max() <= TOLERANCE[engine.settings.mode]
        assert torch.equal(engine.predict_chunk(frame, seed=i), found), "a seed is the same draw as its noise"


def test_another_number_of_steps(engine: Engine, policy: Policy, frames: Frames) -> None:
    policy.num_steps = 3
    expected = policy.predict_chunk(frames[0], noise(0))
    policy.num_steps = policy.config.num_steps
    found = engine.predict_chunk(frames[0], noise(0), num_steps=3)
    assert (found - expected).abs().max() <= TOLERANCE[engine.settings.mode]
    assert (engine.predict_chunk(frames[0], noise(0)) - found).abs().max() > 1e-3


def test_late_state_gives_the_same_chunk(engine: Engine, frames: Frames) -> None:
    frame, later = frames[0], frames[1]["observation.state"]
    expected = engine.predict_chunk(frame, seed=1)
    ticket = engine.begin(frame)
    assert torch.equal(engine.finish(frame["observation.state"], seed=1), expected)
    moved = engine.finish(later, ticket=ticket, seed=1)
    assert torch.equal(moved, engine.predict_chunk({**frame, "observation.state": later}, seed=1))
    assert (moved - expected).abs().max() > 1e-3
    # By camera name, the instruction apart.
    images = {name: frame[f"observation.images.{name}"] for name in ("front", "wrist")}
    engine.begin(images, frame["task"])
    assert torch.equal(engine.finish(frame["observation.state"], seed=1), expected)
    with pytest.raises(UsageError, match="A later begin replaced this one"):
        engine.finish(later, ticket=ticket)
    engine.reset()
    with pytest.raises(UsageError, match="without a begin"):
        engine.finish(later)


def test_a_batch_is_its_frames(engine: Engine, policy: Policy, frames: Frames) -> None:
    together = engine.predict_chunks(frames, seeds=[0, 1, 2])
    expected = policy.predict_chunks(frames, torch.stack([noise(i) for i in range(3)]))
    assert together.shape == (3, 12, 3)
    assert (together - expected).abs().max() <= TOLERANCE[engine.settings.mode]


def test_select_action_plans_anew_after_the_horizon(engine: Engine, policy: Policy, frames: Frames) -> None:
    engine.reset()
    engine.n_action_steps = 2
    torch.manual_seed(0)
    actions = [engine.select_action(frames[0]) for _ in range(3)]
    torch.manual_seed(0)
    first, second = engine.predict_chunk(frames[0]), engine.predict_chunk(frames[0])
    assert torch.equal(torch.stack(actions), torch.stack([first[0], first[1], second[0]]))
    engine.n_action_steps = policy.n_action_steps


def test_a_camera_that_did_not_change_is_not_encoded_again(
    engine: Engine, policy: Policy, frames: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    backend = engine._backend
    assert backend is not None
    encode = backend.vision
    monkeypatch.setattr(backend, "vision", lambda images: seen.append(len(images)) or encode(images))
    first, second = frames[0], frames[2]
    half = {**second, "observation.images.front": first["observation.images.front"]}
    for frame in (second, first, first, half):
        found = engine.predict_chunk(frame, noise(0))
        assert (found - policy.predict_chunk(frame, noise(0))).abs().max() <= TOLERANCE[engine.settings.mode]
    assert seen == [2, 2] + ([2] if engine.settings.mode == "exact" else [1])


def test_threads_wait_for_each_other(engine: Engine, frames: Frames) -> None:
    expected = {(i, seed): engine.predict_chunk(frames[i], seed=seed) for i in range(3) for seed in range(2)}
    wrong: list[Any] = []

    def work(i: int) -> None:
        for _ in range(3):
            for seed in range(2):
                if not torch.equal(engine.predict_chunk(frames[i], seed=seed), expected[i, seed]):
                    wrong.append((i, seed))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_stop_frees_and_start_brings_back(bundle: Path, frames: Frames, tmp_path: Path) -> None:
    engine = prepare(bundle, engine="fast", device="cpu", frame=frames[0], cache_dir=tmp_path)
    before = engine.predict_chunk(frames[0], seed=0)
    backend = weakref.ref(engine._backend)
    stopping = [threading.Thread(target=engine.stop) for _ in range(2)]
    for thread in stopping:
        thread.start()
    for thread in stopping:
        thread.join()
    gc.collect()
    assert backend() is None
    assert not engine.running
    with pytest.raises(UsageError, match=r"engine is stopped[\s\S]*engine.start"):
        engine.predict_chunk(frames[0])
    assert engine.start() is engine
    assert torch.equal(engine.predict_chunk(frames[0], seed=0), before)
    assert engine.report.verdict is not None


def test_memory_does_not_grow(bundle: Path, frames: Frames, tmp_path: Path) -> None:
    engine = prepare(bundle, engine="fast", device="cpu", check=False, cache_dir=tmp_path)

    def many(count: int) -> None:
        for i in range(count):
            engine.predict_chunk(frames[i % 3], seed=i, num_steps=1)
            engine.begin(frames[i % 3])
            engine.finish(frames[0]["observation.state"], seed=i, num_steps=1)

    many(10)
    gc.collect()
    tracemalloc.start()
    tensors = sum(type(o) is torch.Tensor for o in gc.get_objects())
    many(5)
    before = tracemalloc.take_snapshot()
    many(100)
    gc.collect()
    grown = sum(stat.size_diff for stat in tracemalloc.take_snapshot().compare_to(before, "filename"))
    tracemalloc.stop()
    assert sum(type(o) is torch.Tensor for o in gc.get_objects()) <= tensors + 5
    # The stopwatch fills up to its fixed size: a float and a slot for each of five stages.
    assert grown < 200_000


def test_fewer_cameras_are_masked_ones(bundle: Path, policy: Policy, frames: Frames, tmp_path: Path) -> None:
    engine = prepare(bundle, engine="fast", device="cpu", cameras=["front"], frame=frames[0], cache_dir=tmp_path)
    alone = {key: value for key, value in frames[0].items() if key != "observation.images.wrist"}
    masked = {**frames[0], "observation.images.wrist_padding_mask": False}
    found = engine.predict_chunk(alone, noise(0))
    assert (found - policy.predict_chunk(masked, noise(0))).abs().max() < 1e-5
    assert (found - policy.predict_chunk(frames[0], noise(0))).abs().max() > 1e-3
    assert engine.report.cameras == ["front"]


def test_report_has_stages_and_text(engine: Engine, frames: Frames) -> None:
    engine.predict_chunk(frames[0], seed=0)
    report = engine.report
    assert report.mode == engine.settings.mode
    assert report.precision == "float32"
    assert report.memory_bytes > 1e6
    assert report.warm_up_seconds > 0
    assert set(report.latency) == {"transforms", "vision", "prefix", "denoising", "total"}
    for stage in report.latency.values():
        assert 0 < stage["p50_ms"] <= stage["p95_ms"] <= stage["p99_ms"]
    parts = sum(report.latency[name]["p50_ms"] for name in ("transforms", "vision", "prefix", "denoising"))
    assert parts < 2 * report.latency["total"]["p99_ms"]
    assert f"mode       {engine.settings.mode}, {report.backend}, float32 on cpu" in str(report)
    assert report.to_json()["verdict"]["frames"] == 1


def test_timing_the_stages_measures_them_and_leaves_the_latency_alone(engine: Engine, frames: Frames) -> None:
    engine.predict_chunk(frames[0], seed=0)
    before = engine.report.latency["total"]["count"]
    stages = engine.time_stages(frames[0], repeats=3)
    assert set(stages) == {"transforms", "vision", "prefix", "denoising", "total"}
    assert all(numbers["count"] == 3 for numbers in stages.values())
    assert engine.report.latency["total"]["count"] == before


def test_wrong_use_is_told(engine: Engine, bundle: Path, frames: Frames, tmp_path: Path) -> None:
    with pytest.raises(TransformError, match="noise of 1 frames has shape"):
        engine.predict_chunk(frames[0], torch.zeros(3, 3))
    with pytest.raises(TransformError, match="was given a list"):
        engine.predict_chunk(frames)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="num_steps is 0"):
        engine.predict_chunk(frames[0], num_steps=0)
    with pytest.raises(TransformError, match="is NaN for joint 'pan'"):
        engine.predict_chunk({**frames[0], "observation.state": torch.tensor([float("nan"), 0, 0])})
    options: Any
    for options, message in [
        ({"engine": "fsat"}, "Did you mean 'fast'"),
        ({"cameras": ["fornt"]}, "Did you mean 'front'"),
        ({"backend": "trch"}, "Did you mean 'torch'"),
        ({"precision": "int3"}, "cannot compute in 'int3'"),
        ({"num_steps": 0}, "num_steps is 0"),
        ({"max_instruction_tokens": 10_000}, "max_instruction_tokens is 10000"),
        ({"device": "cuda:99"}, "cannot be used"),
    ]:
        with pytest.raises(UsageError, match=message):
            prepare(bundle, **{"device": "cpu", "cache_dir": tmp_path, **options})


def test_the_engine_goes_by_its_old_name_for_one_version(bundle: Path, tmp_path: Path) -> None:
    options: Any = {"device": "cpu", "cache_dir": tmp_path, "check": False, "warm_up": False}
    with pytest.warns(DeprecationWarning, match=r"prepare\(mode=...\) is now prepare\(engine=...\)"):
        engine = prepare(bundle, mode="exact", **options)
    assert engine.settings.mode == "exact"
    engine.stop()
    assert prepare(bundle, engine="exact", **options).settings.mode == "exact"


def test_a_given_policy_keeps_its_weights(policy: Policy, frames: Frames, tmp_path: Path) -> None:
    before = policy.predict_chunk(frames[0], noise(0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        engine = prepare(policy, engine="fast", backend="torch", frame=frames[0], cache_dir=tmp_path)
    assert isinstance(engine._backend, FastNetwork)
    engine.stop()
    assert torch.equal(policy.predict_chunk(frames[0], noise(0)), before)
