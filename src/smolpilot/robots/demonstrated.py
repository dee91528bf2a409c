"""Demonstrated: how fast each joint was moved in the demonstrations, where episodes began; `operating_limits.json`.

The limit of a joint's velocity is 1.5 times the 99.9 % quantile of |a[t+1] - a[t]| * rate, that of its acceleration 1.5
times the same quantile of |v[t+1] - v[t]| * rate, where a are commanded positions and v the signed velocities between
them, within one episode. Both are in the profile's units (per s, per s²). Angles are not wrapped: a command that jumps
from 179 to -179 degrees counts as a step of 358, as it would be sent. `rms_jerk` limits nothing: it is the root of the
mean of (the change of acceleration from frame to frame * rate)² over all episodes, which the report of a robot run
shows beside the run's own. Loads no torch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import pydantic

from smolpilot.common.errors import CheckpointError, DatasetError, ProfileError
from smolpilot.common.json_input import read_json_object
from smolpilot.common.statistics import still_range
from smolpilot.common.text import plain, shown

from .profile import Joint, RobotProfile
from .units import Unit

FILE = "operating_limits.json"
FORMAT = 1
FACTOR, QUANTILE = 1.5, 99.9
_RESTORE = "copy the bundle again; or remove the file, then: smolpilot bundle seal DIR"

type Rows = npt.NDArray[np.floating]
type Episode = tuple[Rows, Rows]
"""The actions [T, A] and states [T, S] of one episode, in the profile's order and units."""
_Positive = Annotated[float, pydantic.Field(gt=0)]
_NotNegative = Annotated[float, pydantic.Field(ge=0)]
_Name = Annotated[str, pydantic.Field(min_length=1, max_length=1_000)]


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


class JointLimits(_Strict):
    """The limits of one commanded joint in `unit` per s and per s²; None where the demonstrations say nothing of it.

    That is so for a joint that never moved, or so seldom that more than 99.9 % of its steps are rounding, and where no
    episode has the two (velocity) or three (acceleration) frames that it takes. rms_jerk: how smoothly it was
    commanded, in `unit` per s³, no limit; None for a joint that never moved, where no episode has four frames, and in
    files of before.
    """

    name: _Name
    unit: Unit
    velocity: _Positive | None
    acceleration: _Positive | None
    rms_jerk: _NotNegative | None = None


class StartPose(_Strict):
    """Where a joint of the state was in the first frames of the episodes, in `unit`: quantiles over the episodes."""

    name: _Name
    unit: Unit
    q00: float
    q01: float
    q50: float
    q99: float
    q100: float

    @pydantic.model_validator(mode="after")
    def _ordered(self) -> StartPose:
        values = [self.q00, self.q01, self.q50, self.q99, self.q100]
        if values != sorted(values):
            raise ValueError(f"the quantiles of joint '{self.name}' fall: {values}")
        return self


class Origin(_Strict):
    """Demonstrations that limits come from: the episodes of one dataset, `rate` frames per second."""

    dataset: _Name
    fingerprint: str | None
    rate: _Positive
    frames: Annotated[int, pydantic.Field(ge=1)]
    episodes: Annotated[tuple[int, ...], pydantic.Field(min_length=1)]


class Demonstrated(_Strict):
    """Limits of the action's joints and start poses of the state's, both in the order of the profile's vectors.

    origins: where they come from, the newest first. Of several, each limit and each jerk is the highest of its joint,
    each start range the widest, and the median that of the newest.
    """

    format: Literal[1] = 1
    factor: _Positive = FACTOR
    quantile: Annotated[float, pydantic.Field(gt=50, lt=100)] = QUANTILE
    joints: Annotated[tuple[JointLimits, ...], pydantic.Field(min_length=1)]
    start_poses: Annotated[tuple[StartPose, ...], pydantic.Field(min_length=1)]
    origins: Annotated[tuple[Origin, ...], pydantic.Field(min_length=1)]

    @pydantic.model_validator(mode="after")
    def _unique(self) -> Demonstrated:
        for names in ([joint.name for joint in self.joints], [pose.name for pose in self.start_poses]):
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"joint '{twice[0]}' is there twice")
        return self

    @property
    def episodes(self) -> int:
        """How many demonstrations; those that two trainings saw count twice unless they saw the same ones."""
        return sum(len(origin.episodes) for origin in self.origins)

    @property
    def frames(self) -> int:
        """How many frames they have, counted alike."""
        return sum(origin.frames for origin in self.origins)

    @classmethod
    def from_episodes(cls, episodes: Iterable[Episode], profile: RobotProfile, origin: Origin) -> Demonstrated:
        """Limits and start poses of the episodes that `origin` names, which has their exact number of frames.

        Nothing of an episode is held once it has been read, but for what the quantiles are made of. DatasetError for
        values that are not finite, another number of values or of frames.
        """
        found = _Collected(profile, origin.frames)
        for action, state in episodes:
            found.add(np.asarray(action, np.float64), np.asarray(state, np.float64))
        if found.frames != origin.frames:
            raise DatasetError(
                f"The episodes of {origin.dataset} have {found.frames} frames.", expected=f"{origin.frames}, as stated"
            )
        return cls(joints=found.limits(origin.rate), start_poses=found.start_poses(), origins=(origin,))

    @classmethod
    def from_json(cls, values: Any, where: object = FILE) -> Demonstrated:
        """What `to_json` gave; CheckpointError names the key of the file `where` that does not fit."""
        if isinstance(values, dict) and isinstance(values.get("format"), int) and values["format"] > FORMAT:
            raise CheckpointError(
                f"{where} is of format {shown(values['format'])}.",
                expected=f"format {FORMAT}",
                fix="update smolpilot to the version that wrote it, or a later one",
            )
        try:
            return cls.model_validate_json(json.dumps(values))
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise CheckpointError(
                f"{where} cannot be used: {f'{plain(place, 200)} is {shown(first["input"])}: ' if place else ''}"
                f"{plain(first['msg'], 300)}.",
                expected=f"limits of the demonstrations as training writes them, finite and above 0, or null ({FILE} "
                "in docs/bundle-format.md)",
                fix=_RESTORE,
            ) from None

    def to_json(self) -> dict[str, Any]:
        """As plain values, for `operating_limits.json`."""
        return self.model_dump(mode="json")

    def limits_of(self, name: str) -> JointLimits | None:
        """The limits of the commanded joint `name`; None where the demonstrations have no such joint."""
        return next((joint for joint in self.joints if joint.name == name), None)

    def start_of(self, name: str) -> StartPose | None:
        """The start pose of the joint `name` of the state, or None."""
        return next((pose for pose in self.start_poses if pose.name == name), None)

    def for_profile(self, profile: RobotProfile) -> Demonstrated | None:
        """The same in the joint order of a profile; None where it has other joints or units."""
        limits = {(joint.name, joint.unit): joint for joint in self.joints}
        starts = {(pose.name, pose.unit): pose for pose in self.start_poses}
        action, state = _keys(profile.action_joints), _keys(profile.state_joints)
        if limits.keys() != set(action) or starts.keys() != set(state):
            return None
        joints, poses = tuple(limits[key] for key in action), tuple(starts[key] for key in state)
        return self.model_copy(update={"joints": joints, "start_poses": poses})


def together(parts: Sequence[Demonstrated]) -> Demonstrated:
    """One of several, the newest first, all of the same joints in the same order: see Demonstrated.

    ProfileError where they differ. Of two trainings that saw the same episodes the origin is kept once.
    """
    first = parts[0]
    for part in parts[1:]:
        if _form(part) != _form(first):
            raise ProfileError(
                "The limits of two sets of demonstrations are of different joints, or were computed differently.",
                expected="the same joints in the same units",
            )
    joints = tuple(
        joint.model_copy(update={
            "velocity": _highest(part.joints[i].velocity for part in parts),
            "acceleration": _highest(part.joints[i].acceleration for part in parts),
            "rms_jerk": _highest(part.joints[i].rms_jerk for part in parts),
        })
        for i, joint in enumerate(first.joints)
    )  # fmt: skip
    poses = tuple(
        pose.model_copy(update={
            **{name: min(getattr(part.start_poses[i], name) for part in parts) for name in ("q00", "q01")},
            **{name: max(getattr(part.start_poses[i], name) for part in parts) for name in ("q99", "q100")},
        })
        for i, pose in enumerate(first.start_poses)
    )  # fmt: skip
    origins = tuple(dict.fromkeys(origin for part in parts for origin in part.origins))
    return first.model_copy(update={"joints": joints, "start_poses": poses, "origins": origins})


def read_demonstrated(bundle_dir: str | Path) -> Demonstrated | None:
    """The limits that a bundle (or an export) keeps; None where it keeps none, as older ones do.

    Reads this one file, without torch, for the process that controls an arm. Its digest is not compared: whoever opens
    the policy does that. Raises CheckpointError for a file that is damaged or holds what cannot be a limit.
    """
    path = Path(bundle_dir) / FILE
    if not path.is_file():
        return None
    try:
        values = read_json_object(path)
    except ValueError as error:
        raise CheckpointError(f"{path} cannot be read: {plain(error, 300)}.", fix=_RESTORE) from error
    return Demonstrated.from_json(values, path)


class _Collected:
    """What the quantiles of the episodes seen so far are made of."""

    def __init__(self, profile: RobotProfile, frames: int) -> None:
        self._action, self._state = profile.action_joints, profile.state_joints
        self._steps, self._changes = (_Largest(len(self._action), frames) for _ in range(2))
        self._jerk_squares, self._jerks = np.zeros(len(self._action)), 0
        self._span = np.zeros(len(self._action))  # the widest range of an episode
        self._starts: list[Rows] = []
        self._low, self._high = np.full(len(self._action), np.inf), np.full(len(self._action), -np.inf)
        self.frames = 0

    def add(self, action: Rows, state: Rows) -> None:
        """One episode."""
        for what, values, joints in (("action", action, self._action), ("state", state, self._state)):
            if values.ndim != 2 or values.shape[1] != len(joints) or len(values) != len(action):
                raise DatasetError(
                    f"The {what} of an episode has shape {list(values.shape)}.",
                    expected=f"[{len(action)}, {len(joints)}]: frames, joints",
                )
            if (bad := np.argwhere(~np.isfinite(values))).size:
                frame, joint = bad[0]
                raise DatasetError(f"The {what} of joint '{joints[joint].name}' is not finite in frame {frame}.")
        if not len(action):
            return
        steps = np.diff(action, axis=0)
        self._steps.add(np.abs(steps))
        self._changes.add(np.abs(np.diff(steps, axis=0)))
        third = np.diff(steps, 2, axis=0)
        self._jerk_squares += (third**2).sum(axis=0)
        self._jerks += len(third)
        self._span = np.maximum(self._span, np.ptp(action, axis=0))
        self._starts.append(state[0].copy())  # a view would hold the episode
        self._low, self._high = np.minimum(self._low, action.min(axis=0)), np.maximum(self._high, action.max(axis=0))
        self.frames += len(action)

    def limits(self, rate: float) -> tuple[JointLimits, ...]:
        """Of every commanded joint."""
        noise = still_range(self._low, self._high)
        velocity = self._above_noise(self._steps, noise, FACTOR * rate)
        acceleration = self._above_noise(self._changes, noise, FACTOR * rate**2)
        jerk = self._rms_jerk(noise, rate)
        return tuple(
            JointLimits(
                name=joint.name, unit=joint.unit, velocity=velocity[i], acceleration=acceleration[i], rms_jerk=jerk[i]
            )
            for i, joint in enumerate(self._action)
        )

    def start_poses(self) -> tuple[StartPose, ...]:
        """Of every joint of the state."""
        found = np.quantile(np.stack(self._starts), [0, 0.01, 0.5, 0.99, 1], axis=0)
        found = np.maximum.accumulate(found)  # interpolation rounds
        names = ("q00", "q01", "q50", "q99", "q100")
        return tuple(
            StartPose(name=joint.name, unit=joint.unit, **dict(zip(names, found[:, i].tolist(), strict=True)))
            for i, joint in enumerate(self._state)
        )

    def _rms_jerk(self, noise: Rows, rate: float) -> list[float | None]:
        found = np.sqrt(self._jerk_squares / max(1, self._jerks)) * rate**3
        known = (self._span > noise) & (self._jerks > 0)
        return [float(value) if says else None for value, says in zip(found, known, strict=True)]

    @staticmethod
    def _above_noise(steps: _Largest, noise: Rows, scale: float) -> list[float | None]:
        found = steps.quantile()
        if found is None:
            return [None] * len(noise)
        return [float(step) * scale if step > rest else None for step, rest in zip(found, noise, strict=True)]


class _Largest:
    """The largest of at most `most` rows of each column: all that a high quantile is interpolated between."""

    def __init__(self, columns: int, most: int) -> None:
        self._keep = math.ceil(most * (1 - QUANTILE / 100)) + 2
        self._values: Rows = np.empty((0, columns))
        self._rows = 0

    def add(self, rows: Rows) -> None:
        self._rows += len(rows)
        self._values = np.concatenate([self._values, rows])
        if (spare := len(self._values) - self._keep) > 0:
            self._values = np.partition(self._values, spare, axis=0)[spare:]

    def quantile(self) -> Rows | None:
        """As np.quantile of all rows would be, [columns]; None without any."""
        if not self._rows:
            return None
        place = (self._rows - 1) * (QUANTILE / 100)
        below = math.floor(place)
        from_top = np.sort(self._values, axis=0)[::-1]
        low, high = from_top[self._rows - 1 - below], from_top[max(self._rows - 2 - below, 0)]
        result: Rows = low + (high - low) * (place - below)
        return result


def _keys(joints: Sequence[Joint | JointLimits | StartPose]) -> list[tuple[str, Unit]]:
    return [(joint.name, joint.unit) for joint in joints]


def _form(part: Demonstrated) -> tuple[object, ...]:
    return _keys(part.joints), _keys(part.start_poses), part.factor, part.quantile


def _highest(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)
