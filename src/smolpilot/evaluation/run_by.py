"""What computes the chunks of an evaluation: the plain network, or the engine in a mode."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from smolpilot.errors import UsageError
from smolpilot.waiting import working

from .policy_frames import CALIBRATION_FRAMES, recorded_frames
from .selection import choose_episodes

if TYPE_CHECKING:
    from smolpilot.datasets import Dataset
    from smolpilot.inference import Engine
    from smolpilot.policy import Policy

    from .options import EngineMode


@working("preparing the engine")
def run_by(
    policy: Policy, engine: EngineMode, recording: Path | Dataset | None = None, units: Mapping[str, str] | None = None
) -> Policy | Engine:
    """The policy itself, or an engine that runs it; int8 is calibrated on frames spread over `recording`."""
    if engine == "plain":
        return policy
    from smolpilot.inference import prepare

    frames = []
    if engine == "int8" and recording is not None:
        frames = recorded_frames(policy, recording, CALIBRATION_FRAMES, units=units)
    return prepare(policy, mode=engine, calibration=frames)


def unscored(policy: Policy, dataset: Dataset, episodes: str) -> Dataset:
    """The episodes that an evaluation on `episodes` leaves out, to calibrate on; UsageError where there are none."""
    scored = set(choose_episodes(episodes, dataset.meta, policy.lineage).episodes)
    others = [episode.index for episode in dataset.meta.episodes if episode.index not in scored]
    if not others:
        raise UsageError(
            "--engine int8 is calibrated on recorded frames, and every episode of this dataset is scored.",
            fix="name another recording of this robot (--calibrate-on DIR), or score fewer episodes (--episodes)",
        )
    return dataset.select(others)
