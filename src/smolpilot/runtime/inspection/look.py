"""`robot check`: everything of an arm that can be seen without moving it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from smolpilot.common.errors import DeviceError, SmolpilotError, UsageError
from smolpilot.contracts import Camera, Driver
from smolpilot.robots.demonstrated import Demonstrated

from ..limits import EffectiveLimits, effective_limits
from ..moves import check_within
from ..opening import shown_limits
from ..setup.robot_setup import RobotSetup
from .check_report import CheckLine, CheckReport, Verdict
from .check_rules import CameraDetails, camera_lines, limit_lines, rate_line
from .contact_sheet import SheetTile
from .servo_rules import servo_lines

_READINGS = 100


def look(
    setup: RobotSetup,
    *,
    demonstrated: Demonstrated | None = None,
    more: Callable[[Driver], Iterable[CheckLine]] | None = None,
    seconds: float = 1.5,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[CheckReport, list[SheetTile]]:
    """The report of a setup's arm and cameras, and an image of each camera. Moves nothing and leaves torque as it is.

    more: what else is to be said of the connected arm. seconds: for which cameras are watched. Connecting sets what a
    servo needs to be set to, as every use of the arm does; the report names it.
    """
    lines: list[CheckLine] = []
    driver = setup.make_driver(clock=clock)
    tiles: list[SheetTile] = []
    try:
        lines += _servos(setup, driver)
        connected = _connected(driver, setup.profile.rate, lines)
        lines += _limits(setup, driver, demonstrated) if connected else []
        lines += more(driver) if connected and more is not None else []
        cameras = setup.make_cameras(driver, clock=clock)
        tiles = [_camera(camera, seconds, clock) for camera in cameras.values()]
        found = camera_lines(
            [tile.details for tile in tiles],
            setup.profile,
            max_age=setup.governor.max_image_age,
            missing=setup.missing_cameras,
        )
        lines += found
    finally:
        driver.disconnect()
    return CheckReport.of(setup.name, lines), tiles


def _servos(setup: RobotSetup, driver: Driver) -> Iterator[CheckLine]:
    """What the servos say of themselves, where the driver can ask them."""
    details: Callable[[], Sequence[Any]] | None = getattr(driver, "details", None)
    if details is None:
        return
    try:
        servos = details()
    except DeviceError as error:
        yield failed_line("bus", error)
        return
    options = setup.driver.options
    yield from servo_lines(
        servos,
        {servo.joint: servo.limits for servo in servos if getattr(servo, "limits", None) is not None},
        models={777: "STS3215"},
        calibration=f"'{name}'" if (name := getattr(options, "calibration", None)) else "the profile",
        calibration_fix="name this arm's own file in the setup; if it is, write it to the servos: "
        "`smolpilot robot check SETUP --write-calibration`",
    )


def _connected(driver: Driver, rate: float, lines: list[CheckLine]) -> bool:
    """Connect, and read for a while; whether it could be."""
    try:
        driver.connect()
        durations, retries = [], 0
        for _ in range(_READINGS):
            before = time.perf_counter()
            retries += driver.read().retries
            durations.append(time.perf_counter() - before)
    except SmolpilotError as error:
        if not any(line.verdict is Verdict.FAIL for line in lines):  # else it has been said why
            lines.append(failed_line("connection", error))
        return False
    lines.append(rate_line(durations, rate, retries=retries))
    return True


def _limits(setup: RobotSetup, driver: Driver, demonstrated: Demonstrated | None) -> Iterator[CheckLine]:
    """Every limit in force; and whether the start pose is within them."""
    try:
        limits = in_force(setup, driver, demonstrated)
    except UsageError as error:
        yield failed_line("limits", error)
        return
    yield from limit_lines(limits)
    if not setup.start_pose:
        yield CheckLine("start pose", Verdict.OK, "none in the setup: `smolpilot robot park` has nowhere to go")
        return
    try:
        check_within(setup.start_pose, limits)
    except UsageError as error:
        yield failed_line("start pose", error)
    else:
        yield CheckLine("start pose", Verdict.OK, f"within the limits, {len(setup.start_pose)} joints")


def in_force(setup: RobotSetup, driver: Driver, demonstrated: Demonstrated | None = None) -> EffectiveLimits:
    """The limits of a connected driver, as the governor has them."""
    velocity, acceleration = shown_limits(demonstrated, setup.profile)
    return effective_limits(
        setup.profile,
        driver.limits(),
        setup.operating_limits,
        demonstrated_velocity=velocity,
        demonstrated_acceleration=acceleration,
    )


def _camera(camera: Camera, seconds: float, clock: Callable[[], float]) -> SheetTile:
    """Watch a camera for a while."""
    try:
        with _open(camera):
            first = newest = camera.latest()
            images, until = 1, clock() + seconds
            while clock() < until:
                time.sleep(0.002)
                now = camera.latest()
                if now.captured_at != newest.captured_at:
                    images, newest = images + 1, now
            span = newest.captured_at - first.captured_at
            fps = (images - 1) / span if span > 0 else 0.0
            height, width = newest.image.shape[:2]
            return SheetTile(CameraDetails(camera.spec, (width, height), fps, newest.age(clock())), newest.image)
    except DeviceError as error:
        return SheetTile(CameraDetails(camera.spec, problem=_found(error), fix=error.fix), None)


@contextmanager
def _open(camera: Camera) -> Iterator[None]:
    camera.connect()
    try:
        yield
    finally:
        camera.disconnect()


def failed_line(subject: str, error: SmolpilotError) -> CheckLine:
    """That a subject cannot be looked at, and why."""
    return CheckLine(subject, Verdict.FAIL, _found(error), error.fix or "see docs/troubleshooting.md")


def _found(error: SmolpilotError) -> str:
    """What was found and expected, in a line."""
    return f"{error.found.rstrip('.')}{f' (expected {error.expected})' if error.expected else ''}"
