"""Which episodes and frames of a dataset are scored, and which of them training has seen."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from smolpilot.errors import UsageError

if TYPE_CHECKING:
    from smolpilot.datasets import DatasetMeta

HELD_OUT, ALL = "held-out", "all"
_PART = re.compile(r"(\d+)(?:-(\d+))?")


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
    this very dataset were held out: guessing would present training episodes as unseen ones.
    """
    known = [episode.index for episode in meta.episodes]
    same = _fingerprint(lineage) == meta.fingerprint
    held_out = lineage.get("held_out_episodes") if same else None
    if requested == HELD_OUT:
        episodes = _held_out(meta, lineage, same=same)
    elif requested == ALL:
        episodes = known
    else:
        episodes = _listed(requested, known, meta)
    trained_on = None if held_out is None else sorted(set(episodes) - {int(index) for index in held_out})
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


def _fingerprint(lineage: Mapping[str, Any]) -> str | None:
    """The fingerprint of the dataset that the policy was last trained on."""
    dataset = lineage.get("dataset") or {}
    found = lineage.get("dataset_fingerprint") or dataset.get("fingerprint")
    return str(found) if found else None


def _held_out(meta: DatasetMeta, lineage: Mapping[str, Any], *, same: bool) -> list[int]:
    fix = "choose with --episodes all or a list such as --episodes 0,3,7-9"
    trained = _fingerprint(lineage)
    if trained is None or (same and "held_out_episodes" not in lineage):
        raise UsageError(
            "The policy does not say which dataset it was trained on and what was held out of it, so its held-out "
            "episodes are unknown.",
            expected="a bundle trained by smolpilot",
            fix=fix,
        )
    if not same:
        name = (lineage.get("dataset") or {}).get("name", "another one")
        raise UsageError(
            f"The policy was trained on another dataset ({name}, fingerprint {trained}) than {meta.root} (fingerprint "
            f"{meta.fingerprint}): which of these episodes it has seen is unknown.",
            fix=f"if it has seen none of them, {fix}",
        )
    episodes = sorted(int(index) for index in lineage.get("held_out_episodes") or [])
    if not episodes:
        raise UsageError("Training held no episode of this dataset out.", fix=f"train with --held-out 0.1, or {fix}")
    return episodes


def _listed(requested: str, known: list[int], meta: DatasetMeta) -> list[int]:
    chosen: set[int] = set()
    for part in requested.replace(" ", "").split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise UsageError(
                f"--episodes {requested} cannot be read.", expected="held-out, all, or a list such as 0,3,7-9"
            )
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise UsageError(f"--episodes {part} ends before it begins.", fix=f"write {last}-{first}")
        if last not in known or first not in known:
            missing = first if first not in known else last
            raise UsageError(
                f"The dataset {meta.root} has no episode {missing}.",
                expected=f"one of its {len(known)} episodes, {known[0]} to {known[-1]}",
            )
        chosen |= set(range(first, last + 1)) & set(known)
    return sorted(chosen)


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
        return f"{text}; training saw {len(trained_on)} of the {len(episodes)}: no test of generalisation"
    return f"{text}, kept back from training"
