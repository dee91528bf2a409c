"""EnvironmentPlant: a simulated world whose arm the emulated servos move, and whose images cameras show."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import numpy.typing as npt

from smolpilot.common.errors import UsageError, explain
from smolpilot.common.keys import STATE, image_key
from smolpilot.common.text import shown
from smolpilot.contracts.environment import Environment, Outcome
from smolpilot.contracts.observation import Image, Observation
from smolpilot.contracts.registry import ENVIRONMENTS
from smolpilot.robots import RobotProfile
from smolpilot.runtime.cameras.shared_frames import SharedFrameWriter, frames_file

from .joint_steps import JointSteps
from .plants import JointCommand, JointState

type _Steps = npt.NDArray[np.float64]  # [A] steps of the encoders

_STILL = 0.02  # steps in one step of the world: less is no motion
_NEAR = 12.0  # steps from where the arm stood, about one degree
_PATIENCE, _SCENES = 200, 10
_MOVING = 10.0  # steps per second


class _Seen(NamedTuple):
    """A step of the world: where the joints are, and its images."""

    positions: _Steps
    images: Mapping[str, Image]


class EnvironmentPlant:
    """Goals go to `env.step` at its rate; between its steps the joints move evenly. Time is the servos'.

    - A joint without torque stays: environments know no limp arm.
    - A world in which nothing moves is not stepped, so that an arm that waits uses no episode up. Its images are shown
      anew at each step's time, as a camera would see it.
    - An episode that ends is followed by the next seed's, in which the arm is first brought to where it stood. Where
      that is not possible within some tries, as when the new scene is in the way, the joints jump.
    """

    def __init__(
        self,
        env: Environment,
        steps: Mapping[str, JointSteps],
        *,
        frames: Path | None = None,
        outcomes: Path | None = None,
        seed: int = 0,
        clock: Callable[[], float] = time.monotonic,
        wait: bool = True,
    ) -> None:
        """steps: of each joint, in the servos' order. frames: where images go. outcomes: a file that gets a line of
        JSON for each episode that ends: `seed`, `success`, `label`, `steps`. wait: see `make_bus`.

        UsageError for outcomes that cannot be written."""
        self._env, self._steps, self._clock, self._wait = env, list(steps.values()), clock, wait
        profile = env.spec.profile
        states, actions = ([joint.name for joint in part] for part in (profile.state_joints, profile.action_joints))
        self._state_at = [states.index(name) for name in steps]
        self._action_from = [list(steps).index(name) for name in actions]
        self._seed, self._period = seed, 1 / env.spec.rate
        self._closing = ExitStack()
        self._closing.callback(env.close)
        try:
            self._outcomes = None if outcomes is None else self._closing.enter_context(_appended(outcomes))
            self._seen = self._reset()
            self._writers = {} if frames is None else self._make_writers(frames)
            self._show()
        except BaseException:
            self._closing.close()
            raise
        self._from = self._to = self._seen.positions
        self._passed = self._period  # of the step that is under way
        self._moved = True
        self._last: _Steps | None = None  # goals of the last step
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="environment")
        self._closing.callback(self._worker.shutdown)
        self._pending: Future[_Seen] | None = None

    @classmethod
    def of_name(
        cls,
        name: str,
        profile: RobotProfile,
        steps: Mapping[str, JointSteps],
        *,
        frames: Path | None = None,
        outcomes: Path | None = None,
        seed: int = 0,
        clock: Callable[[], float] = time.monotonic,
        wait: bool = True,
    ) -> EnvironmentPlant:
        """The environment of a registered name; UsageError where its robot is another than the profile's."""
        env: Environment = ENVIRONMENTS.get(name)()
        found, wanted = env.spec.profile, {joint.name: joint.unit for joint in profile.action_joints}
        units = {joint.name: joint.unit for joint in found.action_joints}
        if units != wanted or not wanted.keys() <= {joint.name for joint in found.state_joints}:
            env.close()
            raise UsageError(
                f"The environment '{name}' has the robot '{found.name}' with the joints {shown(units)}.",
                expected=f"those of the profile '{profile.name}': {shown(wanted)}",
                fix=f"use the profile '{found.name}'",
            )
        return cls(env, steps, frames=frames, outcomes=outcomes, seed=seed, clock=clock, wait=wait)

    def advance(self, dt: float, commands: Sequence[JointCommand]) -> Sequence[JointState]:
        left, start = dt, self._position()
        while left > 0:
            part = min(left, max(0.0, self._period - self._passed))
            self._passed += part
            left -= part
            if self._period - self._passed <= 1e-9 and not self._next_step(commands):
                break  # the world is late: the joints wait for it
        return self._states(dt, start, commands)

    def close(self) -> None:
        self._closing.close()

    def _next_step(self, commands: Sequence[JointCommand]) -> bool:
        """Begin the world's next step, with the goals as they are; whether it could begin."""
        if self._pending is not None:
            if not self._wait and not self._pending.done():
                return False
            self._take(self._pending.result())
            self._pending = None
            if self._wait:
                return True
        goals = np.array([at if c.goal is None else c.goal for at, c in zip(self._to, commands, strict=True)])
        limp = all(command.goal is None for command in commands)
        if limp or (not self._moved and self._last is not None and np.array_equal(goals, self._last)):
            self._passed, self._from = 0.0, self._to
            self._show()
            return True
        self._last = goals
        self._pending = self._worker.submit(self._step, goals)
        return self._next_step(commands) if self._wait else True

    def _take(self, seen: _Seen) -> None:
        self._from, self._to, self._passed = self._to, seen.positions, 0.0
        self._moved = bool(np.abs(self._to - self._from).max() > _STILL)
        self._seen = seen
        self._show()

    def _position(self) -> _Steps:
        share = min(1.0, self._passed / self._period)
        return self._from + (self._to - self._from) * share

    def _states(self, dt: float, start: _Steps, commands: Sequence[JointCommand]) -> list[JointState]:
        found = []
        for at, before, command in zip(self._position(), start, commands, strict=True):
            velocity = float(at - before) / dt if dt > 0 else 0.0
            goal, force, gain = command
            load = 0.0 if goal is None else min(force, max(-force, gain * float(goal - at)))
            # What the world's motors exert nobody knows: a joint that is moving meets nothing.
            torque = load if abs(velocity) < _MOVING else 0.0
            found.append(JointState(float(at), velocity, load, torque))
        return found

    # The world

    def _step(self, goals: _Steps) -> _Seen:
        """One step of the world; in the worker's thread."""
        observation, outcome = self._env.step(self._action(goals))
        self._taken += 1
        seen = self._see(observation)
        if outcome is None:
            return seen
        self._note(outcome)
        return self._next_episode(seen.positions)

    def _note(self, outcome: Outcome) -> None:
        """Of the episode that has just ended; what ends while the arm is brought back is nobody's."""
        if self._outcomes is not None:
            told = {"seed": self._seed - 1, "success": outcome.success, "label": outcome.label, "steps": self._taken}
            self._outcomes.write(json.dumps(told).encode() + b"\n")

    def _next_episode(self, stood: _Steps) -> _Seen:
        """The next episode, with the arm brought to where it stood."""
        for _ in range(_SCENES):
            seen = self._reset()
            for _ in range(_PATIENCE):
                if np.abs(seen.positions - stood).max() <= _NEAR:
                    return seen
                observation, outcome = self._env.step(self._action(stood))
                self._taken += 1
                if outcome is not None:
                    break
                seen = self._see(observation)
        return self._reset()

    def _reset(self) -> _Seen:
        observation, _ = self._env.reset(self._seed)
        self._seed += 1
        self._taken = 0
        return self._see(observation)

    def _action(self, goals: _Steps) -> npt.NDArray[np.float32]:
        values = [each.value(goal) for each, goal in zip(self._steps, goals, strict=True)]
        return np.array([values[index] for index in self._action_from], np.float32)

    def _see(self, observation: Observation) -> _Seen:
        state = np.asarray(observation[STATE], np.float64)
        at = [each.encoder(float(state[index])) for each, index in zip(self._steps, self._state_at, strict=True)]
        return _Seen(np.array(at), {name: observation[image_key(name)] for name in self._env.spec.cameras})

    # Its images

    def _make_writers(self, folder: Path) -> dict[str, SharedFrameWriter]:
        return {
            name: self._closing.enter_context(SharedFrameWriter(frames_file(folder, name), *image.shape[:2]))
            for name, image in self._seen.images.items()
        }

    def _show(self) -> None:
        """The world as it is now."""
        now = self._clock()
        for name, writer in self._writers.items():
            writer.write(self._seen.images[name], now)


def _appended(path: Path) -> IO[bytes]:
    """The file, for whole lines at its end."""
    try:
        return path.open("ab", buffering=0)
    except OSError as error:
        refusal = explain(error)
        raise UsageError(f"The outcomes cannot be written. {refusal.found}", fix=refusal.fix) from None
