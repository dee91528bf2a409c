"""Several datasets in one run: the batches of each, drawn by weight, one scale for all, validated one by one."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from smolpilot.common.errors import DatasetError, UsageError
from smolpilot.common.keys import ACTION
from smolpilot.datasets import Dataset, open_dataset, split_episodes
from smolpilot.datasets.read.order import Rows
from smolpilot.evaluation.offline.selection import choose_episodes
from smolpilot.smolvla import Policy, load_policy, new_policy
from smolpilot.smolvla.network.inputs import PolicyInputs
from smolpilot.training import TrainingStoppedError, TrainOptions, train
from smolpilot.training.cache.frame_cache import FrameCache, cache_spec
from smolpilot.training.data.batches import Batches
from smolpilot.training.data.mixture import Mixture
from smolpilot.training.data.run_datasets import groups_of, open_datasets
from smolpilot.training.options.sources import Source
from smolpilot.training.options.train_options import check
from smolpilot.training.run.metrics_log import read_metrics
from smolpilot.training.run.run_folder import load_config

H = 5
CPU = torch.device("cpu")
RED, BLUE = "0,2,4", "1,3,5"  # the episodes of each instruction


def options(dataset: Path, out: Path, **changes: Any) -> TrainOptions:
    sources = (
        Source(dataset, 0.25, RED, name="red"),
        Source(dataset, 0.75, BLUE, instruction="push the blue block", name="blue"),
    )
    base = TrainOptions(
        mixture=sources, out=out, preset="tiny", from_scratch=True, steps=6, batch_size=4, chunk_size=H,
        n_action_steps=H, log_every=2, eval_every=3, save_every=3, eval_frames=6, held_out=0.34, device="cpu",
    )  # fmt: skip
    return dataclasses.replace(base, **changes)


def metrics(run: Path) -> list[dict[str, Any]]:
    untimed = {"samples_per_s", "data_wait", "memory_gb"}
    return [
        {key: value for key, value in line.items() if key not in untimed}
        for line in read_metrics(run / "metrics.jsonl")
    ]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / "last" / "model.safetensors")


@pytest.fixture(scope="module")
def policy(tiny_dataset: Path) -> Policy:
    frozen = {"train_expert_only": True, "freeze_vision_encoder": True, "chunk_size": H, "n_action_steps": H}
    return new_policy("tiny", meta=open_dataset(tiny_dataset).meta, seed=3, device="cpu", overrides=frozen)


@pytest.fixture(scope="module")
def halves(tiny_dataset: Path) -> list[Dataset]:
    return [open_dataset(tiny_dataset, episodes=chosen, chunk_size=H) for chosen in ([0, 2, 4], [1, 3, 5])]


@pytest.fixture(scope="module")
def finished(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(options(tiny_dataset, tmp_path_factory.mktemp("runs") / "finished"))


def mixture(policy: Policy, halves: list[Dataset], **settings: Any) -> Mixture:
    parts = [Batches(half, policy.transforms, CPU, chunk_size=H, **settings) for half in halves]
    rows = np.arange(len(halves[0]) + len(halves[1]))
    groups = [rows[: len(halves[0])], rows[len(halves[0]) :]]
    return Mixture(parts, groups, [0.3, 0.7], workers=settings.get("workers", 0))


def same_rows(halves: list[Dataset], whole: Dataset, rows: Rows) -> Rows:
    """The rows of the undivided recording that are the rows of the two halves."""
    place = {
        (int(episode), int(frame)): row
        for row, (episode, frame) in enumerate(zip(whole.episode_index, whole.frame_index, strict=True))
    }
    episodes = np.concatenate([half.episode_index for half in halves])
    frames = np.concatenate([half.frame_index for half in halves])
    return np.array([place[int(episodes[row]), int(frames[row])] for row in rows])


def assert_equal(found: PolicyInputs, expected: PolicyInputs) -> None:
    for field in dataclasses.fields(PolicyInputs):
        left, right = getattr(found, field.name), getattr(expected, field.name)
        assert (left is None) == (right is None), field.name
        if field.name == "tokens":  # what stands behind an instruction is masked
            left, right = left * found.token_mask, right * expected.token_mask
        assert right is None or torch.equal(left, right), field.name


@pytest.mark.parametrize("memory_gb", [None, 0.0], ids=["in memory", "decoded when needed"])
def test_a_batch_equals_that_of_the_undivided_recording(
    policy: Policy, halves: list[Dataset], tiny_dataset: Path, memory_gb: float | None
) -> None:
    whole = open_dataset(tiny_dataset, chunk_size=H)
    both, one = mixture(policy, halves, memory_gb=memory_gb), Batches(whole, policy.transforms, CPU, chunk_size=H)
    assert len(both) == len(one)
    last = len(halves[0]) - 1
    for rows in ([last + 1, 3, last, 70], [0, 1], [90, 80]):
        assert_equal(both.batch(rows), one.batch(same_rows(halves, whole, np.array(rows))))


def test_loader_processes_give_the_same_stream(policy: Policy, halves: list[Dataset]) -> None:
    kept, decoded = mixture(policy, halves), mixture(policy, halves, memory_gb=0.0, workers=2)
    order = kept.order(4, 5)
    streams = [list(both.stream(order, 3, 8)) for both in (kept, decoded)]
    assert [len(stream) for stream in streams] == [5, 5]
    for left, right in zip(*streams, strict=True):
        assert_equal(left, right)


@pytest.mark.parametrize("kind", ["prefix", "vision"])
def test_a_frame_cache_gives_the_same_loss(policy: Policy, halves: list[Dataset], tmp_path: Path, kind: Any) -> None:
    def cache(own: Batches, rows: Rows) -> FrameCache:
        spec = cache_spec(policy, kind, own.plans, own.token_width, None)
        made = FrameCache(policy, own.dataset, own.plans, rows, spec, own.uncached, tmp_path)
        made.build()
        return made

    plain, cached = mixture(policy, halves), mixture(policy, halves, cache=cache)
    rows = [3, 90, 45, len(halves[0])]
    noise = torch.randn(4, H, 32, generator=torch.Generator().manual_seed(1))
    when = torch.tensor([0.1, 0.4, 0.6, 0.9])
    inputs = cached.batch(rows)
    # The instructions differ in length, so one part's keys and values were padded.
    assert inputs.context is not None if kind == "prefix" else inputs.image_tokens is not None
    losses = [policy.model.loss(batch, noise, when).item() for batch in (plain.batch(rows), inputs)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_a_run_says_what_it_drew_and_how_it_does_on_each(finished: Path, tiny_dataset: Path) -> None:
    last = [line for line in metrics(finished) if line["kind"] == "validation"][-1]
    assert set(last["tasks"]) == {"red", "blue"}
    assert last["score"] == pytest.approx(np.mean([task["score"] for task in last["tasks"].values()]))
    assert last["mae"]["pan"] == pytest.approx(np.mean([task["mae"]["pan"] for task in last["tasks"].values()]))
    policy = load_policy(finished / "checkpoints" / "last")
    assert policy.instructions == ["touch the red block", "push the blue block"]
    red, blue = policy.lineage["mixture"]
    assert (red["share"], blue["share"]) == (0.25, 0.75)
    assert blue["instruction"] == "push the blue block"
    meta = open_dataset(tiny_dataset).meta
    expected = split_episodes(meta, held_out=0.34, seed=0, episodes=[1, 3, 5])
    assert (blue["trained_episodes"], blue["held_out_episodes"]) == expected
    # `smolpilot eval --episodes held-out` finds them all the same.
    seen = choose_episodes("all", meta, policy.lineage).trained_on
    assert seen == sorted(red["trained_episodes"] + blue["trained_episodes"])


def test_one_scale_covers_all_datasets(finished: Path, tiny_dataset: Path) -> None:
    actions = open_dataset(tiny_dataset).actions.astype(np.float64)
    found = load_policy(finished / "checkpoints" / "last").statistics[ACTION]
    np.testing.assert_allclose(found["mean"], actions.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(found["std"], actions.std(axis=0), atol=1e-6)


def test_the_runs_config_is_read_back_whole(finished: Path) -> None:
    saved = load_config(finished)
    assert [source.weight for source in saved.mixture] == [0.25, 0.75]
    assert saved.mixture[1].instruction == "push the blue block"
    assert all(source.dataset.is_absolute() for source in saved.mixture)


def test_a_resumed_run_equals_an_uninterrupted_one(
    finished: Path, tiny_dataset: Path, tmp_path: Path, interrupted_after: Callable[..., AbstractContextManager[None]]
) -> None:
    with interrupted_after(4), pytest.raises(TrainingStoppedError, match="after step 4 of 6"):
        train(options(tiny_dataset, tmp_path / "run"))
    run = train(TrainOptions(out=tmp_path / "run", resume=True))
    expected, found = weights(finished), weights(run)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert metrics(run) == metrics(finished)


def test_a_decoded_mixture_in_local_order_resumes(
    tiny_dataset: Path, tmp_path: Path, interrupted_after: Callable[..., AbstractContextManager[None]]
) -> None:
    local = {"order": "local", "frames_gb": 0.0, "workers": 0, "eval_every": 6}
    whole = train(options(tiny_dataset, tmp_path / "whole", **local))
    with interrupted_after(4), pytest.raises(TrainingStoppedError, match="after step 4 of 6"):
        train(options(tiny_dataset, tmp_path / "run", **local))
    run = train(TrainOptions(out=tmp_path / "run", resume=True))
    expected, found = weights(whole), weights(run)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert metrics(run) == metrics(whole)


def test_a_changed_dataset_is_not_gone_on_with(finished: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    import shutil

    run, other = tmp_path / "run", tmp_path / "other"
    shutil.copytree(finished, run, symlinks=True)
    shutil.copytree(tiny_dataset, other)
    info = json.loads((other / "meta" / "info.json").read_text())
    (other / "meta" / "info.json").write_text(json.dumps(info | {"robot_type": "another"}))
    text = (run / "config.yaml").read_text().replace(f"{tiny_dataset}\n  weight: 0.75", f"{other}\n  weight: 0.75")
    assert str(other) in text
    (run / "config.yaml").write_text(text)
    with pytest.raises(DatasetError, match=f"{other} is not the one the run began with"):
        train(TrainOptions(out=run, resume=True))


def test_tasks_are_balanced_within_weighted_datasets_and_across_unweighted_ones(tiny_dataset: Path) -> None:
    def groups(*sources: Source, balance: str) -> tuple[list[int], list[float]]:
        parts = open_datasets(sources, held_out=0.0, seed=0, notes=[])
        rows, shares = groups_of(parts, balance)
        covered = np.concatenate(rows)
        assert sorted(covered.tolist()) == list(range(sum(len(part.train) for part in parts)))
        return [len(group) for group in rows], (np.array(shares) / np.sum(shares)).tolist()

    # Episodes have 18 to 23 frames; those with an even number are red.
    first, second = Source(tiny_dataset, episodes="0,1,2"), Source(tiny_dataset, episodes="3-5")
    sizes, shares = groups(first, second, balance="frames")
    assert sizes == [57, 66]
    assert shares == pytest.approx([57 / 123, 66 / 123])
    sizes, shares = groups(first, second, balance="tasks")
    assert sizes == [38, 19, 44, 22]  # red, blue; blue, red
    assert shares == pytest.approx([0.5 * 38 / 60, 0.5 * 19 / 63, 0.5 * 44 / 63, 0.5 * 22 / 60])
    weighed = [dataclasses.replace(first, weight=1.0), dataclasses.replace(second, weight=3.0)]
    assert groups(*weighed, balance="tasks")[1] == pytest.approx([0.125, 0.125, 0.375, 0.375])


def test_balanced_tasks_of_one_dataset(tiny_dataset: Path, tmp_path: Path) -> None:
    run = train(
        dataclasses.replace(
            options(tiny_dataset, tmp_path / "run"), mixture=(), dataset=tiny_dataset, balance="tasks", steps=2
        )
    )
    state = json.loads((run / "checkpoints" / "last" / "training_state" / "state.json").read_text())
    assert state["sampler"]["weights"] == [0.5, 0.5]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": Path("x")}, "exclude each other"),
        ({"episodes": "0-3"}, "--episodes belongs to --dataset"),
        ({"mixture": (Source(Path("a"), 1.0), Source(Path("b")))}, "some of its datasets only"),
        ({"mixture": (Source(Path("a"), -1.0), Source(Path("b"), 2.0))}, "--mixture.weight is -1.0"),
        ({"mixture": (Source(Path("a")), Source(Path("a")))}, "same episodes of a dataset twice"),
        ({"norm_stats_file": Path("s.json"), "norm_stats": "dataset"}, "--norm-stats-file excludes"),
    ],
)
def test_contradictory_options_are_refused(tiny_dataset: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check(dataclasses.replace(options(tiny_dataset, Path("out")), **changes))


def test_an_episode_held_out_here_and_trained_on_there_is_refused(tiny_dataset: Path) -> None:
    sources = (Source(tiny_dataset, episodes="0-3"), Source(tiny_dataset, episodes="2-5"))
    with pytest.raises(UsageError, match=r"is held out of “tiny .2.” and trained on in “tiny .1.”"):
        open_datasets(sources, held_out=0.5, seed=0, notes=[])
