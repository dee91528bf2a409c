"""Rules of `robot check` for the rate of reading, the cameras, and the limits in force."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from smolpilot.contracts.camera import CameraSpec
from smolpilot.robots import RobotProfile

from ..limits import EffectiveLimits
from .check_report import CheckLine, Verdict

_ENOUGH_FPS, _FEW_FPS = 0.9, 0.5
"""Share of a camera's fps below which there is a warning, and a failure."""
_MANY_RETRIES = 0.01
"""Share of readings that had to be asked for again, from which there is a warning."""


@dataclass(frozen=True)
class CameraDetails:
    """What came of a camera within a second or so.

    size: width and height of its newest image, fps: images per second that came, age: seconds of the newest image at
    the end; all None where none came. problem: what its driver said then.
    """

    spec: CameraSpec
    size: tuple[int, int] | None = None
    fps: float | None = None
    age: float | None = None
    problem: str = ""
    fix: str = ""


def rate_line(durations: Sequence[float], rate: float, *, retries: int = 0) -> CheckLine:
    """The achieved rate of readings beside the one that the profile asks for; durations of readings in seconds."""
    if not durations:
        return CheckLine("read rate", Verdict.FAIL, "no reading", "see the lines above")
    median, late = (float(np.quantile(durations, share)) for share in (0.5, 0.95))
    achieved = len(durations) / sum(durations) if sum(durations) > 0 else float("inf")
    found = f"{achieved:.0f} per second (p50 {1e3 * median:.1f} ms, p95 {1e3 * late:.1f} ms); {rate:g} are needed"
    if retries:
        found += f"; {retries} of {len(durations)} were asked for again"
    if late * rate > 1:
        fix = "use a direct USB port, close other programs, and check the baud rate of the servos (1,000,000)"
        return CheckLine("read rate", Verdict.FAIL, found, fix)
    if retries > _MANY_RETRIES * len(durations):
        return CheckLine("read rate", Verdict.WARN, found, "check plugs and cable of the bus, and its ground")
    return CheckLine("read rate", Verdict.OK, found)


def camera_lines(
    cameras: Iterable[CameraDetails], profile: RobotProfile, *, max_age: float, missing: Sequence[str] = ()
) -> Iterator[CheckLine]:
    """A line for each camera; max_age: seconds, the governor's; missing: those of the profile without a device."""
    sizes = {camera.name: (camera.width, camera.height) for camera in profile.cameras}
    for camera in cameras:
        yield _camera_line(camera, sizes.get(camera.spec.name), max_age)
    if missing:
        found = f"not in this setup: {', '.join(missing)}; policies that see through them cannot run"
        yield CheckLine("cameras", Verdict.OK, found)


def limit_lines(limits: EffectiveLimits) -> Iterator[CheckLine]:
    """Every limit in force, each number with its origin, a line per joint."""
    for one in limits.joints:
        low, high = one.low, one.high
        positions = (
            f"{low.value:.4g} .. {high.value:.4g} {one.unit} [{low.origin}]"
            if low.origin == high.origin
            else f"{low.value:.4g} [{low.origin}] .. {high.value:.4g} [{high.origin}] {one.unit}"
        )
        parts = [
            positions,
            f"velocity {one.velocity.value:.4g} per s [{one.velocity.origin}]",
            f"acceleration {one.acceleration.value:.4g} per s² [{one.acceleration.origin}]",
            f"tracking error {one.tracking.value:.4g} [{one.tracking.origin}]",
        ]
        if one.torque is not None:
            parts.append(f"torque {one.torque.value:.0%} [{one.torque.origin}]")
        yield CheckLine(f"limits {one.joint}", Verdict.OK, "; ".join(parts))


def _camera_line(camera: CameraDetails, wanted: tuple[int, int] | None, max_age: float) -> CheckLine:
    subject = f"camera {camera.spec.name}"
    if camera.size is None or camera.fps is None or camera.age is None:
        fix = camera.fix or "check its cable, and `device` in the setup"
        return CheckLine(subject, Verdict.FAIL, camera.problem or "no image came", fix)
    width, height = camera.size
    found = f"{width}x{height}, {camera.fps:.1f} fps of {camera.spec.fps:g}, newest image {1e3 * camera.age:.0f} ms old"
    if camera.age > max_age:
        fix = "the governor would stop the arm: check the camera's cable, or its `fps` in the setup"
        return CheckLine(subject, Verdict.FAIL, f"{found}; at most {1e3 * max_age:g} ms are allowed", fix)
    if camera.fps < _ENOUGH_FPS * camera.spec.fps:
        verdict = Verdict.FAIL if camera.fps < _FEW_FPS * camera.spec.fps else Verdict.WARN
        return CheckLine(
            subject, verdict, found, "more light, a smaller image, a USB port of its own, or a lower `fps`"
        )
    if wanted is not None and camera.size != wanted:
        fix = "set `width` and `height` in the setup to the profile's, unless the policy was trained with others"
        return CheckLine(subject, Verdict.WARN, f"{found}; the profile says {wanted[0]}x{wanted[1]}", fix)
    return CheckLine(subject, Verdict.OK, found)
