"""Governor: the one gate between whoever asks and the motors. No device and no clock of its own: one call per tick."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from smolpilot.common.errors import DeviceError
from smolpilot.contracts import DriverLimits, Flag, JointReadings, Joints, Stop, StopCategory
from smolpilot.runtime.limits import EffectiveLimits

from .clamps import ClampShare
from .health import Health, Trouble
from .limiter import Limits, Motion, Moved, slow_down, step_to
from .options import GovernorOptions
from .request import Decision, Phase, Request

_EARLY = 0.5  # of a tick that one may come before its time
_GAP = 2.5  # ticks without a command after which the arm has come to rest at the last one
_NEAR, _NEAR_S = 0.005, 0.3  # of a joint's range; seconds so near to what is asked for after which the ramp is over


class Governor:
    """Turns requests into commands that are within the limits of the last command, tick after tick.

    `start` says where the arm is held; each tick takes the newest reading and the request, and gives the command. What
    was clamped, held or stopped is in the decision's flags and in `counts`. A stop is in force until `rearm`.
    """

    def __init__(
        self,
        limits: EffectiveLimits,
        rate: float,
        *,
        servos: Mapping[str, DriverLimits] | None = None,
        options: GovernorOptions | None = None,
    ) -> None:
        """rate: ticks per second that are meant; a tick that comes late moves the arm no farther."""
        self.limits, self.options = limits, options or GovernorOptions()
        self.phase = Phase.DISENGAGED
        self.stop: Stop | None = None
        self.counts: Counter[tuple[str, str]] = Counter()
        """(flag, joint) -> ticks; the joint is "" for what concerns the whole command."""
        self._tick = 1.0 / rate
        self._names = limits.names
        self._full = Limits(limits.low, limits.high, limits.velocity, limits.acceleration)
        share = self.options.ramp_share
        self._slow = Limits(limits.low, limits.high, limits.velocity * share, limits.acceleration * share)
        self._health = Health(limits, servos or {}, self.options)
        self._clamps = ClampShare(limits, self._tick, self.options.clamp_window)
        self._ramp_clamps = ClampShare(limits.scaled(share), self._tick, self.options.clamp_window)
        self._motion: Motion | None = None
        self._forget()

    def _forget(self) -> None:
        """Nothing of what was asked and seen before holds any more."""
        self._asked: Joints | None = None
        self._at: float | None = None
        self._spare = _EARLY * self._tick
        self._reading: JointReadings | None = None
        self._starved_since: float | None = None
        self._rejected = 0
        self._relaxed: dict[str, float] = {}  # joint -> where it gave way to
        self._ramping = np.ones(len(self._names), dtype=bool)
        self._near = np.zeros(len(self._names))  # seconds
        self._softened: set[str] = set()
        self._clamps.clear()
        self._ramp_clamps.clear()

    @property
    def last_command(self) -> Joints | None:
        """The last command [A]; None before `start`."""
        return None if self._motion is None else self._motion.position.copy()

    @property
    def at_rest(self) -> bool:
        """Whether commands stand still."""
        return self._motion is None or not self._motion.velocity.any()

    def moving(self, now: float) -> bool:
        """Whether the last command was on the way somewhere, and is so young that the arm is, too."""
        return not self.at_rest and self._at is not None and now - self._at <= _GAP * self._tick

    def start(self, held: Joints) -> None:
        """The arm is held at `held` [A], under torque: from there the first request is approached slowly.

        DeviceError for what is no finite position of every joint.
        """
        if held.shape != (len(self._names),) or not bool(np.isfinite(held).all()):
            raise DeviceError("The arm does not say where all its joints are.", expected="a position of every joint")
        self._motion = Motion(held.astype(np.float64), np.zeros(len(self._names)))
        self._forget()
        self._health.reset()
        self.phase = Phase.STOPPED if self.stop is not None else Phase.RAMP

    def halt(self, category: StopCategory, reason: str) -> None:
        """Stop, from now on: commands slow down within the limits and stand. The first reason is kept."""
        if self.stop is None or category < self.stop.category:
            self.stop = Stop(category, reason if self.stop is None else self.stop.reason)
        if self.phase is not Phase.DISENGAGED:
            self.phase = Phase.STOPPED

    def rearm(self, held: Joints) -> None:
        """A person has looked and lifts the stop: the arm, which is held at `held`, may move again, slowly at first."""
        self.stop = None
        self.start(held)

    def imagine(self, position: Joints, velocity: Joints) -> None:
        """Go on from there, [A], as far as the limits let one be there: for an arm that is told nothing."""
        full = self._full
        if self._motion is not None:
            self._motion = Motion(
                np.clip(position, full.low, full.high), np.clip(velocity, -full.velocity, full.velocity)
            )
            self._asked = self._motion.position

    def disengage(self) -> None:
        """Torque is no longer ours: nothing is sent until `start`."""
        self.phase, self._motion = Phase.DISENGAGED, None

    def tick(
        self,
        now: float,
        request: Request | None,
        reading: JointReadings | None,
        images: Mapping[str, float] | None = None,
    ) -> Decision:
        """The command of this tick.

        request: what is asked for, None where nothing is; reading: the newest one of the joints, None where there never
        was one; images: camera -> when its newest image was captured.
        """
        flags: dict[str, set[str]] = {}
        action, requested = self._trusted(request, flags)
        if self._motion is None:
            flags.setdefault(Flag.STOPPED, set())
            return self._decide(requested, None, flags, {})
        self._check_gap(now)
        dt = self._step_time(now)
        torque = self._look(now, reading, flags)
        if self.stop is None:
            self._check_ages(now, request, images or {}, flags)
        if self.stop is None:
            self._check_request(now, request, action, flags)
        before = self._motion.position
        if dt > 0:
            self._move(dt, action, flags)
        news = self.stop is None or not np.array_equal(before, self._motion.position)
        if self.stop is not None:
            flags.setdefault(Flag.STOPPED, set())
        return self._decide(requested, self._motion.position.copy(), flags, torque, send=news)

    def _decide(
        self,
        requested: npt.NDArray[np.float32],
        command: Joints | None,
        flags: Mapping[str, set[str]],
        torque: Mapping[str, float],
        *,
        send: bool = False,
    ) -> Decision:
        order = {name: i for i, name in enumerate(self._names)}
        told = {str(flag): tuple(sorted(names, key=lambda n: order.get(n, 0))) for flag, names in flags.items()}
        for flag, names in told.items():
            self.counts.update((flag, name) for name in names or ("",))
        return Decision(requested, command, told, self.stop, tuple(self._relaxed), torque or None, send)

    def _check_gap(self, now: float) -> None:
        """A process that was halted, or a machine that slept, does not go on by itself where it was."""
        gap = 0.0 if self._at is None else now - self._at
        if gap > max(self.options.max_starved, _GAP * self._tick):
            self._stop(f"The control loop stood still for {gap:.1f} s.")

    def _step_time(self, now: float) -> float:
        """How much time this tick's motion has: a tick, also where it comes a little early or late.

        Never more time than has passed, but for half a tick: whoever calls too often moves no faster.
        """
        elapsed = self._tick if self._at is None else now - self._at
        if elapsed <= 0:
            return 0.0
        if elapsed > _GAP * self._tick and self._motion is not None:
            self._motion = Motion(self._motion.position, np.zeros(len(self._names)))
        self._at = now
        self._spare = min(self._spare + elapsed, (1 + _EARLY) * self._tick)
        dt = min(self._spare, self._tick)
        self._spare -= dt
        return dt

    def _trusted(
        self, request: Request | None, flags: dict[str, set[str]]
    ) -> tuple[Joints | None, npt.NDArray[np.float32]]:
        """The request as numbers that may be computed with, None where it is none, and as it was asked for."""
        empty = np.zeros(0, dtype=np.float32)
        if request is None:
            held = empty if self._motion is None else self._motion.position.astype(np.float32)
            return None, held
        try:
            with np.errstate(all="ignore"):
                given = np.asarray(request.action)
                # Text, dates and truth values turn into numbers, too, and nobody has meant any.
                action = given.astype(np.float64) if given.dtype.kind in "fiu" else np.zeros(0)
                requested = action.astype(np.float32)
        except Exception:  # an action makes its array itself, and may raise what it likes
            action, requested = np.zeros(0), empty
        if action.shape != (len(self._names),):
            flags.setdefault(Flag.WRONG_LENGTH, set())
            return None, requested.reshape(-1)
        # A number that float32 cannot hold was never a position, and the log could not tell it.
        bad = ~np.isfinite(requested)
        if bad.any():
            flags.setdefault(Flag.NOT_FINITE, set()).update(np.array(self._names)[bad].tolist())
            return None, requested
        return action, requested

    def _look(self, now: float, reading: JointReadings | None, flags: dict[str, set[str]]) -> dict[str, float]:
        """Judge the newest reading; stops where it must. Torque limits that change."""
        assert self._motion is not None
        age = np.inf if reading is None else now - reading.read_at
        if not self._young(age, self.options.max_state_age):
            flags.setdefault(Flag.STALE_STATE, set())
            told = f"The joints were read {age:.2f} s ago; {self.options.max_state_age:g} s are allowed."
            self._stop(told if 0 <= age < np.inf else _old("The newest reading of the joints", age, 0.0))
        if reading is None or reading is self._reading:
            return {}
        self._reading = reading
        troubles, gripping = self._health.look(reading, self._motion.position, self._motion.velocity)
        for trouble in troubles:
            self._give_way(trouble, reading, flags)
        if gripping:
            flags.setdefault(Flag.STALL, set()).update(gripping)
        return self._soften(gripping, reading)

    def _give_way(self, trouble: Trouble, reading: JointReadings, flags: dict[str, set[str]]) -> None:
        """Stop; a joint that gives way goes to where it is measured now, once: whoever follows every reading sinks."""
        flags.setdefault(trouble.flag, set()).update(trouble.joints)
        self._stop(trouble.reason)
        for name in trouble.relax:
            if np.isfinite(where := reading.position[self._names.index(name)]):
                self._relaxed.setdefault(name, float(where))

    def _soften(self, gripping: tuple[str, ...], reading: JointReadings) -> dict[str, float]:
        """A gripper that has closed on something holds it with less force, and has all of it again once it follows.

        Under a stop only the former: nothing gains force while nobody has looked.
        """
        assert self._motion is not None
        changed: dict[str, float] = {}
        for i, joint in enumerate(self.limits.joints):
            if joint.torque is None or not joint.gripper:
                continue
            if joint.joint in gripping and joint.joint not in self._softened:
                self._softened.add(joint.joint)
                changed[joint.joint] = joint.torque.value * self.options.gripper_hold
            elif joint.joint in self._softened and self.stop is None:
                error = abs(self._motion.position[i] - reading.position[i])
                if error < self.options.stall_error * joint.range:
                    self._softened.remove(joint.joint)
                    changed[joint.joint] = joint.torque.value
        return changed

    def _check_ages(
        self, now: float, request: Request | None, images: Mapping[str, float], flags: dict[str, set[str]]
    ) -> None:
        """Observation, image, chunk and action have a greatest age each."""
        if request is None:
            return
        options = self.options
        if not self._young(now - request.asked_at, options.max_action_age):
            flags.setdefault(Flag.STALE_ACTION, set())
            self._stop(_old("What is asked for", now - request.asked_at, options.max_action_age))
        if request.observed_at is not None and not self._young(now - request.observed_at, options.max_chunk_age):
            flags.setdefault(Flag.STALE_CHUNK, set())
            self._stop(_old("The observation behind the action", now - request.observed_at, options.max_chunk_age))
        for camera in request.sees:
            age = now - images.get(camera, -np.inf)
            if not self._young(age, options.max_image_age):
                flags.setdefault(Flag.STALE_IMAGE, set()).add(camera)
                self._stop(_old(f"The newest image of camera '{camera}'", age, options.max_image_age))

    def _young(self, age: float, most: float) -> bool:
        """Whether an age is one: no number is not, nor a time to come, which another clock has told."""
        return -self._tick <= age <= most

    def _check_request(
        self, now: float, request: Request | None, action: Joints | None, flags: dict[str, set[str]]
    ) -> None:
        """Hold for a tick, or stop: no request for too long, requests that are none, requests far outside."""
        if request is None:
            flags.setdefault(Flag.STARVED, set())
            self._starved_since = now if self._starved_since is None else self._starved_since
            if now - self._starved_since > self.options.max_starved:
                self._stop(f"Nobody has asked for anything for {now - self._starved_since:.2f} s.")
            return
        self._starved_since = None
        if action is None:
            self._rejected += 1
            if self._rejected >= self.options.max_rejected:
                kind = "not finite" if Flag.NOT_FINITE in flags else f"not {len(self._names)} numbers"
                self._stop(f"{self._rejected} requests in a row were {kind}.")
            return
        self._rejected = 0
        span = self.limits.high - self.limits.low
        outside = self._outside(action)
        far = outside > self.options.position_stop * span
        if far.any():
            i = int(np.argmax(outside / span))
            joint = self.limits.joints[i]
            flags.setdefault(Flag.POSITION, set()).update(np.array(self._names)[far].tolist())
            self._stop(
                f"'{joint.joint}' is asked to go to {action[i]:.4g} {joint.unit}; its limits are "
                f"{joint.low.value:.4g} ({joint.low.origin}) and {joint.high.value:.4g} ({joint.high.origin})."
            )

    def _outside(self, action: Joints) -> Joints:
        """How far a request is beyond the limits, or beyond where a joint stands that is outside them [A]."""
        assert self._motion is not None
        low = np.minimum(self.limits.low, self._motion.position)
        high = np.maximum(self.limits.high, self._motion.position)
        beyond: Joints = np.maximum(low - action, action - high)
        return beyond

    def _move(self, dt: float, action: Joints | None, flags: dict[str, set[str]]) -> None:
        """One tick of motion: on to the request, or to rest."""
        assert self._motion is not None
        if self.stop is not None:
            self._motion = self._yield(dt)
            self._asked = None
            return
        if action is None:
            self._motion = slow_down(self._motion, dt, self._full)
            self._asked = None
            return
        outside = self._outside(action)
        before = self._motion.position if self._asked is None else self._asked
        slow, full = self._slow, self._full
        velocity = np.where(self._ramping, slow.velocity, full.velocity)
        acceleration = np.where(self._ramping, slow.acceleration, full.acceleration)
        moved = step_to(self._motion, action, before, dt, Limits(full.low, full.high, velocity, acceleration))
        self._motion, self._asked = moved.motion, action
        self._count(moved, outside, dt, flags)
        self._end_ramp(moved, action, dt)

    def _end_ramp(self, moved: Moved, action: Joints, dt: float) -> None:
        """Joint by joint, once it is where it is asked to be; with a policy's noise it is only ever near."""
        wanted = np.clip(action, self.limits.low, self.limits.high)
        near = np.abs(wanted - moved.motion.position) <= _NEAR * (self.limits.high - self.limits.low)
        self._near += np.where(near, dt, 0.0)
        self._ramping &= (moved.velocity | moved.acceleration) & (self._near < _NEAR_S)
        if self.phase is Phase.RAMP and not self._ramping.any():
            self.phase = Phase.RUNNING

    def _count(self, moved: Moved, outside: Joints, dt: float, flags: dict[str, set[str]]) -> None:
        """Say what was clamped; many clamps are a stop."""
        names = np.array(self._names)
        for flag, marks in (
            (Flag.POSITION, moved.position),
            (Flag.VELOCITY, moved.velocity),
            (Flag.ACCELERATION, moved.acceleration),
        ):
            if marks.any():
                flags.setdefault(flag, set()).update(names[marks].tolist())
        behind = moved.velocity | moved.acceleration
        if (slow := behind & self._ramping).any():
            flags.setdefault(Flag.RAMP, set()).update(names[slow].tolist())
        span = self.limits.high - self.limits.low
        counts = behind | (outside > self.options.position_tolerated * span)
        for window, marks in ((self._clamps, counts & ~self._ramping), (self._ramp_clamps, counts & self._ramping)):
            share = window.add(marks, dt)
            if (share > self.options.max_clamped).any():
                i = int(np.argmax(share))
                self._stop(
                    f"'{names[i]}' was clamped in {share[i]:.0%} of the ticks of the last {window.seconds[i]:.1f} s: "
                    f"what is asked for is not what this arm may do."
                )

    def _yield(self, dt: float) -> Motion:
        """To rest; joints that gave way go back to where they are, within the same limits."""
        assert self._motion is not None
        resting = slow_down(self._motion, dt, self._full)
        if not self._relaxed:
            return resting
        where = np.array([self._relaxed.get(n, p) for n, p in zip(self._names, self._motion.position, strict=True)])
        back = step_to(self._motion, where, where, dt, self._full).motion
        gives = np.array([name in self._relaxed for name in self._names])
        return Motion(
            np.where(gives, back.position, resting.position), np.where(gives, back.velocity, resting.velocity)
        )

    def _stop(self, reason: str) -> None:
        self.halt(StopCategory.HOLD, reason)


def _old(what: str, age: float, allowed: float) -> str:
    if not np.isfinite(age):
        return f"{what} was never there, or has no time."
    if age < 0:
        return f"{what} has a time {-age:.2f} s to come: is it of another clock?"
    return f"{what} is {age:.2f} s old; {allowed:g} s are allowed."
