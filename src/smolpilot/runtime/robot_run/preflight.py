"""The policy against the arm that is connected: joints, units, cameras, rate, instruction, pose, time for a chunk."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from smolpilot.common.errors import UsageError
from smolpilot.contracts import GUIDED, CameraSpec, Joints
from smolpilot.robots import Joint, RobotProfile
from smolpilot.robots.demonstrated import Demonstrated
from smolpilot.runtime.inspection.check_report import CheckLine, Verdict
from smolpilot.runtime.joint_order import JointOrder, StateOrder
from smolpilot.runtime.limits import EffectiveLimits
from smolpilot.runtime.moves import check_within
from smolpilot.runtime.scheduling import Mode, Schedule

from .protocol import PolicyAbout

_START_SLACK = 0.1
"""Of a joint's range: so far outside the demonstrations' start poses counts as near."""


@dataclass(frozen=True)
class Orders:
    """How the policy's actions become the robot's, and the robot's states the policy's."""

    action: JointOrder | None
    state: StateOrder | None

    def actions(self, chunk: Joints) -> Joints:
        """A chunk [H, A] in the robot's order and units."""
        if self.action is None:
            return chunk
        return np.array([self.action(row) for row in chunk])

    def states(self, state: Joints) -> Joints:
        """A state [S] in the policy's order and units."""
        return state if self.state is None else self.state(state)


def orders_of(about: PolicyAbout, profile: RobotProfile) -> Orders:
    """Joints by name, units by factor; as they are where both sides agree in all of it.

    UsageError where a joint is missing or unknown, and where a unit does not convert.
    """
    action: JointOrder | None = None
    state: StateOrder | None = None
    own = profile.action_joints
    if about.action_names:
        if (about.action_names, about.action_units) != _sides(own):
            action = JointOrder(profile, about.action_names, about.action_units or _own_units(about, profile))
    elif about.action_dim != len(own):
        raise UsageError(f"The policy's action has {about.action_dim} values.", expected=f"{len(own)}, one per joint")
    if about.state_names:
        if (about.state_names, about.state_units) != _sides(profile.state_joints):
            state = StateOrder(profile, about.state_names, about.state_units)
    elif about.state_dim != len(profile.state_joints):
        raise UsageError(
            f"The policy's state has {about.state_dim} values.", expected=f"{len(profile.state_joints)}, one per joint"
        )
    return Orders(action, state)


def _own_units(about: PolicyAbout, profile: RobotProfile) -> list[str]:
    """The robot's units of the joints that a policy names; of one that is none of the robot's whatever there is."""
    found = (profile.find(name) for name in about.action_names)
    return ["unknown" if joint is None else str(joint.unit) for joint in found]


def _sides(joints: Sequence[Joint]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return tuple(joint.name for joint in joints), tuple(str(joint.unit) for joint in joints)


def policy_lines(
    about: PolicyAbout, profile: RobotProfile, cameras: Mapping[str, CameraSpec], instruction: str | None
) -> Iterator[CheckLine]:
    """What can be said before anything is computed."""
    yield _joint_line(about, profile)
    if about.n_obs_steps > 1:
        yield CheckLine("observations", Verdict.FAIL, f"the policy reads {about.n_obs_steps} observations at once",
                        "only policies of one observation run on a robot so far")  # fmt: skip
    yield from _camera_lines(about, cameras)
    yield _rate_line(about, profile)
    yield _instruction_line(about, instruction)


def _joint_line(about: PolicyAbout, profile: RobotProfile) -> CheckLine:
    try:
        orders = orders_of(about, profile)
    except UsageError as error:
        return CheckLine("joints", Verdict.FAIL, error.found, "; ".join(filter(None, (error.expected, error.fix))))
    if not about.action_names:
        found = f"the policy names none of its {about.action_dim}: taken to be in the order of '{profile.name}'"
        return CheckLine("joints", Verdict.WARN, found, "train with --robot, so that the bundle keeps them")
    how = "as the robot's" if orders.action is None and orders.state is None else "put in order and converted by name"
    return CheckLine("joints", Verdict.OK, f"{len(about.action_names)}, names, order and units {how}")


def _camera_lines(about: PolicyAbout, cameras: Mapping[str, CameraSpec]) -> Iterator[CheckLine]:
    rate = about.rate
    for name in about.cameras:
        spec, subject = cameras.get(name), f"camera {name}"
        if spec is None:
            here = ", ".join(cameras) or "none"
            yield CheckLine(subject, Verdict.FAIL, f"the policy sees through it; the setup has {here}",
                            "add it to the setup, or say which takes its place: --camera-map NAME=SLOT")  # fmt: skip
            continue
        size, trained = (spec.height, spec.width), about.image_sizes.get(name)
        slow = rate is not None and spec.fps < rate * 0.99
        if slow:
            yield CheckLine(subject, Verdict.WARN, f"{spec.fps:g} images per second; the policy learned from {rate:g}",
                            "raise the camera's fps")  # fmt: skip
        if trained is not None and trained != size:
            text = f"{spec.width}x{spec.height}; the policy learned from {trained[1]}x{trained[0]}"
            same = abs(size[1] / size[0] - trained[1] / trained[0]) < 0.01
            fix = (
                "the same shape: it is resized" if same else "another shape: it is letterboxed otherwise; use that one"
            )
            yield CheckLine(subject, Verdict.OK if same else Verdict.WARN, text, fix)
        elif not slow:
            yield CheckLine(subject, Verdict.OK, f"{spec.width}x{spec.height} at {spec.fps:g} fps")
    if not about.cameras:
        yield CheckLine("cameras", Verdict.OK, "the policy sees through none")


def policy_rate(about: PolicyAbout, profile: RobotProfile) -> float:
    """Actions of a chunk per second: as trained; the profile's rate where nobody knows."""
    return about.rate or profile.rate


def _rate_line(about: PolicyAbout, profile: RobotProfile) -> CheckLine:
    if about.rate is None:
        return CheckLine("rate", Verdict.WARN, f"the policy does not say its own: the profile's {profile.rate:g} Hz")
    if abs(about.rate - profile.rate) > 0.01 * profile.rate:
        found = f"{about.rate:g} actions per second, as trained; the profile says {profile.rate:g}"
        return CheckLine("rate", Verdict.WARN, found, "the policy's holds: its motions have the speed of the recording")
    return CheckLine("rate", Verdict.OK, f"{about.rate:g} actions per second, as trained")


def choose_instruction(about: PolicyAbout, given: str | None) -> str | None:
    """The instruction to run with: what is given; else the only one of the training. UsageError where it is open."""
    if given is not None and given.strip():
        return given.strip()
    if len(about.instructions) == 1:
        return about.instructions[0]
    if not about.instructions:
        return None
    raise UsageError(
        f"The policy was trained with {len(about.instructions)} instructions.",
        expected="which one: --instruction",
        fix="; ".join(f'--instruction "{text}"' for text in about.instructions[:3]),
    )


def _instruction_line(about: PolicyAbout, instruction: str | None) -> CheckLine:
    if instruction is None:
        return CheckLine("instruction", Verdict.OK, "none: the policy reads none, or does not say")
    if about.instruction_tokens is not None and about.instruction_tokens[0] > about.instruction_tokens[1]:
        length, room = about.instruction_tokens
        return CheckLine("instruction", Verdict.FAIL, f"{length} tokens; the policy reads {room}", "a shorter one")
    if about.instructions and instruction not in about.instructions:
        nearest = difflib.get_close_matches(instruction, about.instructions, n=1, cutoff=0.0)
        fix = f"say “{nearest[0]}”" if nearest else ""
        return CheckLine("instruction", Verdict.WARN, f"“{instruction}” was never trained", fix)
    return CheckLine("instruction", Verdict.OK, f"“{instruction}”")


def far_from_start(
    demonstrated: Demonstrated | None, profile: RobotProfile, state: Joints
) -> list[tuple[str, float, str, float, float]]:
    """Joints beyond the demonstrations' start poses: (name, value, unit, low, high), in the profile's units."""
    if demonstrated is None:
        return []
    found = []
    values = {joint.name: (joint, float(value)) for joint, value in zip(profile.state_joints, state, strict=True)}
    for pose in demonstrated.start_poses:
        joint = profile.find(pose.name)
        if joint is None or joint.name not in values:
            continue
        factor = joint.factor_from(pose.unit)
        if factor is None:
            continue
        low, high = pose.q00 * factor, pose.q100 * factor
        limits = joint.position_limits
        span = max(high - low, 0.0 if limits is None else limits[1] - limits[0])
        slack = _START_SLACK * span
        value = values[joint.name][1]
        if not low - slack <= value <= high + slack:
            found.append((joint.name, value, str(joint.unit), low, high))
    return found


def start_line(demonstrated: Demonstrated | None, profile: RobotProfile, state: Joints, *, refuse: bool) -> CheckLine:
    """Where the arm is, or will be when an episode begins, against the demonstrations' first frames."""
    if demonstrated is None:
        return CheckLine("start pose", Verdict.WARN, "the policy does not say where its demonstrations began",
                         "put the arm where they did")  # fmt: skip
    far = far_from_start(demonstrated, profile, state)
    if not far:
        return CheckLine("start pose", Verdict.OK, "as in the demonstrations")
    told = "; ".join(f"{n} at {v:.4g} {u}, demonstrations {low:.4g} .. {high:.4g}" for n, v, u, low, high in far[:3])
    more = f"; and {len(far) - 3} more" if len(far) > 3 else ""
    fix = "move the arm there, or let it be moved: --start-pose demonstrations"
    return CheckLine("start pose", Verdict.FAIL if refuse else Verdict.WARN, told + more, fix)


def pose_lines(poses: Mapping[str, Mapping[str, float]], limits: EffectiveLimits, go: bool) -> Iterator[CheckLine]:
    """Whether the arm may be where it will be moved to: name of the pose -> joint -> position. Only what fails is said;
    in a dry run, which moves nothing, as a warning."""
    for name, targets in poses.items():
        try:
            check_within(targets, limits)
        except UsageError as error:
            fix = "change `start_pose` in the setup, or the calibration; `smolpilot robot check` shows every limit"
            found = f"{error.found} Expected: {error.expected}"
            yield CheckLine(name, Verdict.FAIL if go else Verdict.WARN, found, fix)


def fitting_horizon(made: Schedule, rate: float, max_chunk_age: float) -> int:
    """How many actions of a chunk can be executed before they are too old; below 1 where none can."""
    seconds = made.turnarounds.seconds or 0.0
    waits = seconds if made.options.mode is Mode.SYNC else 2 * seconds
    return int((max_chunk_age - waits) * rate + 1e-9)


def schedule_lines(about: PolicyAbout, made: Schedule, rate: float, max_chunk_age: float) -> Iterator[CheckLine]:
    """Whether chunks come in time. rate: actions per second."""
    mode, seconds = made.options.mode, made.turnarounds.seconds or 0.0
    lasts = about.chunk_size / rate
    text = f"{mode}: a chunk takes {seconds * 1e3:.0f} ms and lasts {lasts:.2g} s; {made.horizon} of {about.chunk_size}"
    if mode is Mode.RTC and GUIDED not in about.capabilities:
        fix = "--engine fast (or exact); or --schedule async" if about.policy_kind == "smolvla" else "--schedule async"
        yield CheckLine("schedule", Verdict.FAIL, "this policy cannot go on from a chunk (rtc)", fix)
        return
    if mode is not Mode.SYNC and 2 * seconds > lasts:
        yield CheckLine("schedule", Verdict.FAIL, f"{text}: it would run out before the next one is there",
                        "--schedule sync, a faster --engine, or fewer --num-steps")  # fmt: skip
        return
    age = seconds + made.horizon / rate + (0.0 if mode is Mode.SYNC else seconds)
    if age > max_chunk_age:
        found = f"{text}: its last action would be {age:.2g} s old; {max_chunk_age:g} s are allowed"
        fewer = fitting_horizon(made, rate, max_chunk_age)
        fix = f"--n-action-steps {fewer}" if fewer > 0 else "a faster --engine"
        fix += ", or `governor: {max_chunk_age: ...}` in the setup"
        yield CheckLine("schedule", Verdict.FAIL, found, fix)
        return
    yield CheckLine("schedule", Verdict.OK, f"{text} executed")
