"""Rules of `robot check` for the servos of an arm: what makes a line ok, a warning or a failure, and the fix."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Protocol

from smolpilot.contracts.driver import DriverLimits

from .check_report import CheckLine, Verdict

_HOT = 10.0
"""Degrees below the limit of a servo from which it is called hot."""
_LOW_VOLTAGE = 0.5
"""V above the lowest voltage of a servo below which it is called low."""
_FEW = 3

FAULT_FIXES = {
    "voltage": "check the power supply: its voltage, and that it gives enough current",
    "encoder": "the servo does not know its position: replace it",
    "temperature": "let the arm cool down without power, and lighten what it carries",
    "current": "take away what blocks the joint, then switch the power off and on",
    "overload": "take away what blocks the joint or loads it, then switch the power off and on",
}
"""Fault that a servo reports -> what to do."""


class ServoFacts(Protocol):
    """What one servo says of itself, as `FeetechArm.details` has it.

    All but joint and id is None where it does not answer, and all but the model where that is not the driver's. voltage
    in V, temperature in degrees Celsius. calibration_differences and configuration_differences: what the servo holds
    otherwise than the file says and than the driver wants, each a sentence as a text.
    """

    @property
    def joint(self) -> str: ...
    @property
    def id(self) -> int: ...
    @property
    def answers(self) -> bool: ...
    @property
    def model(self) -> int | None: ...
    @property
    def firmware(self) -> str | None: ...
    @property
    def voltage(self) -> float | None: ...
    @property
    def temperature(self) -> float | None: ...
    @property
    def faults(self) -> tuple[str, ...]: ...
    @property
    def torque(self) -> bool | None: ...
    @property
    def calibration_differences(self) -> Sequence[object]: ...
    @property
    def configuration_differences(self) -> Sequence[object]: ...


def servo_lines(
    servos: Sequence[ServoFacts],
    limits: Mapping[str, DriverLimits],
    *,
    models: Mapping[int, str] | None = None,
    calibration: str = "the calibration file",
    calibration_fix: str = "name the file that belongs to this arm in the setup",
) -> list[CheckLine]:
    """A line for each subject where all servos are well, and one for each servo that is not.

    limits: joint -> at which temperature and voltage its servo switches off, where that is known. models: number ->
    name. calibration: what the file is called in the lines, as its path; calibration_fix: what to do when it differs.
    """
    well = [servo for servo in servos if servo.answers and servo.firmware is not None]
    lines = list(_answers(servos, models or {}))
    if not well:
        return lines
    lines += _firmware(well)
    hot, volts = partial(_temperature, limits), partial(_voltage, limits)
    lines += _each("voltage", well, volts, _span([servo.voltage for servo in well], "V", ".1f"))
    lines += _each("temperature", well, hot, _span([servo.temperature for servo in well], "°C", ".0f"))
    lines += _each("status", well, _status, "no servo reports a fault")
    lines += _calibration(well, calibration, calibration_fix)
    lines += _configuration(well)
    lines += _torque(well)
    return lines


def _answers(servos: Sequence[ServoFacts], models: Mapping[int, str]) -> Iterator[CheckLine]:
    silent = [servo for servo in servos if not servo.answers]
    if servos and len(silent) == len(servos):
        fix = "switch the arm's power on, check the cable, and `smolpilot robot find` shows which port has servos"
        yield CheckLine("servos", Verdict.FAIL, f"none of the {len(servos)} servos answers", fix)
        return
    for servo in silent:
        fix = "check the cable to this servo and the one before it, and its id: `smolpilot robot find`"
        yield CheckLine(f"servo {servo.joint}", Verdict.FAIL, f"no answer from id {servo.id}", fix)
    wrong = [servo for servo in servos if servo.answers and servo.firmware is None]
    for servo in wrong:
        found = f"id {servo.id} is of another model: {_model(servo.model, models)}"
        fix = "another arm answers here: check `driver.type` and `driver.port` in the setup"
        yield CheckLine(f"servo {servo.joint}", Verdict.FAIL, found, fix)
    if not silent and not wrong and servos:
        ids = ", ".join(str(servo.id) for servo in servos)
        kinds = ", ".join(sorted({_model(servo.model, models) for servo in servos}))
        yield CheckLine("servos", Verdict.OK, f"{len(servos)} answer, ids {ids}; {kinds}")


def _firmware(servos: Sequence[ServoFacts]) -> Iterator[CheckLine]:
    by_version: dict[str, list[str]] = {}
    for servo in servos:
        if servo.firmware is not None:
            by_version.setdefault(servo.firmware, []).append(servo.joint)
    if len(by_version) == 1:
        yield CheckLine("firmware", Verdict.OK, f"{next(iter(by_version))} in every servo")
    elif by_version:
        common = max(by_version, key=lambda version: len(by_version[version]))
        others = [f"{version} in {', '.join(names)}" for version, names in by_version.items() if version != common]
        found = f"{common} in {len(by_version[common])} servos, {'; '.join(others)}"
        fix = "bring all servos to one version with Feetech's FD software: versions differ in what they do"
        yield CheckLine("firmware", Verdict.WARN, found, fix)


def _voltage(limits: Mapping[str, DriverLimits], servo: ServoFacts) -> tuple[Verdict, str, str] | None:
    bounds = limits.get(servo.joint, DriverLimits()).voltage
    if servo.voltage is None or bounds is None:
        return None
    low, high = bounds
    fix = "check that the power supply is the arm's own (SO-101: 7.4 V or 12 V servos) and strong enough"
    if not low <= servo.voltage <= high:
        return Verdict.FAIL, f"{servo.voltage:.1f} V is outside {low:g} .. {high:g} V: the servo switches off", fix
    if servo.voltage < low + _LOW_VOLTAGE:
        return Verdict.WARN, f"{servo.voltage:.1f} V is near the lowest, {low:g} V", fix
    return None


def _temperature(limits: Mapping[str, DriverLimits], servo: ServoFacts) -> tuple[Verdict, str, str] | None:
    most = limits.get(servo.joint, DriverLimits()).temperature
    if servo.temperature is None or most is None:
        return None
    left = most - servo.temperature
    found = f"{servo.temperature:.0f} °C; it switches off at {most:g} °C"
    if left <= 0:
        return Verdict.FAIL, found, FAULT_FIXES["temperature"]
    return (Verdict.WARN, found, "let the arm rest before it works") if left <= _HOT else None


def _status(servo: ServoFacts) -> tuple[Verdict, str, str] | None:
    if not servo.faults:
        return None
    fix = FAULT_FIXES.get(servo.faults[0], "switch the arm's power off and on")
    return Verdict.FAIL, f"the servo reports {', '.join(servo.faults)}", fix


def _calibration(servos: Sequence[ServoFacts], file: str, fix: str) -> Iterator[CheckLine]:
    if different := _listed(one for servo in servos for one in servo.calibration_differences):
        yield CheckLine("calibration", Verdict.FAIL, f"the servos do not hold what {file} says: {different}", fix)
    else:
        yield CheckLine("calibration", Verdict.OK, f"the servos hold what {file} says")


def _configuration(servos: Sequence[ServoFacts]) -> Iterator[CheckLine]:
    if different := _listed(one for servo in servos for one in servo.configuration_differences):
        yield CheckLine("configuration", Verdict.OK, f"connecting sets what differs: {different}")
    else:
        yield CheckLine("configuration", Verdict.OK, "the servos are set as this arm needs them")


def _listed(differences: Iterable[object]) -> str:
    """The first ones, and how many more there are; nothing where there is none."""
    texts = [str(one) for one in differences]
    return "; ".join(texts[:_FEW]) + (f"; and {len(texts) - _FEW} more" if len(texts) > _FEW else "")


def _torque(servos: Sequence[ServoFacts]) -> Iterator[CheckLine]:
    known = [servo for servo in servos if servo.torque is not None]
    on = [servo.joint for servo in known if servo.torque]
    if known:
        found = f"on: {', '.join(on)}" if on else "off: the joints can be moved by hand"
        yield CheckLine("torque", Verdict.OK, "on: the joints are held" if len(on) == len(known) else found)


def _each(
    subject: str,
    servos: Iterable[ServoFacts],
    rule: Callable[[ServoFacts], tuple[Verdict, str, str] | None],
    well: str,
) -> Iterator[CheckLine]:
    """A line for each servo that the rule finds something about; else `well`, where there is anything to say."""
    found = [(servo, judged) for servo in servos if (judged := rule(servo)) is not None]
    for servo, (verdict, text, fix) in found:
        yield CheckLine(f"{subject} {servo.joint}", verdict, text, fix)
    if not found and well:
        yield CheckLine(subject, Verdict.OK, well)


def _model(number: int | None, models: Mapping[int, str]) -> str:
    return models.get(number or 0, f"model {number}")


def _span(values: Sequence[float | None], unit: str, form: str) -> str:
    """`12.0 .. 12.1 V`; nothing where no value is known."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    low, high = format(min(known), form), format(max(known), form)
    return f"{low} {unit}" if low == high else f"{low} .. {high} {unit}"
