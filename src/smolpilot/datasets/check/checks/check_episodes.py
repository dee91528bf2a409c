"""Demonstrations as a whole: idle ends, length, duplicates, variety."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator

import numpy as np

from smolpilot.common.keys import ACTION, STATE
from smolpilot.common.text import pluralize
from smolpilot.datasets.check.context import CheckContext
from smolpilot.datasets.tolerant.findings import Finding
from smolpilot.datasets.tolerant.found_dataset import Array

_IDLE = 0.01
_IDLE_S = 2.0
_IDLE_SHARE = 0.15
_CHUNK = 50
_FEW = 10
# So many are named one by one.
_SINGLE = 5
_NEAR = 1e-4
_NEIGHBORS = 1000


def idle(context: CheckContext) -> Iterator[Finding]:
    """Starts and ends in which no joint leaves its pose, long enough to teach waiting."""
    whole = context.dataset.stacked(STATE)
    if not len(whole):
        return
    reach = np.nanmax(whole, axis=0) - np.nanmin(whole, axis=0)
    used = reach > 0
    if not used.any():
        return
    for episode, values in context.dataset.values(STATE):
        if len(values) < 3 or not np.isfinite(values).all():
            continue
        for code, word, ordered in (("idle-head", "first", values), ("idle-tail", "last", values[::-1])):
            away = (np.abs(ordered - ordered[0])[:, used] / reach[used]).max(axis=1) > _IDLE
            still = int(away.argmax()) if away.any() else len(values)
            if still >= _IDLE_S * context.fps and still >= _IDLE_SHARE * len(values):
                message = (
                    f"Nothing moves in the {word} {still} frames ({still / context.fps:.1f} s) of episode {episode}."
                )
                frame = 0 if word == "first" else len(values) - still
                yield context.finding(code, message, episode=episode, frame=frame, last=frame + still - 1)
                if still == len(values):
                    break


def lengths(context: CheckContext) -> Iterator[Finding]:
    """Very short episodes, and those far from the usual length."""
    counts = {episode: len(rows) for episode, rows in context.dataset.rows.items()}
    if not counts:
        return
    usual = float(np.median(list(counts.values())))
    brief = []
    for episode, length in counts.items():
        if length < context.fps:
            message = f"Episode {episode} has {length} frames ({length / context.fps:.1f} s)."
            yield context.finding("episode-short", message, episode=episode)
        elif len(counts) >= 3 and not usual / 3 <= length <= usual * 3:
            message = f"Episode {episode} has {length} frames, {usual:g} are usual."
            yield context.finding("length-spread", message, episode=episode)
        if length < _CHUNK:
            brief.append(episode)
    if brief:
        message = f"{len(brief)} of {len(counts)} episodes are shorter than a chunk of {_CHUNK} actions."
        yield context.finding("chunk-short", message, episode=brief[0] if len(brief) == 1 else None)


def duplicates(context: CheckContext) -> Iterator[Finding]:
    """Episodes with the same states and actions, bit by bit or nearly."""
    states, actions = dict(context.dataset.values(STATE)), dict(context.dataset.values(ACTION))
    whole = context.dataset.stacked(STATE)
    if not len(whole):
        return
    reach = np.maximum(np.nanmax(whole, axis=0) - np.nanmin(whole, axis=0), 1e-12)
    exact: dict[bytes, int] = {}
    by_length: dict[int, list[int]] = {}
    for episode, values in states.items():
        # An episode of a few frames, or one that stands still, is not a copy of another such.
        if len(values) < 5 or not np.isfinite(values).all() or np.ptp(values, axis=0).max() == 0:
            continue
        digest = hashlib.sha256(values.tobytes())
        digest.update(actions[episode].tobytes() if episode in actions else b"")
        first = exact.setdefault(digest.digest(), episode)
        if first != episode:
            yield _twins(context, episode, first, "has the same states and actions as")
            continue
        by_length.setdefault(len(values), []).append(episode)
    for episodes in by_length.values():
        for episode, other in _near(episodes, states, reach):
            yield _twins(context, episode, other, "is nearly the same as")


def _near(episodes: list[int], states: dict[int, Array], reach: Array) -> Iterator[tuple[int, int]]:
    """Episodes of one length in which no state is a ten-thousandth of its range apart.

    Such episodes have nearly the same mean, too: sorted by it, each is compared with its neighbors only.
    """
    found: dict[int, int] = {}
    means = np.array([states[episode].mean(axis=0) / reach for episode in episodes])
    # Of the joint that tells them apart best: one that rests would make all of them neighbors.
    joint = int(np.ptp(means, axis=0).argmax())
    order = np.argsort(means[:, joint], kind="stable")
    means, sorted_episodes = means[order], [episodes[place] for place in order.tolist()]
    ends = np.searchsorted(means[:, joint], means[:, joint] + _NEAR)
    for place in np.flatnonzero(ends - np.arange(len(ends)) > 1).tolist():
        one, end = sorted_episodes[place], min(int(ends[place]), place + 1 + _NEIGHBORS)
        alike = (np.abs(means[place + 1 : end] - means[place]) < _NEAR).all(axis=1)
        for other in (sorted_episodes[place + 1 + step] for step in np.flatnonzero(alike).tolist()):
            if float((np.abs(states[one] - states[other]) / reach).max()) < _NEAR:
                found.setdefault(max(one, other), min(one, other))
    yield from sorted(found.items())


def _twins(context: CheckContext, episode: int, other: int, words: str) -> Finding:
    return context.finding("episode-duplicated", f"Episode {episode} {words} episode {other}.", episode=episode)


def variety(context: CheckContext) -> Iterator[Finding]:
    """Start poses that are all the same, a drift over the dataset, few or unevenly many demonstrations."""
    parts = dict(context.dataset.values(STATE))
    whole = context.dataset.stacked(STATE)
    if len(parts) >= 5 and len(whole):
        reach = np.nanmax(whole, axis=0) - np.nanmin(whole, axis=0)
        starts = np.array([values[0] for values in parts.values()])
        spread = np.nanstd(starts, axis=0)[reach > 0] / reach[reach > 0]
        if len(spread) and spread.max() < 0.01:
            message = f"All {len(parts)} episodes start within {100 * spread.max():.2g} % of the joints' ranges."
            yield context.finding("start-poses", message)
    if len(parts) >= 12 and len(whole):
        yield from _drift(context, list(parts.values()))
    texts = Counter(context.dataset.task_of(episode) for episode in context.dataset.rows)
    few = [(number, text) for text, number in texts.items() if number < _FEW and text]
    for number, text in few[:_SINGLE]:
        yield context.finding("few-episodes", f'"{text}" has {pluralize(number, "demonstration")}.')
    if len(few) > _SINGLE:
        message = f"{len(few) - _SINGLE} more instructions have fewer than {_FEW} demonstrations."
        yield context.finding("few-episodes", message)


def _drift(context: CheckContext, parts: list[np.ndarray]) -> Iterator[Finding]:  # type: ignore[type-arg]
    quarter = len(parts) // 4
    first, last = np.concatenate(parts[:quarter]), np.concatenate(parts[-quarter:])
    spread = np.nanstd(first, axis=0)
    used = spread > 0
    shift = np.zeros(len(spread))
    shift[used] = np.abs(np.nanmean(last, axis=0) - np.nanmean(first, axis=0))[used] / spread[used]
    if shift.max() > 3:
        joint = int(shift.argmax())
        name = context.dataset.vectors[STATE].name(joint)
        message = f"The state of joint '{name}' moved by {shift[joint]:.1f} sigma between the first and last quarter."
        yield context.finding("drift", message, joint=name)
