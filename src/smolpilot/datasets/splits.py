"""Held-out episodes: chosen by episode, so that no frame of a demonstration is on both sides."""

from __future__ import annotations

import numpy as np

from smolpilot.datasets.meta import DatasetMeta
from smolpilot.errors import UsageError


def split_episodes(meta: DatasetMeta, *, held_out: float = 0.1, seed: int = 0) -> tuple[list[int], list[int]]:
    """Split the episode indices into (train, held out), both sorted, in the same proportion for each task.

    A task with two or more episodes keeps at least one for training. At least one episode is held out when there
    are two or more and `held_out` > 0. The same dataset, fraction and seed give the same split.
    """
    if not 0 <= held_out < 1:
        raise UsageError(f"held_out is {held_out}.", expected="a fraction from 0 to below 1")
    groups: dict[tuple[str, ...], list[int]] = {}
    for episode in sorted(meta.episodes, key=lambda episode: episode.index):
        groups.setdefault(tuple(sorted(episode.tasks)), []).append(episode.index)
    generator = np.random.default_rng(seed)
    shuffled = [list(map(int, generator.permutation(groups[key]))) for key in sorted(groups)]
    total = len(meta.episodes)
    wanted = min(max(round(held_out * total), 1), total - 1) if held_out > 0 else 0
    chosen: list[int] = []
    taken = [0] * len(shuffled)
    for _ in range(wanted):
        # Next from the task that is furthest below its share; one episode stays for training where possible.
        owed = [held_out * len(group) - taken[i] for i, group in enumerate(shuffled)]
        open_groups = [i for i, group in enumerate(shuffled) if taken[i] < len(group) - 1]
        open_groups = open_groups or [i for i, group in enumerate(shuffled) if taken[i] < len(group)]
        best = max(open_groups, key=lambda i: owed[i])
        chosen.append(shuffled[best][taken[best]])
        taken[best] += 1
    train = [episode.index for episode in meta.episodes if episode.index not in set(chosen)]
    return sorted(train), sorted(chosen)
