"""A robot profile's limits, and how actions and states belong together."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from smolpilot.common.errors import UsageError
from smolpilot.common.keys import ACTION, STATE
from smolpilot.common.text import pluralize
from smolpilot.datasets.check.context import CheckContext
from smolpilot.datasets.format.features import Feature, dimension_names
from smolpilot.datasets.tolerant.findings import Finding
from smolpilot.datasets.tolerant.found_dataset import FoundDataset
from smolpilot.datasets.tolerant.rules import VIEW
from smolpilot.robots import Joint, RobotProfile, UnitFinding, better_robot, choose_profile, unit_doubt, unit_findings
from smolpilot.robots.layout import check_units, unit_of
from smolpilot.robots.mapping import placeholder_names

from .check_numbers import counterparts

type Values = npt.NDArray[np.float64]

_SLACK = 0.02
_LONGEST_LAG_S = 1.0


def find_robot(dataset: FoundDataset, robot: RobotProfile | str | None) -> tuple[RobotProfile | None, bool]:
    """The profile to hold the dataset against, and whether the user named it; None: none fits, or `none`.

    Chosen by the same function as in every other verb. Raises ProfileError for an unknown name or a faulty file.
    """
    if isinstance(robot, RobotProfile):
        return robot, True
    ranges = {}
    for key in (STATE, ACTION):
        ends = _ends(dataset, key)
        if ends is not None and len(ends[0]) == len(_names(dataset, key)) and np.isfinite(ends).all():
            ranges[key] = ends
    profile = choose_profile(
        robot,
        robot_type=dataset.info.get("robot_type"),
        state_names=_names(dataset, STATE),
        action_names=_names(dataset, ACTION),
        notes=[],
        ranges=ranges,
    )
    return profile, robot is not None


def check_given_units(dataset: FoundDataset, profile: RobotProfile | None, units: Mapping[str, str]) -> None:
    """UsageError for `--units` of a joint that the dataset does not have, or without a profile to convert into."""
    if not units:
        return
    if profile is None:
        raise UsageError(
            "--units is given, but no robot profile: nothing says what to convert into.", fix="--robot PROFILE"
        )
    check_units(units, [*_names(dataset, STATE), *_names(dataset, ACTION)], profile)


def limits(context: CheckContext) -> Iterator[Finding]:
    """Positions and speeds against the profile; values in another unit are said once, and nothing else of them."""
    profile = context.profile
    if profile is None:
        return
    for key in (STATE, ACTION):
        vector = context.dataset.vectors.get(key)
        if vector is None:
            continue
        joints = match_joints(profile, vector, key)
        if not any(joints):
            names = ", ".join(vector.name(i) for i in range(min(3, vector.shape[0])))
            message = f"None of the joints of '{key}' ({names}, …) is one of robot '{profile.name}'."
            yield context.finding("profile-mismatch", message, fix=_better(context))
            continue
        unknown = [vector.name(i) for i, joint in enumerate(joints) if joint is None]
        if unknown:
            message = f"Robot '{profile.name}' has no joint '{unknown[0]}' of '{key}' ({len(unknown)} unknown)."
            yield context.finding(
                "profile-mismatch", message, severity="warning", joint=unknown[0], fix=_better(context)
            )
        ends = _ends(context.dataset, key)
        if ends is None:
            continue
        joints = joints[: len(ends[0])]
        factors = np.array([_factor(context, vector.name(i), joint) for i, joint in enumerate(joints)])
        explained = set()
        for found in _units(context, key, (ends[0] * factors, ends[1] * factors), joints):
            explained |= set(found.joints)
            place = vector.name([joint.name if joint else "" for joint in joints].index(found.joints[0])) \
                if len(found.joints) == 1 else None  # fmt: skip
            fix = _command(context, found.fix) if found.fix.startswith("--") else found.fix
            yield context.finding(
                "unit-mismatch", f"{found.text}; by robot '{profile.name}'.", severity=found.severity, joint=place,
                fix=fix,
            )  # fmt: skip
        judged = [None if joint is None or joint.name in explained else joint for joint in joints]
        for i, joint in enumerate(judged):
            if joint is not None and joint.position_limits is not None:
                yield from _positions(context, key, i, vector.name(i), joint, factors[i])
        yield from _speeds(context, key, vector, judged, factors)


def assumed_units(context: CheckContext) -> Iterator[Finding]:
    """Which unit the joints are taken to be in, where datasets of the same robot come in two."""
    dataset, profile = context.dataset, context.profile
    if profile is None or context.units:
        return
    ends = _ends(dataset, STATE)
    doubt = unit_doubt(
        profile,
        robot_type=dataset.info.get("robot_type"),
        version=dataset.version,
        state_names=_names(dataset, STATE),
        action_names=_names(dataset, ACTION),
        ranges={STATE: ends} if ends is not None and len(ends[0]) == len(_names(dataset, STATE)) else None,
    )
    if doubt is not None:
        fix = f"{_command(context, f'--robot {profile.other_units}')}, if it holds those"
        severity = "warning" if doubt.severity == "warning" else "info"  # as preflight has it
        yield context.finding(
            "unit-assumed", f"Robot '{profile.name}': units {doubt.text}.", fix=fix, severity=severity
        )


def _units(
    context: CheckContext, key: str, ends: tuple[Values, Values], joints: list[Joint | None]
) -> list[UnitFinding]:
    assert context.profile is not None
    known = [i for i, joint in enumerate(joints) if joint is not None]
    vector = context.dataset.vectors[key]
    return unit_findings(
        [joint for joint in joints if joint is not None], ends[0][known], ends[1][known],
        names=[vector.name(i) for i in known], what=f"'{key}'", commanded=key == ACTION, chosen=context.robot_named,
        other_units=context.profile.other_units, told=bool(context.units),
    )  # fmt: skip


def _ends(dataset: FoundDataset, key: str) -> tuple[Values, Values] | None:
    """Smallest and largest value of each dimension, NaN aside; None without rows, or where their widths differ."""
    whole = dataset.stacked(key)
    return (np.fmin.reduce(whole, axis=0), np.fmax.reduce(whole, axis=0)) if len(whole) else None


def _command(context: CheckContext, options: str) -> str:
    """This check with other options, which `train` takes as well."""
    robot = "" if options.startswith("--robot") or not context.robot else f"--robot {shlex.quote(context.robot)} "
    return f"smolpilot dataset check {{path}} {robot}{options}"


def _limit_fix(context: CheckContext) -> str | None:
    """Nobody is told to leave out episodes by a profile that was only guessed; None: what the rule says."""
    if context.robot_named or context.profile is None:
        return None
    return (
        f"{VIEW}; these limits are those of '{context.profile.name}', without them: {_command(context, '--robot none')}"
    )


def _factor(context: CheckContext, name: str, joint: Joint | None) -> float:
    if joint is None or not context.units:
        return 1.0
    return joint.factor_from(unit_of(name, joint, context.units)) or 1.0


def _names(dataset: FoundDataset, key: str) -> list[str]:
    """The names of a vector's dimensions; made-up ones for a dataset that has none."""
    vector = dataset.vectors.get(key)
    return [] if vector is None else dimension_names(vector)


def _better(context: CheckContext) -> str | None:
    """The profile that fits instead; None: what the rule says."""
    dataset = context.dataset
    assert context.profile is not None
    stated = dataset.info.get("robot_type")
    return better_robot(context.profile, stated, _names(dataset, STATE), _names(dataset, ACTION)) or None


def match_joints(profile: RobotProfile, vector: Feature, key: str) -> list[Joint | None]:
    """The profile's joint of each dimension: by name or alias; by position where the dataset names none."""
    mine = profile.state_joints if key == STATE else profile.action_joints
    if not vector.names or placeholder_names(vector.names):
        return list(mine) if len(mine) == vector.shape[0] else [None] * vector.shape[0]
    return [profile.find(name) for name in vector.names]


def _positions(context: CheckContext, key: str, i: int, name: str, joint: Joint, factor: float) -> Iterator[Finding]:
    assert joint.position_limits is not None
    low, high = joint.position_limits
    slack = _SLACK * (high - low)
    for episode, values in context.dataset.values(key):
        own = values[:, i] * factor
        bad = np.flatnonzero((own < low - slack) | (own > high + slack))
        if len(bad):
            worst = int(bad[np.argmax(np.maximum(low - own[bad], own[bad] - high))])
            message = (
                f"'{key}', joint '{name}', is {own[worst]:.4g} at frame {worst} of episode {episode}, outside "
                f"{low:g} to {high:g} {joint.unit} ({len(bad)} frames)."
            )
            yield context.finding(
                "limit-position", message, episode=episode, frame=worst, joint=name, fix=_limit_fix(context)
            )


def _speeds(
    context: CheckContext, key: str, vector: Feature, joints: list[Joint | None], factors: Values
) -> Iterator[Finding]:
    for episode, values in context.dataset.values(key):
        if len(values) < 2 or values.shape[1] != len(factors):
            continue
        speed = np.abs(np.diff(values * factors, axis=0)) * context.fps
        for i, joint in enumerate(joints):
            if joint is None or joint.velocity_limit is None:
                continue
            bad = np.flatnonzero(speed[:, i] > joint.velocity_limit * (1 + _SLACK))
            if len(bad):
                frame, name = int(bad[speed[bad, i].argmax()]) + 1, vector.name(i)
                message = (
                    f"'{key}', joint '{name}', moves at {speed[frame - 1, i]:.4g} {joint.unit}/s at frame "
                    f"{frame} of episode {episode}; its limit is {joint.velocity_limit:g} ({len(bad)} frames)."
                )
                yield context.finding(
                    "limit-velocity", message, episode=episode, frame=frame, joint=name, fix=_limit_fix(context)
                )


def grippers(context: CheckContext) -> Iterator[Finding]:
    """Episodes in which no gripper moves, where others use it; only a profile says which joint is one."""
    vector = context.dataset.vectors.get(STATE)
    if context.profile is None or vector is None or not context.profile.gripper:
        return
    joints = match_joints(context.profile, vector, STATE)
    places = [i for i, joint in enumerate(joints) if joint is not None and joint.name in context.profile.gripper]
    whole = context.dataset.stacked(STATE)
    if not places or not len(whole) or max(places) >= whole.shape[1]:
        return
    reach = np.ptp(whole[:, places], axis=0)
    for episode, values in context.dataset.values(STATE):
        if (reach > 0).any() and (np.ptp(values[:, places], axis=0) < 0.05 * reach).all():
            yield context.finding("gripper-inert", f"No gripper moves in episode {episode}.", episode=episode)


def actions_against_states(context: CheckContext) -> Iterator[Finding]:
    """Actions that are the states themselves, come late, or have another range; and the lag between them."""
    match = counterparts(context)
    dataset = context.dataset
    states, actions = dict(dataset.values(STATE)), dict(dataset.values(ACTION))
    both = [episode for episode in states if episode in actions and len(states[episode]) == len(actions[episode]) > 2]
    if not match or not both:
        return
    left, right = list(match), list(match.values())
    pairs = [(states[episode][:, left], actions[episode][:, right]) for episode in both]
    pairs = [(s, a) for s, a in pairs if np.isfinite(s).all() and np.isfinite(a).all()]
    moving = [j for j in range(len(left)) if any(np.ptp(s[:, j]) > 0 for s, _ in pairs)]
    if not pairs or not moving:
        return
    if all(np.array_equal(s[:, moving], a[:, moving]) for s, a in pairs):
        yield context.finding("action-equals-state", f"The action equals the state in all {len(pairs)} episodes.")
        return
    yield from _ranges(context, left, pairs)
    lag, strength = _lag(pairs, moving, max(1, int(_LONGEST_LAG_S * context.fps)))
    if strength < 0.5:
        return
    exact = lag > 0 and all(np.array_equal(a[:-lag, moving], s[lag:, moving]) for s, a in pairs if len(s) > lag)
    if lag < 0:
        late = f"{-lag} frames ({-1000 * lag / context.fps:.0f} ms)"
        yield context.finding("action-late", f"The actions follow the states by {late}: they come after the motion.")
    elif exact:
        later = f"{pluralize(lag, 'frame')} later"
        yield context.finding(
            "action-lag", f"The action is the state {later}, exactly: recorded from the robot itself."
        )
    else:
        message = f"The states follow the actions by {lag} frames ({1000 * lag / context.fps:.0f} ms)."
        yield context.finding("action-lag", message)


def _ranges(context: CheckContext, left: list[int], pairs: list[tuple[Values, Values]]) -> Iterator[Finding]:
    vector = context.dataset.vectors[STATE]
    state, action = (np.ptp(np.concatenate([pair[side] for pair in pairs]), axis=0) for side in (0, 1))
    for j, joint in enumerate(left):
        small, large = sorted((float(state[j]), float(action[j])))
        if small > 0 and large > 10 * small:
            message = (
                f"Joint '{vector.name(joint)}' has a range of {state[j]:.4g} as state and {action[j]:.4g} as action."
            )
            yield context.finding("action-range", message, joint=vector.name(joint))


def _lag(pairs: list[tuple[Values, Values]], moving: list[int], longest: int) -> tuple[int, float]:
    """(frames by which states follow actions, correlation): where the speeds of both correlate best."""
    states, actions = ([np.diff(pair[side][:, moving], axis=0) for pair in pairs] for side in (0, 1))
    for mine, others in zip(states, actions, strict=True):
        # Joints count alike, whatever their units.
        own, other = mine.std(axis=0), others.std(axis=0)
        used = own * other > 0
        mine /= np.where(used, own, np.inf)
        others /= np.where(used, other, np.inf)
    # One pass over all episodes for each lag, not one over each of them.
    lengths = np.array([len(part) for part in states])
    place, room = np.repeat(np.arange(len(lengths)), lengths), np.repeat(lengths, lengths)
    state, action = np.concatenate(states), np.concatenate(actions)
    best, strength = 0, -1.0
    for lag in sorted(range(-longest, longest + 1), key=abs):
        count = len(place) - abs(lag)
        if count <= 0:
            break
        late, early = slice(abs(lag), None), slice(None, count)
        inside = (place[late] == place[early]) & (room[early] - abs(lag) >= 3)
        s, a = (state[late], action[early]) if lag >= 0 else (state[early], action[late])
        s, a = s[inside], a[inside]
        product, left, right = (float(np.einsum("ij,ij->", one, two)) for one, two in ((s, a), (s, s), (a, a)))
        value = product / np.sqrt(left * right) if left > 0 and right > 0 else -1.0
        if value > strength + 1e-6:
            best, strength = lag, float(value)
    return best, strength
