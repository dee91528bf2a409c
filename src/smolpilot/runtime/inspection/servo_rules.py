"""Rules of `robot check` for the servos of an arm: what makes a line ok, a warning or a failure, and the fix."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from .check_report import CheckLine, Verdict

_HOT = 10.0
"""Degrees below the limit of a servo from which it is called hot."""
_LOW_VOLTAGE = 0.5
"""V above the lowest voltage of a servo from which it is called low."""

FAULT_FIXES = {
    "voltage": "check the power supply: its voltage, and that it gives enough current",
    "encoder": "the servo does not know its position: replace it",
    "temperature": "let the arm cool down without power, and lighten what it carries",
    "current": "take away what blocks the joint, then switch the power off and on",
    "overload": "take away what blocks the joint or loads it, then switch the power off and on",
}
"""Fault that a servo reports -> what to do."""


@dataclass(frozen=True)
class ServoDetails:
    """What one servo says of itself; None where it did not answer, or where its bus does not tell.

    `model` is its number and `expected_model` the one the driver is for; temperature in degrees Celsius and voltage in
    V, with the limits at which the servo switches itself off. `calibration` and `expected_calibration`: name -> number,
    as they stand in the servo and in the calibration file.
    """

    joint: str
    id: int
    answers: bool = True
    model: int | None = None
    expected_model: int | None = None
    model_name: str = ""
    firmware: str | None = None
    voltage: float | None = None
    voltage_limits: tuple[float, float] | None = None
    temperature: float | None = None
    temperature_limit: float | None = None
    faults: tuple[str, ...] = ()
    torque_on: bool | None = None
    calibration: Mapping[str, int] | None = None
    expected_calibration: Mapping[str, int] | None = None


def servo_lines(servos: Sequence[ServoDetails], *, calibration: str = "the calibration file") -> list[CheckLine]:
    """A line for each subject where all servos are well, and one for each servo that is not.

    calibration: what the file is called in the lines, as its path.
    """
    heard = [servo for servo in servos if servo.answers]
    lines = list(_answers(servos))
    if not heard:
        return lines
    lines += _firmware(heard)
    lines += _each("voltage", heard, _voltage, _span([servo.voltage for servo in heard], "V", ".1f"))
    lines += _each("temperature", heard, _temperature, _span([servo.temperature for servo in heard], "°C", ".0f"))
    lines += _each("status", heard, _status, "no servo reports a fault")
    lines += _calibration(heard, calibration)
    lines += _torque(heard)
    return lines


def _answers(servos: Sequence[ServoDetails]) -> Iterator[CheckLine]:
    silent = [servo for servo in servos if not servo.answers]
    if servos and len(silent) == len(servos):
        fix = "switch the arm's power on, check the cable, and `smolpilot robot find` shows which port has servos"
        yield CheckLine("servos", Verdict.FAIL, f"none of the {len(servos)} servos answers", fix)
        return
    for servo in silent:
        fix = "check the cable to this servo and the one before it, and its id: `smolpilot robot find`"
        yield CheckLine(f"servo {servo.joint}", Verdict.FAIL, f"no answer from id {servo.id}", fix)
    wrong = [
        servo
        for servo in servos
        if servo.answers and servo.expected_model is not None and servo.model != servo.expected_model
    ]
    for servo in wrong:
        found = f"id {servo.id} is model {servo.model}, not {servo.expected_model}"
        fix = "another servo answers here: check `driver.type` and `driver.port` in the setup"
        yield CheckLine(f"servo {servo.joint}", Verdict.FAIL, found, fix)
    if not silent and not wrong and servos:
        ids = ", ".join(str(servo.id) for servo in servos)
        models = sorted({servo.model_name or f"model {servo.model}" for servo in servos if servo.model is not None})
        found = f"{len(servos)} answer: ids {ids}" + (f"; {', '.join(models)}" if models else "")
        yield CheckLine("servos", Verdict.OK, found)


def _firmware(servos: Sequence[ServoDetails]) -> Iterator[CheckLine]:
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


def _voltage(servo: ServoDetails) -> tuple[Verdict, str, str] | None:
    if servo.voltage is None or servo.voltage_limits is None:
        return None
    low, high = servo.voltage_limits
    fix = "check that the power supply is the arm's own (SO-101: 7.4 V or 12 V servos) and strong enough"
    if not low <= servo.voltage <= high:
        return Verdict.FAIL, f"{servo.voltage:.1f} V is outside {low:g} .. {high:g} V: the servo switches off", fix
    if servo.voltage < low + _LOW_VOLTAGE:
        return Verdict.WARN, f"{servo.voltage:.1f} V is near the lowest, {low:g} V", fix
    return None


def _temperature(servo: ServoDetails) -> tuple[Verdict, str, str] | None:
    if servo.temperature is None or servo.temperature_limit is None:
        return None
    left = servo.temperature_limit - servo.temperature
    found = f"{servo.temperature:.0f} °C; it switches off at {servo.temperature_limit:g} °C"
    if left <= 0:
        return Verdict.FAIL, found, FAULT_FIXES["temperature"]
    return (Verdict.WARN, found, "let the arm rest before it works") if left <= _HOT else None


def _status(servo: ServoDetails) -> tuple[Verdict, str, str] | None:
    if not servo.faults:
        return None
    fix = FAULT_FIXES.get(servo.faults[0], "switch the arm's power off and on")
    return Verdict.FAIL, f"the servo reports {', '.join(servo.faults)}", fix


def _calibration(servos: Sequence[ServoDetails], file: str) -> Iterator[CheckLine]:
    known = [servo for servo in servos if servo.calibration is not None and servo.expected_calibration is not None]
    fix = f"name the file that belongs to this arm in the setup; or run lerobot-calibrate, which writes {file} into it"
    differing = 0
    for servo in known:
        own, expected = servo.calibration or {}, servo.expected_calibration or {}
        differences = [
            f"{name} {own.get(name)}, in the file {value}" for name, value in expected.items() if own.get(name) != value
        ]
        if differences:
            differing += 1
            found = f"the servo holds {'; '.join(differences)}"
            yield CheckLine(f"calibration {servo.joint}", Verdict.FAIL, found, fix)
    if known and not differing:
        yield CheckLine("calibration", Verdict.OK, f"the servos hold what {file} says")


def _torque(servos: Sequence[ServoDetails]) -> Iterator[CheckLine]:
    known = [servo for servo in servos if servo.torque_on is not None]
    on = [servo.joint for servo in known if servo.torque_on]
    if known:
        found = f"on: {', '.join(on)}" if on else "off: the joints can be moved by hand"
        yield CheckLine("torque", Verdict.OK, "on: the joints are held" if len(on) == len(known) else found)


def _each(
    subject: str,
    servos: Iterable[ServoDetails],
    rule: Callable[[ServoDetails], tuple[Verdict, str, str] | None],
    well: str,
) -> Iterator[CheckLine]:
    """A line for each servo that the rule finds something about; else `well`, where there is anything to say."""
    found = [(servo, judged) for servo in servos if (judged := rule(servo)) is not None]
    for servo, (verdict, text, fix) in found:
        yield CheckLine(f"{subject} {servo.joint}", verdict, text, fix)
    if not found and well:
        yield CheckLine(subject, Verdict.OK, well)


def _span(values: Sequence[float | None], unit: str, form: str) -> str:
    """`12.0 .. 12.1 V`; nothing where no value is known."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    low, high = format(min(known), form), format(max(known), form)
    return f"{low} {unit}" if low == high else f"{low} .. {high} {unit}"
