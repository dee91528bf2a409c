"""The recorded frames on which an engine's 8-bit mode is calibrated: never those that are scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from smolpilot.common.errors import UsageError

from .policy_frames import CALIBRATION_FRAMES, recorded_frames
from .selection import choose_episodes

if TYPE_CHECKING:
    from smolpilot.contracts import Observation, Policy, PolicySpec
    from smolpilot.datasets import Dataset

type Calibration = Callable[[Policy], Sequence[Observation]]


def frames_of(recording: Path | Dataset, units: Mapping[str, str] | None = None) -> Calibration:
    """Frames spread over a recording, in the joint order and units of whatever policy asks; `units` as in `bind`."""
    return lambda policy: recorded_frames(policy, recording, CALIBRATION_FRAMES, units=units)


def unscored_frames(dataset: Dataset, episodes: str, units: Mapping[str, str] | None = None) -> Calibration:
    """Frames of the episodes that an evaluation on `episodes` leaves out; UsageError, when asked, where none are."""
    return lambda policy: recorded_frames(
        policy, unscored(policy.spec, dataset, episodes), CALIBRATION_FRAMES, units=units
    )


def unscored(spec: PolicySpec, dataset: Dataset, episodes: str) -> Dataset:
    """The episodes that an evaluation on `episodes` leaves out; UsageError where there are none."""
    scored = set(choose_episodes(episodes, dataset.meta, spec.facts.lineage).episodes)
    others = [episode.index for episode in dataset.meta.episodes if episode.index not in scored]
    if not others:
        raise UsageError(
            "--engine int8 is calibrated on recorded frames, and every episode of this dataset is scored.",
            fix="name another recording of this robot (--calibrate-on DIR), or score fewer episodes (--episodes)",
        )
    return dataset.select(others)
