"""States and actions: not finite, dead, saturated, beyond limits, outliers, jumps, frozen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from smolpilot.common.keys import ACTION, STATE
from smolpilot.datasets.check.context import CheckContext
from smolpilot.datasets.format.features import Feature
from smolpilot.datasets.tolerant.findings import Finding
from smolpilot.datasets.tolerant.rules import WITHOUT

from .check_structure import without_value

type Values = npt.NDArray[np.float64]

_FEW_LEVELS = 12
# A joint that moves through less than this share of what the widest one does may only show noise.
_NOISE = 0.01


def finite(context: CheckContext) -> Iterator[Finding]:
    """NaN and infinity in any float feature."""
    for key, vector in context.dataset.vectors.items():
        if key == "timestamp":
            continue
        used = key in (STATE, ACTION)
        for episode, values in context.dataset.values(key):
            wrong = ~np.isfinite(values)
            if not wrong.any():
                continue
            rows = context.dataset.rows[episode]
            # A cell without a value reads as NaN, and has a finding of its own.
            empty = context.dataset.nulls.get((rows.path, key))
            if empty is not None:
                wrong[without_value(rows.positions, empty)] = False
            bad = np.argwhere(wrong)
            if len(bad):
                frame, joint = (int(i) for i in bad[0])
                message = (
                    f"'{key}' is {values[frame, joint]} at frame {frame} of episode {episode}, joint "
                    f"'{vector.name(joint)}' ({len(bad)} such values)."
                )
                place = {"episode": episode, "frame": frame, "joint": vector.name(joint)}
                fix = {} if used else {"severity": "info", "fix": WITHOUT, "key": key}
                yield context.finding("not-finite", message, **place, **fix)


def dead(context: CheckContext) -> Iterator[Finding]:
    """Joints that stand still: although commanded (a broken sensor or motor), or because nobody uses them."""
    dataset = context.dataset
    states = dataset.vectors.get(STATE)
    whole, commands = dataset.stacked(STATE), dataset.stacked(ACTION)
    if states is None or not len(whole):
        return
    match = counterparts(context)
    unused = []
    for joint in range(whole.shape[1]):
        name, other = states.name(joint), match.get(joint)
        if np.nanmax(whole[:, joint]) > np.nanmin(whole[:, joint]):
            continue
        moving = other is not None and len(commands) and np.ptp(commands[:, other]) > 0
        if not moving:
            unused.append(name)
            continue
        message = f"The state of joint '{name}' is {whole[0, joint]:g} in all episodes while its action moves."
        yield context.finding("joint-dead", message, joint=name)
    if unused:
        names = ", ".join(unused[:6]) + (", …" if len(unused) > 6 else "")
        yield context.finding("joint-constant", f"{len(unused)} joints never move: {names}.")
    yield from _dead_in_episode(context, states, match, whole, commands)


def _dead_in_episode(
    context: CheckContext, vector: Feature, match: dict[int, int], whole: Values, commands: Values
) -> Iterator[Finding]:
    if not len(commands):
        return
    reach, commanded = np.ptp(whole, axis=0), np.ptp(commands, axis=0)
    actions = dict(context.dataset.values(ACTION))
    for episode, values in context.dataset.values(STATE):
        action = actions.get(episode)
        if action is None or len(values) < 5 or len(action) != len(values):
            continue
        still, ordered = np.ptp(values, axis=0), np.ptp(action, axis=0)
        for joint, other in match.items():
            if reach[joint] > 0 and still[joint] == 0 and ordered[other] > 0.2 * commanded[other] > 0:
                name = vector.name(joint)
                message = f"The state of joint '{name}' stands at {values[0, joint]:g} all through episode {episode} "
                message += "while its action moves."
                yield context.finding("joint-dead", message, episode=episode, joint=name)


def saturated(context: CheckContext) -> Iterator[Finding]:
    """Joints at exactly one end of their range for most of an episode while others move."""
    dataset = context.dataset
    vector, whole = dataset.vectors.get(STATE), dataset.stacked(STATE)
    if vector is None or not len(whole):
        return
    low, high = np.nanmin(whole, axis=0), np.nanmax(whole, axis=0)
    # A gripper that is open or closed, a joint that rests: ends are where those belong.
    continuous = np.flatnonzero(_continuous(whole)).tolist()
    for episode, values in dataset.values(STATE):
        least = max(context.fps, 0.3 * len(values))
        often = ((values == low).sum(axis=0) > least) | ((values == high).sum(axis=0) > least)
        for joint in (joint for joint in continuous if often[joint]):
            column = values[:, joint]
            inner = (column > low[joint]) & (column < high[joint])
            for end in (low[joint], high[joint]):
                pinned = column == end
                # Clipping shows in both: the value is reached while moving, and kept.
                run = longest_run(pinned)[1]
                if run > least and inner.any() and pinned[0] != pinned[-1]:
                    name = vector.name(joint)
                    message = (
                        f"Joint '{name}' stays at {end:g}, the end of its range, for {run} frames of episode {episode}."
                    )
                    frame = int(np.flatnonzero(pinned)[0])
                    yield context.finding("joint-saturated", message, episode=episode, frame=frame, joint=name)


def _continuous(whole: Values) -> npt.NDArray[np.bool_]:
    """For each joint whether it takes more than a few values, `[D]`."""
    sampled = whole[:: max(1, len(whole) // 5000)]
    return np.array([len(np.unique(column)) > _FEW_LEVELS for column in sampled.T])


def outliers(context: CheckContext) -> Iterator[Finding]:
    """Single numbers far outside of where a joint usually is."""
    dataset = context.dataset
    for key in (STATE, ACTION):
        vector, whole = dataset.vectors.get(key), dataset.stacked(key)
        if vector is None or len(whole) < 50:
            continue
        low, high = np.nanquantile(whole, [0.01, 0.99], axis=0)
        margin = 5 * (high - low)
        bad = ((whole < low - margin) | (whole > high + margin)) & np.isfinite(whole)
        bad &= (margin > 0) & moving_joints(context, key)
        found: list[Finding] = []
        for episode, values, wrong in _concerned(dataset.values(key), bad):
            for joint in np.flatnonzero(wrong.any(axis=0)).tolist():
                frames = np.flatnonzero(wrong[:, joint])
                frame, name = int(frames[0]), vector.name(joint)
                # What stays away for long is another pose, not an outlier.
                if len(frames) > max(3, 0.1 * len(values)):
                    continue
                message = (
                    f"'{key}', joint '{name}', is {values[frame, joint]:.4g} at frame {frame} of episode {episode}; "
                    f"98 % of all values are within {low[joint]:.4g} to {high[joint]:.4g}."
                )
                found.append(context.finding("outlier", message, episode=episode, frame=frame, joint=name))
        yield from _rare(context, found)


def _concerned(
    episodes: Iterable[tuple[int, Values]], bad: npt.NDArray[np.bool_]
) -> Iterator[tuple[int, Values, npt.NDArray[np.bool_]]]:
    """(episode, values, its part of `bad`) where there is any: `bad` is of all episodes' rows, one after another."""
    if not np.count_nonzero(bad):
        return
    rows, start = np.unique(np.argwhere(bad)[:, 0]), 0
    for episode, values in episodes:
        stop = start + len(values)
        if np.searchsorted(rows, start) < np.searchsorted(rows, stop):
            yield episode, values, bad[start:stop]
        start = stop


def moving_joints(context: CheckContext, key: str) -> npt.NDArray[np.bool_]:
    """For each joint whether its values are motion, `[D]`: not so where its whole range is noise.

    Noise is what is small next to the other joints' ranges, or next to the value itself in float32, and does not
    follow from frame to frame: steps between frames as large as the spread of all values.
    """
    parts = [values for _, values in context.dataset.values(key)]
    whole = np.concatenate(parts)
    reach = np.nanmax(whole, axis=0) - np.nanmin(whole, axis=0)
    small = reach < _NOISE * np.nanmax(reach)
    low, high = np.nanquantile(whole, [0.01, 0.99], axis=0)
    steps = np.concatenate([np.diff(np.clip(part, low, high), axis=0) for part in parts])
    spread = np.nanstd(np.clip(whole, low, high), axis=0)
    # Of white noise, a step is 1.4 times the spread; of a motion that is sampled often enough, far below it.
    rough = np.sqrt(np.nanmean(steps**2, axis=0)) > 0.7 * spread if len(steps) else np.ones(len(reach), dtype=bool)
    rounding = reach < 64 * np.spacing(np.nanmax(np.abs(whole), axis=0).astype(np.float32))
    moving: npt.NDArray[np.bool_] = ~((small & rough) | rounding)
    return moving


def _rare(context: CheckContext, found: list[Finding]) -> Iterator[Finding]:
    """Findings of a joint in at most half of the episodes: what most of them have is how that joint moves."""
    episodes: dict[tuple[str, str | None], set[int | None]] = {}
    for one in found:
        episodes.setdefault((one.code, one.joint), set()).add(one.episode)
    count = len(context.dataset.rows)
    yield from (one for one in found if len(episodes[one.code, one.joint]) <= max(1, count // 2))


def jumps(context: CheckContext) -> Iterator[Finding]:
    """A state that changes within one frame by far more than it ever does otherwise."""
    dataset = context.dataset
    vector, whole = dataset.vectors.get(STATE), dataset.stacked(STATE)
    if vector is None or len(whole) < 20:
        return
    reach = np.nanmax(whole, axis=0) - np.nanmin(whole, axis=0)
    steps = [np.abs(np.diff(values, axis=0)) for _, values in dataset.values(STATE) if len(values) > 1]
    if not steps:
        return
    usual = np.nanquantile(np.concatenate(steps), 0.99, axis=0)
    continuous = _continuous(whole) & moving_joints(context, STATE)
    found: list[Finding] = []
    for episode, values in dataset.values(STATE):
        if len(values) < 2:
            continue
        change = np.abs(np.diff(values, axis=0))
        bad = (change > 0.3 * reach) & (change > 8 * usual) & continuous & (usual > 0)
        for joint in np.flatnonzero(bad.any(axis=0)).tolist():
            frame, name = int(np.flatnonzero(bad[:, joint])[0]) + 1, vector.name(joint)
            size = float(change[frame - 1, joint])
            turn = any(abs(size / full - 1) < 0.1 for full in (2 * np.pi, 360.0, 4096.0))
            message = (
                f"The state of joint '{name}' jumps by {size:.4g} at frame {frame} of episode {episode}"
                f"{' (about one turn: an encoder that wraps around?)' if turn else ''}; 99 % of its steps are below "
                f"{usual[joint]:.3g}."
            )
            found.append(context.finding("jump", message, episode=episode, frame=frame, joint=name))
    yield from _rare(context, found)


def frozen(context: CheckContext) -> Iterator[Finding]:
    """All states repeat bit by bit while the actions go on: the recorder or the bus hung."""
    dataset = context.dataset
    commands = dataset.stacked(ACTION)
    if not len(commands):
        return
    reach, actions = np.ptp(commands, axis=0), dict(dataset.values(ACTION))
    if not (reach > 0).any():
        return
    for episode, values in dataset.values(STATE):
        action = actions.get(episode)
        if action is None or len(action) != len(values) or len(values) < 5:
            continue
        same = (np.diff(values, axis=0) == 0).all(axis=1)
        first, length = longest_run(same)
        if length < max(5, 0.5 * context.fps):
            continue
        part = action[first : first + length + 1]
        moved = float((np.ptp(part, axis=0)[reach > 0] / reach[reach > 0]).max())
        if moved > 0.1:
            message = (
                f"All states repeat from frame {first} to {first + length} of episode {episode} "
                f"({length / context.fps:.1f} s) while an action moves {100 * moved:.0f} % of its range."
            )
            yield context.finding("state-frozen", message, episode=episode, frame=first)


def counterparts(context: CheckContext) -> dict[int, int]:
    """For each dimension of the state the action's dimension that commands it."""
    states, actions = (context.dataset.vectors.get(key) for key in (STATE, ACTION))
    if states is None or actions is None:
        return {}
    if states.names and actions.names:
        found = {name: i for i, name in enumerate(actions.names)}
        return {i: found[name] for i, name in enumerate(states.names) if name in found}
    return {i: i for i in range(states.shape[0])} if states.shape == actions.shape else {}


def longest_run(flags: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """(start, length) of the longest run of True; zeros without any."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    if not len(edges):
        return 0, 0
    lengths = edges[1::2] - edges[::2]
    longest = int(lengths.argmax())
    return int(edges[::2][longest]), int(lengths[longest])
