"""Which episodes and frames of a dataset are scored, and which of them training has seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from smolpilot.common.errors import UsageError
from smolpilot.contracts.trained_on import seen_episodes, trained_fingerprint, trainings_on
from smolpilot.datasets import parse_episodes

if TYPE_CHECKING:
    from smolpilot.datasets import DatasetMeta

HELD_OUT, ALL = "held-out", "all"


@dataclass(frozen=True)
class Split:
    """The scored episodes. `trained_on` are those among them that training saw; None when that is not known."""

    requested: str
    episodes: list[int]
    trained_on: list[int] | None
    text: str


def choose_episodes(requested: str, meta: DatasetMeta, lineage: Mapping[str, Any]) -> Split:
    """Resolve `held-out`, `all` or a list such as `0,3,7-9` against the dataset and the policy's lineage.

    Raises UsageError for an unknown episode, and for `held-out` when the lineage does not say which episodes of
    this very dataset were held out: guessing would present training episodes as unseen ones. A policy's ancestors
    count: an episode that one of them was trained on is not held out.
    """
    trainings = trainings_on(meta.fingerprint, lineage)
    if requested == HELD_OUT:
        episodes = _held_out(meta, lineage, trainings)
    elif requested == ALL:
        episodes = [episode.index for episode in meta.episodes]
    else:
        episodes = parse_episodes(requested, meta, words="held-out, all, or ")
    seen = seen_episodes(meta, trainings)
    trained_on = None if seen is None else sorted(set(episodes) & seen)
    return Split(requested, episodes, trained_on, _describe(requested, episodes, trained_on, meta))


def choose_rows(
    episode_index: npt.NDArray[np.integer], frame_index: npt.NDArray[np.integer], every: int, max_frames: int | None
) -> npt.NDArray[np.int64]:
    """Rows to score: every `every`-th frame of each episode, thinned evenly to at most `max_frames`."""
    starts = np.flatnonzero(np.diff(episode_index, prepend=episode_index[0] - 1))
    first = np.repeat(frame_index[starts], np.diff(np.append(starts, len(episode_index))))
    rows = np.flatnonzero((frame_index - first) % every == 0)
    if max_frames is not None and len(rows) > max_frames:
        rows = rows[np.linspace(0, len(rows) - 1, max_frames).round().astype(np.int64)]
    return rows.astype(np.int64)


def _held_out(meta: DatasetMeta, lineage: Mapping[str, Any], trainings: list[Mapping[str, Any]]) -> list[int]:
    fix = "choose with --episodes all or a list such as --episodes 0,3,7-9"
    trained, seen = trained_fingerprint(lineage), seen_episodes(meta, trainings)
    if trained is None or (trainings and (seen is None or "held_out_episodes" not in trainings[0])):
        raise UsageError(
            "The policy does not say which dataset it was trained on and what was held out of it, so its held-out "
            "episodes are unknown.",
            expected="a bundle trained by smolpilot",
            fix=fix,
        )
    if not trainings or seen is None:
        name = (lineage.get("dataset") or {}).get("name", "another one")
        raise UsageError(
            f"The policy was trained on another dataset ({name}, fingerprint {trained}) than {meta.root} (fingerprint "
            f"{meta.fingerprint}): which of these episodes it has seen is unknown.",
            fix=f"if it has seen none of them, {fix}",
        )
    kept = {int(index) for index in trainings[0]["held_out_episodes"] or []}
    if not kept:
        raise UsageError("Training held no episode of this dataset out.", fix=f"train with --held-out 0.1, or {fix}")
    if not kept - seen:
        raise UsageError(
            f"The last training held {len(kept)} episodes out, but the policy it began with had seen all of them.",
            expected="episodes that no training of this policy has seen",
            fix=f"fine-tune with the --seed and --held-out of the parent's training, or {fix}",
        )
    return sorted(kept - seen)


def _describe(requested: str, episodes: list[int], trained_on: list[int] | None, meta: DatasetMeta) -> str:
    numbers = ", ".join(map(str, episodes[:20])) + (f" and {len(episodes) - 20} more" if len(episodes) > 20 else "")
    kind = {HELD_OUT: "Held-out episode", ALL: "All episodes:"}.get(requested, "Episode")
    plural = "" if len(episodes) == 1 or requested == ALL else "s"
    text = f"{kind}{plural} {numbers} of {meta.root}"
    if requested == HELD_OUT:
        return f"{text}, kept back from training"
    if trained_on is None:
        return f"{text}; whether training saw them is unknown"
    if trained_on:
        return f"{text}; training saw {len(trained_on)} of the {len(episodes)}: no test of generalization"
    return f"{text}, kept back from training"
