"""The control process of `smolpilot run`: from a setup and a policy to an arm that moves, and everything closed."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from smolpilot.common.errors import DeviceError, SmolpilotError, UsageError
from smolpilot.contracts import Driver, Joints
from smolpilot.contracts.run_folder import FRAMES, ROBOT, SETUP, RunFacts, now_text
from smolpilot.runtime.governed_robot import GovernedRobot
from smolpilot.runtime.inspection.check_report import CheckLine, CheckReport, Verdict
from smolpilot.runtime.opening import make_robot
from smolpilot.runtime.scheduling import Ask, PlannedChunk, Schedule, ScheduleOptions, Turnarounds
from smolpilot.runtime.setup.robot_setup import RobotSetup
from smolpilot.runtime.signals import StopSignals
from smolpilot.version import __version__

from .channel import Channel
from .pace import ask_for_realtime, no_collection
from .policy_link import PolicyLink, open_request
from .preflight import (
    Orders,
    choose_instruction,
    far_from_start,
    fitting_horizon,
    orders_of,
    policy_lines,
    policy_rate,
    pose_lines,
    schedule_lines,
    start_line,
)
from .protocol import PolicyAbout
from .run_record import RunRecord, limit_facts, machine
from .session import Session, SessionOptions
from .shared_cameras import CameraProcess

type StartPose = Literal["auto", "demonstrations", "setup", "here"]
_OPENING_S, _CHUNK_S = 900.0, 300.0
_WARM = 4
"""Chunks that are computed before an arm moves: the first compiles and allocates, the others say what one takes."""


@dataclass(frozen=True)
class RunPlan:
    """What `smolpilot run` was asked to do; `policy` without the fields that are known later.

    shared: folder of the blocks and images that the processes share; `drive` removes it.
    rate: of the control loop, None: the policy's. speed: share of the limits, and of the policy's own speed. go: the
    arm moves. start_pose: where episodes begin; auto: where the demonstrations began, else the setup's start pose, else
    here.
    """

    setup: RobotSetup
    source: str
    out: Path
    shared: Path
    instruction: str | None = None
    episodes: int = 1
    seconds: float | None = None
    rate: float | None = None
    speed: float = 1.0
    go: bool = False
    unattended: bool = False
    hold_key: str | None = None
    realtime: bool = False
    seed: int = 0
    start_pose: StartPose = "auto"
    schedule: ScheduleOptions = field(default_factory=ScheduleOptions)
    policy: Mapping[str, Any] = field(default_factory=dict)


def drive(plan: RunPlan, channel: Channel, say: Callable[[str], None]) -> int:
    """Run it; 0 when its episodes were run, 1 when a stop ended it. SmolpilotError before anything moves."""
    with StopSignals() as signals, contextlib.ExitStack() as closing:
        # Its parent does it, too, where this process is killed; but who kills the parent leaves it to this one.
        closing.callback(shutil.rmtree, plan.shared, ignore_errors=True)
        link = PolicyLink(plan.out / "policy.log")
        closing.callback(link.close)
        driver = plan.setup.make_driver()
        cameras = CameraProcess(
            plan.setup, plan.shared, plan.out / "cameras.log", lambda: getattr(driver, "frames", None)
        )
        closing.callback(cameras.close)
        closing.callback(driver.disconnect)
        about = _opened(plan, driver, link, say, signals)
        robot = make_robot(
            plan.setup, demonstrated=about.demonstrated, driver=driver, cameras=lambda driver: cameras.cameras(),
            rate=plan.rate or policy_rate(about, plan.setup.profile), share=plan.speed,
        )  # fmt: skip
        closing.callback(robot.disconnect)
        robot.open()
        return _Drive(plan, about, robot, link, cameras, channel, say).run(signals)


def _opened(
    plan: RunPlan, driver: Driver, link: PolicyLink, say: Callable[[str], None], signals: StopSignals
) -> PolicyAbout:
    """Connect the driver, then open the policy: a wrong port is told at once, and no policy that loads on all cores
    keeps servos waiting while they are asked who they are."""
    driver.connect()
    say(f"connected to {plan.setup.name}; opening {plan.source} ...")
    begun = time.monotonic()
    request = open_request(plan.setup, plan.source, plan.shared, plan.instruction, plan.policy)
    about = link.open(request, patience=_OPENING_S, given_up=lambda: _given_up(signals))
    for text in (*about.notes, *(f"warning: {one}" for one in about.warnings)):
        say(text)
    say(f"{plan.source} is open after {time.monotonic() - begun:.1f} s")
    return about


def _given_up(signals: StopSignals) -> str | None:
    """Why nobody waits any more, while nothing moves yet."""
    return None if signals.reason is None else f"{signals.reason} Nothing was moved, and torque is as it was."


class _Drive:
    """One run, with everything open."""

    def __init__(
        self,
        plan: RunPlan,
        about: PolicyAbout,
        robot: GovernedRobot,
        link: PolicyLink,
        cameras: CameraProcess,
        channel: Channel,
        say: Callable[[str], None],
    ) -> None:
        self.plan, self.about, self.robot, self.link = plan, about, robot, link
        self.cameras, self.channel, self.say = cameras, channel, say
        self.profile = plan.setup.profile
        self.rate = policy_rate(about, self.profile)
        self.playback = self.rate * plan.speed
        """Actions of a chunk per second: in slow motion the way is the same, and the arm can follow it."""

    def run(self, signals: StopSignals) -> int:
        plan, about = self.plan, self.about
        instruction = choose_instruction(about, plan.instruction)
        specs = {name: camera.spec for name, camera in self.robot.cameras.items()}
        self._judge(policy_lines(about, self.profile, specs, instruction))
        orders = orders_of(about, self.profile)
        schedule = self._schedule(orders, instruction, signals)
        max_age = self.robot.governor.options.max_chunk_age
        start = self._start()
        self._shorten(schedule, max_age)
        self._judge([
            *schedule_lines(about, schedule, self.playback, max_age),
            *pose_lines({"start pose": start or {}, "parking pose": plan.setup.start_pose}, self.robot.limits, plan.go),
            start_line(about.demonstrated, self.profile, self._begins_at(start), refuse=plan.go),
        ])  # fmt: skip
        if (why := _given_up(signals)) is not None:
            raise DeviceError(why)
        if plan.realtime:
            self.say(ask_for_realtime())
        record = RunRecord(
            plan.out, self._facts(instruction, schedule),
            units={one.joint: one.unit for one in self.robot.limits.joints},
            header={"digest": about.digest, "speed": plan.speed, "schedule": schedule.options.model_dump(mode="json")},
        )  # fmt: skip
        (plan.out / SETUP).write_text(plan.setup.to_yaml(), encoding="utf-8")
        (plan.out / ROBOT).write_text(self.profile.to_yaml(), encoding="utf-8")
        session = self._session(orders, schedule, instruction, start, record)
        try:
            if plan.go:
                self.robot.engage()
            else:
                self.robot.rehearse()
            with no_collection():
                session.run(signals)
        finally:
            record.close(session.ended or "failed")
        session.farewell(self._farewell(session))
        return int(session.stopped)

    def _session(
        self, orders: Orders, schedule: Schedule, instruction: str | None, start: Mapping[str, float] | None,
        record: RunRecord,
    ) -> Session:  # fmt: skip
        plan = self.plan
        options = SessionOptions(
            instruction=instruction,
            episodes=plan.episodes,
            seconds=plan.seconds,
            unattended=plan.unattended,
            dry_run=not plan.go,
            start=start,
            park=dict(plan.setup.start_pose),
            hold_key=plan.hold_key,
            sees=tuple(name for name in self.about.cameras if name in self.robot.cameras),
            seed=plan.seed,
        )
        kept = plan.out / FRAMES
        return Session(
            self.robot, self.link, schedule, orders, options, record,
            channel=self.channel, recording=lambda on: self.cameras.record(kept if on and plan.go else None),
            start_problem=self._start_problem,
        )  # fmt: skip

    def _judge(self, lines: Iterable[CheckLine]) -> None:
        """Print the lines of a preflight; SmolpilotError where one fails."""
        report = CheckReport.of(self.plan.setup.name, lines)
        for verdict, text in report.text(100):
            if verdict is not None:  # the summary is of the whole, and there is more to come
                self.say(text)
        if report.verdict is Verdict.FAIL:
            raise SmolpilotError("The policy does not run on this arm: see what failed above. Nothing was moved.")

    def _schedule(self, orders: Orders, instruction: str | None, signals: StopSignals) -> Schedule:
        """The schedule, which knows what a chunk takes."""
        about = self.about
        made = Schedule(
            self.plan.schedule,
            chunk_size=about.chunk_size,
            n_action_steps=about.n_action_steps,
            policy_rate=self.playback,
            control_rate=self.robot.spec.rate,
            grippers=[i for i, one in enumerate(self.robot.limits.joints) if one.gripper],
            turnarounds=Turnarounds(),
        )
        self.say(f"computing {_WARM} chunks to see what one takes ...")
        for number in range(_WARM):
            reading = self.robot.read()
            self.link.publish(reading.read_at, 0.0, orders.states(self.robot.state(reading)))
            begun = time.monotonic()
            self.link.ask(Ask(-1 - number, 0.0), instruction, seed=self.plan.seed, reset=number == 0)
            chunk = self._answer(begun, signals)
            made.turnarounds.add(chunk.arrived_at - begun)
            problem = self._first_problem(orders.actions(chunk.actions))
        if problem is not None:
            self.say(problem)
        return made

    def _answer(self, begun: float, signals: StopSignals) -> PlannedChunk:
        while time.monotonic() - begun < _CHUNK_S:
            for answer in self.link.poll():
                if isinstance(answer, PlannedChunk):
                    return answer
                raise answer[1]
            if not self.link.alive:
                raise DeviceError(self.link.why_ended())
            if (why := _given_up(signals)) is not None:
                raise DeviceError(why)
            self.link.wait(0.5)
        raise DeviceError(f"The policy has given no chunk within {_CHUNK_S:g} s.")

    def _first_problem(self, actions: Joints) -> str | None:
        """A first action far from the arm is a sign of a wrong unit, order or calibration; said, and left to limits."""
        limits = self.robot.limits
        way = np.abs(actions[0] - self.robot.read().position)
        worst = int(np.argmax(way / (limits.high - limits.low)))
        if way[worst] <= 0.25 * (limits.high - limits.low)[worst]:
            return None
        one = limits.joints[worst]
        return (
            f"warning: the first action is {way[worst]:.4g} {one.unit} away from where '{one.joint}' is: is it the "
            "pose that the demonstrations began in, and are units and calibration those of the recording?"
        )

    def _shorten(self, schedule: Schedule, max_age: float) -> None:
        """Execute fewer actions of a chunk where the last ones would be too old, as in slow motion; and say so."""
        fitting = fitting_horizon(schedule, self.playback, max_age)
        if self.plan.schedule.n_action_steps is None and 1 <= fitting < schedule.horizon:
            self.say(f"{fitting} actions of a chunk are executed instead of {schedule.horizon}: later ones would be "
                     f"older than {max_age:g} s (`governor: {{max_chunk_age: ...}}` of the setup).")  # fmt: skip
            schedule.horizon = fitting

    def _start(self) -> dict[str, float] | None:
        """Where episodes begin, by joint of the action; None: where the arm is."""
        which, setup, demonstrated = self.plan.start_pose, self.plan.setup, self.about.demonstrated
        if which in ("auto", "demonstrations") and demonstrated is not None:
            names = [joint.name for joint in self.profile.action_joints]
            found = {}
            for pose in demonstrated.start_poses:
                joint = self.profile.find(pose.name)
                factor = None if joint is None else joint.factor_from(pose.unit)
                if joint is not None and factor is not None and joint.name in names:
                    found[joint.name] = pose.q50 * factor
            return self._within(found)
        if which == "demonstrations":
            raise UsageError("The policy does not say where its demonstrations began.", fix="--start-pose setup")
        if which == "setup" and not setup.start_pose:
            raise UsageError(f"The setup '{setup.name}' has no start pose.", fix="--start-pose here")
        return dict(setup.start_pose) if which in ("auto", "setup") and setup.start_pose else None

    def _within(self, targets: Mapping[str, float]) -> dict[str, float]:
        """Targets within the limits in force: this arm's may be a little narrower than the recording's."""
        limits = {one.joint: one for one in self.robot.limits.joints}
        return {n: min(max(v, limits[n].low.value), limits[n].high.value) for n, v in targets.items()}

    def _begins_at(self, start: Mapping[str, float] | None) -> Joints:
        """The state [S] in which an episode will begin."""
        state = self.robot.state(self.robot.read())
        if self.plan.go and start is not None:
            state = np.array([start.get(joint.name, value)
                              for joint, value in zip(self.profile.state_joints, state, strict=True)])  # fmt: skip
        return state

    def _start_problem(self, state: Joints) -> str | None:
        """Why no episode may begin here; a rehearsal may begin anywhere."""
        far = far_from_start(self.about.demonstrated, self.profile, state) if self.plan.go else []
        if not far:
            return None
        name, value, unit, low, high = far[0]
        return f"'{name}' is at {value:.4g} {unit}; the demonstrations began at {low:.4g} to {high:.4g}."

    def _facts(self, instruction: str | None, schedule: Schedule) -> RunFacts:
        about, plan = self.about, self.plan
        numbers = {"control": os.getpid(), "policy": self.link.process, "cameras": self.cameras.process}
        return RunFacts(
            policy=plan.source,
            kind=about.policy_kind,
            digest=about.digest,
            engine=about.engine,
            setup=plan.setup.name,
            profile=self.profile.name,
            instruction=instruction or "",
            rate=self.robot.spec.rate,
            policy_rate=self.rate,
            chunk_size=about.chunk_size,
            n_action_steps=schedule.horizon,
            speed=plan.speed,
            dry_run=not plan.go,
            schedule=schedule.options.model_dump(mode="json"),
            limits=limit_facts(self.robot.limits),
            cameras=tuple(self.robot.cameras),
            demonstrated_jerk=self._jerk(),
            started_at=now_text(),
            smolpilot=__version__,
            processes={name: number for name, number in numbers.items() if number is not None},
            **machine(),
        )

    def _jerk(self) -> dict[str, float] | None:
        """The demonstrations' RMS jerk by joint, in the profile's units; None where the policy keeps none."""
        found: dict[str, float] = {}
        for one in () if self.about.demonstrated is None else self.about.demonstrated.joints:
            joint = self.profile.find(one.name)
            factor = None if joint is None else joint.factor_from(one.unit)
            if joint is not None and factor is not None and one.rms_jerk is not None:
                found[joint.name] = one.rms_jerk * factor
        return found or None

    def _farewell(self, session: Session) -> str:
        ended = session.ended.removesuffix(".")
        if self.cameras.unrecorded is not None:
            ended += f". Images were no longer kept: {self.cameras.unrecorded}"
        if not self.plan.go:
            return f"Ended: {ended}. It was a dry run: nothing was sent, and torque is as it was."
        if self.robot.gone:
            return "Ended: the arm is gone; its servos hold their last goal while they have power."
        home = "; `smolpilot robot park` takes the arm to its start pose" if self.plan.setup.start_pose else ""
        return f"Ended: {ended}. Torque is on, the servos hold this pose{home}."
