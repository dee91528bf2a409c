"""Offline evaluation: a new chunk at every scored frame, compared with the recorded actions in robot units."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from smolpilot.common.errors import NotFiniteError
from smolpilot.common.json_input import to_plain
from smolpilot.common.machine import device_name, machine_facts
from smolpilot.contracts import UntrainedInstructionWarning
from smolpilot.evaluation.checked_policy import checked_chunks, seed_of
from smolpilot.evaluation.metrics import chunk_targets
from smolpilot.evaluation.predictions import F32, Ints, Predictions
from smolpilot.evaluation.provenance import describe_policy, instruction_warnings, rate_warnings
from smolpilot.evaluation.timing.latency import measure_latency

from .dataset_adapter import DatasetAdapter, adapt
from .metrics_document import summarize
from .policy_frames import RobotFrames
from .selection import HELD_OUT, Split, choose_episodes, choose_rows

if TYPE_CHECKING:
    from smolpilot.contracts import Policy, PolicySpec
    from smolpilot.datasets import Dataset


Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Evaluation:
    """The measured chunks and the metrics document made from them."""

    scored: Predictions
    document: dict[str, Any]


def evaluate(
    policy: Policy,
    dataset: Dataset,
    episodes: str = HELD_OUT,
    *,
    every: int = 1,
    max_frames: int | None = None,
    seed: int = 0,
    batch_size: int = 16,
    units: Mapping[str, str] | None = None,
    robot: str | None = None,
    latency: bool = True,
    progress: Progress | None = None,
) -> Evaluation:
    """Score a policy on `episodes` of `dataset`: `held-out`, `all` or a list (`0,3,7-9`).

    What is drawn for a frame depends on `seed` and the frame alone, so batch size does not change a number beyond
    rounding. `units` and `robot` as in `adapt`. Raises UsageError for episodes that are unknown, ProfileError and
    TransformError for a dataset whose joints or cameras do not fit the policy.
    """
    split = choose_episodes(episodes, dataset.meta, policy.spec.facts.lineage)
    adapter = adapt(policy, dataset.meta, units, robot=robot)
    frames = RobotFrames(dataset.select(split.episodes), adapter, policy.spec)
    rows = choose_rows(frames.dataset.episode_index, frames.dataset.frame_index, every, max_frames)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UntrainedInstructionWarning)  # the document says it
        predicted = _predict(policy, frames, rows, seed, batch_size, progress)
        scored = _collect(policy.spec, frames, rows, predicted)
        document = summarize(scored)
        document["latency"] = None
        if latency and not document["verdict"]["fails"]:
            measured = measure_latency(policy, frames.observation(int(rows[0])))
            document["latency"] = measured | {"device": device_name(policy.spec.facts.device)}
    spec = policy.spec  # as it stands after the work: an engine may have fallen back on the way
    settings = {
        "every": every,
        "max_frames": max_frames,
        "seed": seed,
        "batch_size": batch_size,
        "denoising_steps": spec.facts.num_steps,
    }
    document |= _provenance(spec, dataset, split, settings, adapter)
    document["warnings"] += [*spec.facts.warnings, *instruction_warnings(spec, scored.instructions.values())]
    document["warnings"] += rate_warnings(spec, dataset.meta.fps)
    if split.trained_on:
        document["warnings"].append(
            f"{len(split.trained_on)} of the {len(split.episodes)} scored episodes were trained on: their errors say "
            "how well the policy remembers, not how well it generalizes."
        )
    return Evaluation(scored, to_plain(document))


def _predict(
    policy: Policy, frames: RobotFrames, rows: Ints, seed: int, batch_size: int, progress: Progress | None
) -> F32:
    """Chunks [N, H, A] of the scored rows; frames are decoded in order."""
    spec, dataset = policy.spec, frames.dataset
    predicted = np.empty((len(rows), spec.chunk_size, len(frames.adapter.joints)), dtype=np.float32)
    policy.reset()
    for start in range(0, len(rows), batch_size):
        batch = [int(row) for row in rows[start : start + batch_size]]
        seeds = [seed_of(seed, int(dataset.episode_index[row]), int(dataset.frame_index[row])) for row in batch]
        try:
            chunks = checked_chunks(policy, [frames.observation(row) for row in batch], seeds)
            predicted[start : start + len(batch)] = chunks
        except NotFiniteError:  # the report says that the policy fails
            predicted[start : start + len(batch)] = np.nan
        if progress is not None:
            progress("predicting", start + len(batch), len(rows))
    return predicted


def _collect(spec: PolicySpec, frames: RobotFrames, rows: Ints, predicted: F32) -> Predictions:
    adapter, dataset, episode_index = frames.adapter, frames.dataset, frames.dataset.episode_index
    actions = adapter.action.forward(dataset.actions)
    target, is_pad = chunk_targets(actions, episode_index, rows, spec.chunk_size)
    return Predictions(
        predicted=predicted,
        target=target,
        is_pad=is_pad,
        hold=adapter.hold(frames.states[rows]),
        mean_action=adapter.mean_action,
        trained_span=adapter.trained_span,
        episode_index=episode_index[rows],
        frame_index=dataset.frame_index[rows],
        recorded=actions,
        recorded_episode=episode_index,
        recorded_frame=dataset.frame_index,
        joints=adapter.joints,
        units=adapter.units,
        limits=adapter.limits,
        fps=dataset.meta.fps,
        execution_horizon=spec.n_action_steps,
        instructions={
            int(episode_index[row]): dataset.instruction(int(row))
            for row in np.flatnonzero(np.diff(episode_index, prepend=-1))
        },
    )


def _provenance(
    spec: PolicySpec, dataset: Dataset, split: Split, settings: dict[str, Any], adapter: DatasetAdapter
) -> dict[str, Any]:
    meta = dataset.meta
    return {
        "bundle": describe_policy(spec),
        "dataset": {
            "path": str(meta.root),
            "fingerprint": meta.fingerprint,
            "version": meta.version,
            "robot": meta.robot_type,
            "frames_per_second": meta.fps,
            "episodes": len(meta.episodes),
            "frames": meta.total_frames,
            "cameras": adapter.cameras,
        },
        "split": asdict(split),
        "settings": settings,
        "machine": machine_facts(spec.facts.device),
    }
