"""Offline evaluation: a new chunk at every scored frame, compared with the recording in robot units."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from smolpilot.errors import NotFiniteError
from smolpilot.keys import STATE, TASK, image_key
from smolpilot.metrics import chunk_targets
from smolpilot.policy.instruction import UntrainedInstructionWarning

from .binding import Binding, bind
from .latency import measure_latency
from .machine import device_name, machine
from .origin import describe_policy, engine_warnings, instruction_warnings, rate_warnings
from .scored import F32, Ints, Scored
from .selection import HELD_OUT, Split, choose_episodes, choose_rows
from .summary import plain, summarise

if TYPE_CHECKING:
    import torch

    from smolpilot.datasets import Dataset
    from smolpilot.inference import Engine
    from smolpilot.policy import Policy

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Evaluation:
    """The measured chunks and the metrics document made from them."""

    scored: Scored
    document: dict[str, Any]


def evaluate(
    policy: Policy | Engine,
    dataset: Dataset,
    episodes: str = HELD_OUT,
    *,
    every: int = 1,
    max_frames: int | None = None,
    seed: int = 0,
    batch_size: int = 16,
    num_steps: int | None = None,
    units: Mapping[str, str] | None = None,
    robot: str | None = None,
    latency: bool = True,
    progress: Progress | None = None,
) -> Evaluation:
    """Score a policy, or an engine that runs it, on `episodes` of `dataset`: `held-out`, `all` or a list (`0,3,7-9`).

    The noise of a frame depends on `seed` and the frame alone, so batch size does not change a number beyond
    rounding. `units` and `robot` as in `bind`. Raises UsageError for episodes that are unknown, ProfileError and
    TransformError for a dataset whose joints or cameras do not fit the policy.
    """
    split = choose_episodes(episodes, dataset.meta, policy.lineage)
    bound = bind(policy, dataset.meta, units, robot=robot)
    recording = _Recording(dataset.select(split.episodes), bound)
    rows = choose_rows(recording.episode_index, recording.frame_index, every, max_frames)
    with _denoising_steps(policy, num_steps), warnings.catch_warnings():
        warnings.simplefilter("ignore", UntrainedInstructionWarning)  # the document says it
        predicted = _predict(policy, recording, rows, seed, batch_size, progress)
        scored = _collect(policy, recording, rows, predicted)
        document = summarise(scored)
        document["latency"] = None
        if latency and not document["verdict"]["fails"]:
            measured = measure_latency(policy, recording.frame(int(rows[0])))
            document["latency"] = measured | {"device": device_name(policy.device)}
    settings = {
        "every": every,
        "max_frames": max_frames,
        "seed": seed,
        "batch_size": batch_size,
        "denoising_steps": num_steps or policy.config.num_steps,
    }
    document |= _origin(policy, dataset, split, settings, bound)
    document["warnings"] += engine_warnings(policy) + instruction_warnings(policy, scored.instructions.values())
    document["warnings"] += rate_warnings(policy, dataset.meta.fps)
    if split.trained_on:
        document["warnings"].append(
            f"{len(split.trained_on)} of the {len(split.episodes)} scored episodes were trained on: their errors say "
            "how well the policy remembers, not how well it generalises."
        )
    return Evaluation(scored, plain(document))


@contextmanager
def _denoising_steps(policy: Policy | Engine, num_steps: int | None) -> Iterator[None]:
    """The policy with another number of denoising steps, for chunks and queue pops alike."""
    if num_steps is None:
        yield
        return
    before, policy.num_steps = policy.num_steps, num_steps
    try:
        yield
    finally:
        policy.num_steps = before


class _Recording:
    """The chosen episodes as the robot would hand them over: its joint order and units, its cameras."""

    def __init__(self, dataset: Dataset, bound: Binding) -> None:
        self.dataset, self.bound = dataset, bound
        self.states: F32 = bound.state.forward(dataset.states)
        self.actions: F32 = bound.action.forward(dataset.actions)
        self.episode_index, self.frame_index = dataset.episode_index, dataset.frame_index

    def frame(self, row: int) -> dict[str, Any]:
        """One frame with LeRobot's keys."""
        images = self.dataset.images(row)
        return {
            STATE: self.states[row],
            **{image_key(camera): images[camera] for camera in self.bound.cameras},
            TASK: self.dataset.instruction(row),
        }

    def seed(self, row: int, seed: int) -> int:
        """A seed of the frame's own, 63 bits."""
        key = [seed, int(self.episode_index[row]), int(self.frame_index[row])]
        return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _predict(
    policy: Policy | Engine,
    recording: _Recording,
    rows: Ints,
    seed: int,
    batch_size: int,
    progress: Progress | None,
) -> F32:
    """Chunks [N, H, A] of the scored rows; frames are decoded in order."""
    horizon, width = policy.config.chunk_size, len(recording.bound.joints)
    predicted = np.empty((len(rows), horizon, width), dtype=np.float32)
    for start in range(0, len(rows), batch_size):
        batch = [int(row) for row in rows[start : start + batch_size]]
        frames = [recording.frame(row) for row in batch]
        noise = _noise(policy, [recording.seed(row, seed) for row in batch])
        try:
            predicted[start : start + len(batch)] = policy.predict_chunks(frames, noise=noise).numpy()
        except NotFiniteError:  # the report says that the policy fails
            predicted[start : start + len(batch)] = np.nan
        if progress is not None:
            progress("predicting", start + len(batch), len(rows))
    return predicted


def _noise(policy: Policy | Engine, seeds: list[int]) -> torch.Tensor:
    """Starting noise [B, H, max_action_dim], each frame's from a generator of its own."""
    import torch

    shape = (policy.config.chunk_size, policy.config.max_action_dim)
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def _collect(policy: Policy | Engine, recording: _Recording, rows: Ints, predicted: F32) -> Scored:
    bound, dataset, episode_index = recording.bound, recording.dataset, recording.episode_index
    target, is_pad = chunk_targets(recording.actions, episode_index, rows, policy.config.chunk_size)
    return Scored(
        predicted=predicted,
        target=target,
        is_pad=is_pad,
        hold=bound.hold(recording.states[rows]),
        mean_action=bound.mean_action,
        trained_span=bound.trained_span,
        episode_index=episode_index[rows],
        frame_index=recording.frame_index[rows],
        recorded=recording.actions,
        recorded_episode=episode_index,
        recorded_frame=recording.frame_index,
        joints=bound.joints,
        units=bound.units,
        limits=bound.limits,
        fps=dataset.meta.fps,
        execution_horizon=policy.n_action_steps,
        instructions={
            int(episode_index[row]): dataset.instruction(int(row))
            for row in np.flatnonzero(np.diff(episode_index, prepend=-1))
        },
    )


def _origin(
    policy: Policy | Engine, dataset: Dataset, split: Split, settings: dict[str, Any], bound: Binding
) -> dict[str, Any]:
    meta = dataset.meta
    return {
        "bundle": describe_policy(policy),
        "dataset": {
            "path": str(meta.root),
            "fingerprint": meta.fingerprint,
            "version": meta.version,
            "robot": meta.robot_type,
            "frames_per_second": meta.fps,
            "episodes": len(meta.episodes),
            "frames": meta.total_frames,
            "cameras": bound.cameras,
        },
        "split": {
            "requested": split.requested,
            "episodes": split.episodes,
            "trained_on": split.trained_on,
            "text": split.text,
        },
        "settings": settings,
        "machine": machine(policy.device),
    }
