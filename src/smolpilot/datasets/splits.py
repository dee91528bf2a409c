"""Held-out episodes: chosen by episode, so that no frame of a demonstration is on both sides."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable
from heapq import heapify, heappop, heappush

import numpy as np

from smolpilot.common.errors import UsageError

from .format.meta import DatasetMeta

_PART = re.compile(r"(\d+)(?:-(\d+))?")


def parse_episodes(text: str, meta: DatasetMeta, *, words: str = "", option: str = "--episodes") -> list[int]:
    """Episode indices of a list such as `0,3,7-9`, sorted; an unknown episode or another form is a UsageError.

    `words` names what else the option takes and `option` where the list stands, for the message.
    """
    # Sorted once for a dataset, however many lists are read of it.
    known = meta.sorted_indices if isinstance(meta, DatasetMeta) else sorted(one.index for one in meta.episodes)
    expected = f"{words}a list such as 0,3,7-9"
    if not text.strip():
        raise UsageError(f"{option} names no episode.", expected=expected)
    chosen: set[int] = set()
    for part in text.replace(" ", "").split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise UsageError(f"{option}: '{text}' cannot be read.", expected=expected)
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise UsageError(f"{option}: {part} ends before it begins.", fix=f"write {last}-{first}")
        missing = next((n for n in (first, last) if bisect_left(known, n) == bisect_right(known, n)), None)
        if missing is not None:
            raise UsageError(
                f"The dataset {meta.root} has no episode {missing}.",
                expected=f"one of its {len(known)} episodes, {_shortened(episode_ranges(known))}",
            )
        chosen |= set(known[bisect_left(known, first) : bisect_right(known, last)])
    return sorted(chosen)


def episode_ranges(episodes: Iterable[int]) -> str:
    """The list that `parse_episodes` reads back, such as `0-2,5`."""
    runs: list[list[int]] = []
    for index in sorted(episodes):
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def _shortened(ranges: str, limit: int = 20) -> str:
    runs = ranges.split(",")
    return ranges if len(runs) <= limit else f"{','.join(runs[:limit])},… up to {runs[-1]}"


def split_episodes(
    meta: DatasetMeta, *, held_out: float = 0.1, seed: int = 0, episodes: Collection[int] | None = None
) -> tuple[list[int], list[int]]:
    """Split the episode indices into (train, held out), both sorted, in the same proportion for each task.

    A task with two or more episodes keeps at least one for training. At least one episode is held out when there
    are two or more and `held_out` > 0. The same dataset, fraction and seed give the same split. `episodes` leaves the
    others out of both sides.
    """
    if not 0 <= held_out < 1:
        raise UsageError(f"held_out is {held_out}.", expected="a fraction from 0 to below 1")
    groups: dict[tuple[str, ...], list[int]] = {}
    wished = None if episodes is None else set(episodes)
    used = [episode for episode in meta.episodes if wished is None or episode.index in wished]
    for episode in sorted(used, key=lambda episode: episode.index):
        groups.setdefault(tuple(sorted(episode.tasks)), []).append(episode.index)
    generator = np.random.default_rng(seed)
    shuffled = [list(map(int, generator.permutation(groups[key]))) for key in sorted(groups)]
    total = len(used)
    wanted = min(max(round(held_out * total), 1), total - 1) if held_out > 0 else 0
    chosen = set(_drawn(shuffled, held_out, wanted))
    train = [episode.index for episode in used if episode.index not in chosen]
    return sorted(train), sorted(chosen)


def _drawn(groups: list[list[int]], held_out: float, wanted: int) -> list[int]:
    """The first episodes of each group, `wanted` in all, always next from the group furthest below its share.

    One episode of each group stays where that is possible.
    """
    chosen: list[int] = []
    taken = [0] * len(groups)
    for stays in (1, 0):
        queue = [
            (taken[i] - held_out * len(group), i) for i, group in enumerate(groups) if taken[i] < len(group) - stays
        ]
        heapify(queue)
        while queue and len(chosen) < wanted:
            _, best = heappop(queue)
            chosen.append(groups[best][taken[best]])
            taken[best] += 1
            if taken[best] < len(groups[best]) - stays:
                heappush(queue, (taken[best] - held_out * len(groups[best]), best))
    return chosen
