"""An emulated SO-101 in this process, whose packets are kept, for realtime.py."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from realtime_runs import Floats

from smolpilot.robots import RobotProfile
from smolpilot.runtime.calibration import default_calibration, write_calibration
from smolpilot.runtime.drivers.feetech import packets
from smolpilot.runtime.drivers.feetech import registers as reg
from smolpilot.runtime.drivers.feetech.scale import JointScale
from smolpilot.runtime.emulator.bus import EmulatedBus
from smolpilot.runtime.emulator.spec import EmulatorSpec, make_bus

_PRIORITY = 30


@contextlib.contextmanager
def bus_at(calibration: Path) -> Iterator[tuple[EmulatedBus, str]]:
    """A bus with all of its packets, and the driver that reaches it, as a setup says it."""
    profile = RobotProfile.load("so101")
    write_calibration(calibration, default_calibration(profile))
    with prompt():
        bus = make_bus(EmulatorSpec(profile=profile)).start()
    try:
        yield bus, f"{{type: feetech, port: {bus.port}, timeout: 0.2, calibration: {calibration}}}"
    finally:
        bus.close()


@contextlib.contextmanager
def prompt() -> Iterator[None]:
    """Threads that are started here run before everything else, where that is permitted: servos wait for no scheduler,
    and nothing of the benchmark's own."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_PRIORITY))
    except (AttributeError, OSError):
        yield
        return
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def goals(bus: EmulatedBus) -> tuple[Floats, Floats]:
    """When goals of the first joint were written [n], and which, in its unit [n]."""
    profile = RobotProfile.load("so101")
    joint = profile.action_joints[0]
    calibrated = default_calibration(profile)[joint.name]
    scale = JointScale.of(joint, calibrated)
    times, values = [], []
    for logged in list(bus.log):
        packet, _ = packets.first_packet(logged.request)
        if packet is None or packet.code != packets.SYNC_WRITE:
            continue
        if (steps := goal_of(packet.data, calibrated.id)) is not None:
            times.append(logged.time)
            values.append(scale.value(steps))
    return np.array(times, dtype=np.float64), np.array(values, dtype=np.float64)


def goal_of(data: bytes, servo: int) -> int | None:
    """The goal that the data of a sync write has for a servo; None where it writes other registers."""
    address, size = data[:2]
    offset = reg.GOAL_POSITION.address - address
    if not 0 <= offset <= size - reg.GOAL_POSITION.size:
        return None
    for at in range(2, len(data) - size, size + 1):
        if data[at] == servo:
            begin = at + 1 + offset
            return int(reg.GOAL_POSITION.decode(data[begin : begin + reg.GOAL_POSITION.size]))
    return None
