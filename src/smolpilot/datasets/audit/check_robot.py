"""A robot profile's limits, and how actions and states belong together."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from smolpilot.datasets.audit.check_numbers import counterparts
from smolpilot.datasets.audit.findings import Finding
from smolpilot.datasets.audit.recording import Vector
from smolpilot.datasets.audit.subject import Subject
from smolpilot.errors import ProfileError
from smolpilot.keys import ACTION, STATE
from smolpilot.robots.profile import Joint, RobotProfile
from smolpilot.words import numbered

type Values = npt.NDArray[np.float64]

_SLACK = 0.02
_LONGEST_LAG_S = 1.0


def limits(subject: Subject) -> Iterator[Finding]:
    """Positions and speeds against the profile; values in another unit are said once, not joint by joint."""
    profile = subject.profile
    if profile is None:
        return
    for key in (STATE, ACTION):
        vector = subject.recording.vectors.get(key)
        if vector is None:
            continue
        joints = match_joints(profile, vector, key)
        if not any(joints):
            names = ", ".join(vector.name(i) for i in range(min(3, vector.shape[0])))
            message = f"None of the joints of '{key}' ({names}, …) is one of robot '{profile.name}'."
            yield subject.finding("profile-mismatch", message)
            continue
        unknown = [vector.name(i) for i, joint in enumerate(joints) if joint is None]
        if unknown:
            message = f"Robot '{profile.name}' has no joint '{unknown[0]}' of '{key}' ({len(unknown)} unknown)."
            yield subject.finding("profile-mismatch", message, severity="warning", joint=unknown[0])
        whole = subject.recording.stacked(key)
        for i, joint in enumerate(joints):
            if joint is None or not len(whole) or joint.position_limits is None or i >= whole.shape[1]:
                continue
            if _another_unit(whole[:, i], joint.position_limits):
                message = (
                    f"'{key}', joint '{vector.name(i)}', goes from {np.nanmin(whole[:, i]):.4g} to "
                    f"{np.nanmax(whole[:, i]):.4g}; robot '{profile.name}' has {joint.position_limits} {joint.unit}."
                )
                yield subject.finding("unit-mismatch", message, joint=vector.name(i))
                continue
            yield from _positions(subject, key, i, vector.name(i), joint)
        yield from _speeds(subject, key, vector, joints)


def match_joints(profile: RobotProfile, vector: Vector, key: str) -> list[Joint | None]:
    """The profile's joint of each dimension: by name or alias; by position where the dataset names none."""
    mine = profile.state_joints if key == STATE else profile.action_joints
    if not vector.names:
        return list(mine) if len(mine) == vector.shape[0] else [None] * vector.shape[0]
    found: list[Joint | None] = []
    for name in vector.names:
        try:
            found.append(profile.joint(name))
        except ProfileError:
            plain = name.rsplit(".", 1)[0]
            found.append(next((joint for joint in mine if plain in (joint.name, *joint.aliases)), None))
    return found


def _another_unit(values: Values, limits: tuple[float, float]) -> bool:
    """Most values far beyond the limits: degrees for radians, counts for degrees."""
    size = max(abs(limits[0]), abs(limits[1]))
    outside = (values < limits[0]) | (values > limits[1])
    return bool(np.nanmean(outside) > 0.5 and np.nanmedian(np.abs(values)) > 5 * size)


def _positions(subject: Subject, key: str, i: int, name: str, joint: Joint) -> Iterator[Finding]:
    assert joint.position_limits is not None
    low, high = joint.position_limits
    slack = _SLACK * (high - low)
    for episode, values in subject.recording.values(key):
        bad = np.flatnonzero((values[:, i] < low - slack) | (values[:, i] > high + slack))
        if len(bad):
            worst = int(bad[np.argmax(np.maximum(low - values[bad, i], values[bad, i] - high))])
            message = (
                f"'{key}', joint '{name}', is {values[worst, i]:.4g} at frame {worst} of episode {episode}, outside "
                f"{low:g} to {high:g} {joint.unit} ({len(bad)} frames)."
            )
            yield subject.finding("limit-position", message, episode=episode, frame=worst, joint=name)


def _speeds(subject: Subject, key: str, vector: Vector, joints: list[Joint | None]) -> Iterator[Finding]:
    for episode, values in subject.recording.values(key):
        if len(values) < 2:
            continue
        speed = np.abs(np.diff(values, axis=0)) * subject.fps
        for i, joint in enumerate(joints):
            if joint is None or joint.velocity_limit is None or i >= speed.shape[1]:
                continue
            bad = np.flatnonzero(speed[:, i] > joint.velocity_limit * (1 + _SLACK))
            if len(bad):
                frame = int(bad[speed[bad, i].argmax()]) + 1
                message = (
                    f"'{key}', joint '{vector.name(i)}', moves at {speed[frame - 1, i]:.4g} {joint.unit}/s at frame "
                    f"{frame} of episode {episode}; its limit is {joint.velocity_limit:g} ({len(bad)} frames)."
                )
                yield subject.finding("limit-velocity", message, episode=episode, frame=frame, joint=vector.name(i))


def grippers(subject: Subject) -> Iterator[Finding]:
    """Episodes in which no gripper moves, where others use it; only a profile says which joint is one."""
    vector = subject.recording.vectors.get(STATE)
    if subject.profile is None or vector is None or not subject.profile.gripper:
        return
    joints = match_joints(subject.profile, vector, STATE)
    places = [i for i, joint in enumerate(joints) if joint is not None and joint.name in subject.profile.gripper]
    whole = subject.recording.stacked(STATE)
    if not places or not len(whole) or max(places) >= whole.shape[1]:
        return
    reach = np.ptp(whole[:, places], axis=0)
    for episode, values in subject.recording.values(STATE):
        if (reach > 0).any() and (np.ptp(values[:, places], axis=0) < 0.05 * reach).all():
            yield subject.finding("gripper-inert", f"No gripper moves in episode {episode}.", episode=episode)


def actions_against_states(subject: Subject) -> Iterator[Finding]:
    """Actions that are the states themselves, come late, or have another range; and the lag between them."""
    match = counterparts(subject)
    recording = subject.recording
    states, actions = dict(recording.values(STATE)), dict(recording.values(ACTION))
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
        yield subject.finding("action-equals-state", f"The action equals the state in all {len(pairs)} episodes.")
        return
    yield from _ranges(subject, left, pairs)
    lag, strength = _lag(pairs, moving, max(1, int(_LONGEST_LAG_S * subject.fps)))
    if strength < 0.5:
        return
    exact = lag > 0 and all(np.array_equal(a[:-lag, moving], s[lag:, moving]) for s, a in pairs if len(s) > lag)
    if lag < 0:
        late = f"{-lag} frames ({-1000 * lag / subject.fps:.0f} ms)"
        yield subject.finding("action-late", f"The actions follow the states by {late}: they come after the motion.")
    elif exact:
        later = f"{numbered(lag, 'frame')} later"
        yield subject.finding(
            "action-lag", f"The action is the state {later}, exactly: recorded from the robot itself."
        )
    else:
        message = f"The states follow the actions by {lag} frames ({1000 * lag / subject.fps:.0f} ms)."
        yield subject.finding("action-lag", message)


def _ranges(subject: Subject, left: list[int], pairs: list[tuple[Values, Values]]) -> Iterator[Finding]:
    vector = subject.recording.vectors[STATE]
    state, action = (np.ptp(np.concatenate([pair[side] for pair in pairs]), axis=0) for side in (0, 1))
    for j, joint in enumerate(left):
        small, large = sorted((float(state[j]), float(action[j])))
        if small > 0 and large > 10 * small:
            message = (
                f"Joint '{vector.name(joint)}' has a range of {state[j]:.4g} as state and {action[j]:.4g} as action."
            )
            yield subject.finding("action-range", message, joint=vector.name(joint))


def _lag(pairs: list[tuple[Values, Values]], moving: list[int], longest: int) -> tuple[int, float]:
    """(frames by which states follow actions, correlation): where the speeds of both correlate best."""
    best, strength = 0, -1.0
    speeds = [(np.diff(s[:, moving], axis=0), np.diff(a[:, moving], axis=0)) for s, a in pairs]
    for lag in sorted(range(-longest, longest + 1), key=abs):
        product = left = right = 0.0
        for s, a in speeds:
            n = len(s) - abs(lag)
            if n < 3:
                continue
            s_part, a_part = (s[lag:], a[:n]) if lag >= 0 else (s[:n], a[-lag:])
            # Joints count alike, whatever their units.
            scale = s.std(axis=0) * a.std(axis=0)
            used = scale > 0
            product += float((s_part[:, used] * a_part[:, used] / scale[used]).sum())
            left += float((s_part[:, used] ** 2 / s.std(axis=0)[used] ** 2).sum())
            right += float((a_part[:, used] ** 2 / a.std(axis=0)[used] ** 2).sum())
        value = product / np.sqrt(left * right) if left > 0 and right > 0 else -1.0
        if value > strength + 1e-6:
            best, strength = lag, float(value)
    return best, strength
