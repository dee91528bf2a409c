"""The frame cache: the same loss and gradients from disk, names made of contents, damage noticed, misuse refused."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from smolpilot.common.errors import TrainingError, UsageError
from smolpilot.datasets import open_dataset
from smolpilot.smolvla import Policy, load_policy, new_policy, save_bundle
from smolpilot.training import TrainOptions, train
from smolpilot.training.cache import frame_cache
from smolpilot.training.cache.block_store import BlockStore
from smolpilot.training.cache.choice import quantization_error
from smolpilot.training.cache.frame_cache import FrameCache, Kind, cache_spec
from smolpilot.training.cache.offload import idle_parts, offload
from smolpilot.training.data.augment import Augmentation
from smolpilot.training.data.batches import Batches
from smolpilot.training.data.sample_rng import SampleRng
from smolpilot.training.run.metrics_log import read_metrics

from ...smolvla.helpers_new_transforms import Politely, UpsideDown, with_extra

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
        spec = cache_spec(policy, kind, own.plans, own.token_width, more.get("dtype"), more.get("views", 1))
        change = Augmentation(more["augment"], SampleRng(more.get("seed", 0))) if "augment" in more else None
        made.append(FrameCache(policy, own.dataset, own.plans, rows, spec, own.uncached, folder, change))
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
        path.write_bytes({"torn": bytes(content[:-10]), "flipped": bytes(content), "empty": b""}[damage])
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


@pytest.mark.parametrize(
    ("kind", "size", "names"),
    [
        ("vision", 64, ["11c4133eea7a5676d25c0e2c083688d2", "bbda97645bf033245017097c934f085b"]),
        ("vision", 48, ["592469aa041d8231e2e951ed47d1ab79", "233f8a6e7b2ff7aec54b692485c7e3a6"]),
        ("prefix", 64, ["62675006d4a1e1ee0e9d160398f5641a", "afba1146e709cd494e8eb44418871b9c"]),
        ("prefix", 48, ["2c1b47d538b9e14b43761235a4e62da9", "6100557e84a5a8b628e55bc3282b8407"]),
    ],
)
def test_caches_of_earlier_versions_are_found(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Kind, size: int, names: list[str]
) -> None:
    """Names of blocks as version 0.1 made them; only weights and videos stand still here."""
    monkeypatch.setattr(frame_cache, "known_digest", lambda path: f"digest of {path.name}")
    own = new_policy(
        "tiny", meta=open_dataset(tiny_dataset).meta, seed=3, device="cpu",
        overrides={"chunk_size": H, "n_action_steps": H, "resize_imgs_with_padding": (size, size)},
    )  # fmt: skip
    with torch.no_grad():
        for parameter in own.model.parameters():
            parameter.fill_(0.5)
    _, plain = batches(own, tiny_dataset, kind, tmp_path, views=2)
    _, changed = batches(own, tiny_dataset, kind, tmp_path, views=2, augment={"crop": 1.0}, seed=7)
    assert plain is not None
    assert changed is not None
    assert [plain._name((0, 0)), changed._name((1, 3))] == names


def test_a_new_transform_of_pictures_has_blocks_of_its_own(policy: Policy, tiny_dataset: Path, tmp_path: Path) -> None:
    changed = with_extra(policy, UpsideDown("front"))
    own, cache = batches(changed, tiny_dataset, "vision", tmp_path, episodes=[1])
    names = []
    for other in (policy, with_extra(policy, UpsideDown("wrist")), with_extra(policy, Politely())):
        made = batches(other, tiny_dataset, "vision", tmp_path, episodes=[1])[1]
        assert made is not None
        names.append(made._name((0, 0)))
    assert cache is not None
    assert len({cache._name((0, 0)), *names}) == 3
    assert names[0] == names[2], "words change no picture"
    cache.build()
    inputs = changed.transforms.inputs([{k: v for k, v in own.dataset[3].items() if k != "action"}])
    expected = policy.model.embed_images(inputs.images[:, :2].flatten(0, 1))
    torch.testing.assert_close(cache.fields(np.array([3]), CPU)["image_tokens"][0], expected, rtol=1e-4, atol=1e-5)


def test_a_transform_that_does_not_say_what_it_depends_on_is_not_cached(
    policy: Policy, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(UpsideDown, "spec", lambda self: None)
    with pytest.raises(UsageError, match=r"'upside_down' cannot be cached[\s\S]*implement UpsideDown.spec"):
        batches(with_extra(policy, UpsideDown("front")), tiny_dataset, "vision", tmp_path)


def test_a_coarser_cache_is_near_and_half_as_large(policy: Policy, tiny_dataset: Path, tmp_path: Path) -> None:
    plain, _ = batches(policy, tiny_dataset, None, tmp_path)
    coarse, cache = batches(policy, tiny_dataset, "prefix", tmp_path, dtype="bfloat16")
    assert cache is not None
    cache.build()
    assert cache.spec.gigabytes(10) * 2 == cache_spec(policy, "prefix", plain.plans, plain.token_width).gigabytes(10)
    left, right = plain.batch([5, 60]), coarse.batch([5, 60])
    assert right.context is not None
    assert right.context.dtype == torch.float32
    noise = torch.zeros(2, H, 32)
    apart = (policy.model.sample(left, noise) - policy.model.sample(right, noise)).abs().max()
    assert 0 < float(apart) < 0.05


@pytest.mark.parametrize("kind", ["vision", "prefix"])
@pytest.mark.parametrize(("dtype", "bound"), [("bfloat16", 3e-3), ("fp8", 4e-2), ("int8", 1e-2)])
def test_coarser_numbers_are_smaller_and_their_error_is_measured(
    policy: Policy, tiny_dataset: Path, tmp_path: Path, kind: Kind, dtype: Any, bound: float
) -> None:
    coarse, cache = batches(policy, tiny_dataset, kind, tmp_path, dtype=dtype)
    exact, full = batches(policy, tiny_dataset, kind, tmp_path)
    assert cache is not None
    assert full is not None
    cache.build()
    full.build()
    rows = np.arange(len(coarse))
    found = quantization_error(cache, coarse, rows)
    assert 0 < found.tensor_error < bound
    assert 0 < found.loss_error < bound
    assert 0 < found.action_error < 10 * bound
    assert cache.spec.gigabytes(1) < full.spec.gigabytes(1) * (0.51 if dtype == "bfloat16" else 0.4)
    stored = sum(path.stat().st_size - 4096 for path in tmp_path.rglob("*.block"))
    assert stored == pytest.approx(1e9 * (cache.spec.gigabytes(len(rows)) + full.spec.gigabytes(len(rows))))
    exactly = quantization_error(full, exact, rows)
    assert exactly.tensor_error < 1e-6
    assert exactly.loss_error < 1e-6


def test_each_view_is_another_picture_of_the_frame_and_the_same_in_every_run(
    policy: Policy, tiny_dataset: Path, tmp_path: Path
) -> None:
    kinds = {"crop": 1.0, "color": 1.0}
    own, cache = batches(policy, tiny_dataset, "vision", tmp_path / "a", augment=kinds, views=3)
    _, again = batches(policy, tiny_dataset, "vision", tmp_path / "b", augment=kinds, views=3)
    assert cache is not None
    assert again is not None
    assert cache.build() == again.build() == 18
    assert {path.name for path in (tmp_path / "a").rglob("*.block")} == {
        path.name for path in (tmp_path / "b").rglob("*.block")
    }
    rows = np.array([3, 50, 77])
    views = [cache.fields(rows, CPU, np.full(3, view))["image_tokens"] for view in range(3)]
    for view in range(3):
        inputs = cache.exact(rows, view)
        expected = policy.model.embed_images(inputs.images[:, :2].flatten(0, 1)).reshape(views[view].shape)
        torch.testing.assert_close(views[view], expected, rtol=1e-4, atol=1e-5)
        assert torch.equal(views[view], again.fields(rows, CPU, np.full(3, view))["image_tokens"])
        assert not torch.equal(inputs.images[:, 0], cache.exact(rows, (view + 1) % 3).images[:, 0])
    places = np.arange(30, 33)
    assert cache._augmentation is not None
    drawn = cache._augmentation.rng.views(places, 3)
    batch = own.batch(rows, places)
    assert batch.image_tokens is not None
    for number, view in enumerate(drawn):
        assert torch.equal(batch.image_tokens[number], views[view][number])


@pytest.mark.parametrize("change", [{"seed": 5}, {"augment": {"crop": 0.9}}, {"views": 4}, {}])
def test_views_are_named_by_how_they_were_changed(
    policy: Policy, tiny_dataset: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    first = {"augment": {"crop": 1.0}, "views": 2, "episodes": [1]}
    caches = [batches(policy, tiny_dataset, "vision", tmp_path, **first)[1]]
    caches.append(batches(policy, tiny_dataset, "vision", tmp_path, **(first | change))[1])
    plain = batches(policy, tiny_dataset, "vision", tmp_path, episodes=[1])[1]
    computed = [cache.build() for cache in (*caches, plain) if cache is not None]
    # More views of the same frames share those that are there.
    assert computed == [2, {"seed": 2, "augment": 2, "views": 2}.get(next(iter(change), ""), 0), 1]


def test_two_processes_build_one_cache_together(parent: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    """Each block is computed by one of them; both end with a whole cache; nothing is left claimed."""
    program = tmp_path / "build.py"
    program.write_text(
        "import sys\nfrom pathlib import Path\nimport numpy as np, torch\n"
        "from smolpilot.datasets import open_dataset\nfrom smolpilot.smolvla import load_policy\n"
        "from smolpilot.training.data.batches import Batches\n"
        "from smolpilot.training.cache.frame_cache import FrameCache, cache_spec\n"
        "torch.set_num_threads(1)\n"
        "policy = load_policy(sys.argv[1], device='cpu', dtype='float32')\n"
        "def cache(own, rows):\n"
        "    spec = cache_spec(policy, 'prefix', own.plans, own.token_width)\n"
        "    made = FrameCache(policy, own.dataset, own.plans, rows, spec, own.uncached, Path(sys.argv[3]))\n"
        "    compute = made._compute\n"
        "    def slow(*given):\n"
        "        import time; time.sleep(0.3); return compute(*given)\n"
        "    made._compute = slow\n"
        "    print('ready', flush=True); sys.stdin.readline()\n"
        "    print(made.build(int(sys.argv[4])), flush=True)\n"
        "    return made\n"
        "data = open_dataset(Path(sys.argv[2]), chunk_size=5)\n"
        "own = Batches(data, policy.transforms, torch.device('cpu'), chunk_size=5, cache=cache)\n"
        "print(float(own.batch(np.arange(len(data))).context.double().sum()))\n"
    )
    folder = tmp_path / "cache"
    processes = [
        subprocess.Popen(
            [sys.executable, str(program), str(parent), str(tiny_dataset), str(folder), str(turn)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for turn in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    ended = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], ended
    counts, sums = zip(*(text.split() for text, _ in ended), strict=True)
    assert sum(map(int, counts)) == 6
    assert min(map(int, counts)) >= 1
    assert sums[0] == sums[1]
    assert len(list(folder.rglob("*.block"))) == 6
    assert not list(folder.rglob("*.lock"))
    assert not list(folder.rglob("*.partial"))


def test_a_killed_build_resumes_where_it_was(
    policy: Policy, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, cache = batches(policy, tiny_dataset, "vision", tmp_path)
    assert cache is not None
    ordinary, calls = FrameCache._compute, []

    def compute(self: FrameCache, *given: Any) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return ordinary(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(FrameCache, "_compute", compute)
        with pytest.raises(KeyboardInterrupt):
            cache.build()
    assert not list(tmp_path.rglob("*.lock"))
    _, again = batches(policy, tiny_dataset, "vision", tmp_path)
    assert again is not None
    assert again.build() == 4


@pytest.mark.parametrize("kind", ["vision", "prefix"])
def test_what_the_cache_stands_in_for_is_not_needed_by_any_step(
    parent: Path, tiny_dataset: Path, tmp_path: Path, kind: Kind
) -> None:
    """On the meta device a tensor has no numbers: what is parked there cannot be used."""
    own = load_policy(parent, device="cpu", dtype="float32")
    cached, cache = batches(own, tiny_dataset, kind, tmp_path)
    assert cache is not None
    cache.build()
    rows = [0, 40, 77]
    expected = gradients(own, cached.batch(rows))
    chunk = own.model.sample(cached.batch(rows), noise=torch.zeros(3, H, 32))
    sizes = sum(p.numel() * 4 for part in idle_parts(own.model, kind).values() for p in part.parameters())
    assert offload(own.model, kind, away="meta") * 1e9 >= sizes > 0
    parked = {name.split(".")[0] for name, p in own.model.named_parameters() if p.device.type == "meta"}
    assert parked == ({"vision", "connector"} if kind == "vision" else {"vision", "connector", "text"})
    found = gradients(own, cached.batch(rows))
    assert found[0] == expected[0]
    assert all(torch.equal(found[1][name], expected[1][name]) for name in expected[1])
    assert torch.equal(own.model.sample(cached.batch(rows), noise=torch.zeros(3, H, 32)), chunk)
    assert offload(own.model, kind, away="meta") == 0


def options(dataset: Path, parent: Path, out: Path, **changes: Any) -> TrainOptions:
    base = TrainOptions(
        dataset=dataset, out=out, policy=str(parent), steps=6, batch_size=24, log_every=1, eval_every=3, save_every=6,
        eval_frames=6, device="cpu",
    )  # fmt: skip
    return dataclasses.replace(base, **changes)


def test_whole_runs_with_and_without_cache_agree(
    tiny_dataset: Path, parent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
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
    tiny_dataset: Path, parent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "cache"
    train(options(tiny_dataset, parent, tmp_path / "a", steps=1, batch_size=2, cache_dir=folder))
    train(options(tiny_dataset, parent, tmp_path / "b", cache_dir=folder, train_expert_only=False))
    train(options(tiny_dataset, parent, tmp_path / "c", cache_dir=folder, augment={"crop": 0.5}))
    assert not folder.exists()
    said = capsys.readouterr().out
    assert "cache: vision" not in said
    assert "cache: none, --augment changes the images every time (--cache-views 8 keeps" in said


def test_a_run_with_cached_views_and_coarse_numbers_is_exact_to_resume_and_validates_exactly(
    tiny_dataset: Path, parent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "cache"
    changes = {"cache_dir": folder, "augment": {"crop": 0.8}, "cache_views": 2, "batch_size": 4, "save_every": 3}
    run = train(options(tiny_dataset, parent, tmp_path / "run", cache_dtype="int8", **changes))
    said = capsys.readouterr().out
    assert "2 changed views of each frame" in said
    assert "cache: int8 changes cached tensors by" in said
    facts = load_policy(run / "checkpoints" / "last").lineage["cache"]
    assert facts["dtype"] == "int8"
    assert 0 < facts["tensor_error"] < 0.02
    # One learning-rate step too small to matter: then both validate the parent, on exact and unchanged frames.
    still = {"lr": 1e-30, "steps": 1, "batch_size": 64, "eval_every": 1}
    ours = train(options(tiny_dataset, parent, tmp_path / "a", **(changes | still), cache_dtype="int8"))
    plain = train(options(tiny_dataset, parent, tmp_path / "b", cache="prefix", cache_dir=folder, **still))
    scores = [
        [line["score"] for line in read_metrics(where / "metrics.jsonl") if line["kind"] == "validation"]
        for where in (ours, plain)
    ]
    assert scores[0] == scores[1]
    shutil.copytree(run, tmp_path / "again", symlinks=True)
    shutil.rmtree(tmp_path / "again" / "checkpoints" / "step_000006")
    train(TrainOptions(out=tmp_path / "again", resume=True))
    left, right = (
        load_file(where / "checkpoints" / "last" / "model.safetensors") for where in (run, tmp_path / "again")
    )
    assert all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"cache_views": 2}, "no image is changed"), ({"cache_views": 0, "augment": {"crop": 0.5}}, "--cache-views"),
     ({"cache_views": 2, "augment": {"crop": 0.5}, "train_expert_only": False}, "model is trained")],
)  # fmt: skip
def test_views_that_cannot_be_are_refused(
    tiny_dataset: Path, parent: Path, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        train(options(tiny_dataset, parent, tmp_path / "run", **changes))


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
    with pytest.raises(TrainingError, match=r"to spare in .*, 1 MB are free"):
        train(options(tiny_dataset, parent, tmp_path / "run", cache="prefix", cache_dir=tmp_path / "cache"))
    assert not list((tmp_path / "cache").rglob("*.block"))


def test_store_refuses_another_shape(tmp_path: Path) -> None:
    store = BlockStore(tmp_path, (2, 3), torch.bfloat16)
    block = torch.randn(4, 2, 3).bfloat16()
    store.write("abcd", block)
    found = store.read("abcd", 4)
    assert found is not None
    assert torch.equal(found, block)
    again = store.read("abcd", 3)
    assert again is None or len(again) == 4  # opened already
    assert BlockStore(tmp_path, (2, 3), torch.bfloat16).read("abcd", 3) is None
    with pytest.raises(ValueError, match="a block of"):
        store.write("abcd", block.float())
