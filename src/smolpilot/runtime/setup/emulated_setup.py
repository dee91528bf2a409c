"""The emulated arm that a profile or a setup means."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from smolpilot.common.errors import UsageError
from smolpilot.robots import RobotProfile

from ..drivers.emulated import EmulatedArm, EmulatedArmOptions, spec_of
from ..emulator.links import linked, refuse_taken
from ..emulator.process import EmulatorReady, run_emulator
from ..emulator.spec import EmulatorSpec
from .robot_setup import RobotSetup, is_setup


def emulator_spec(name_or_path: str) -> EmulatorSpec:
    """Of a profile an arm with motors alone; of a setup what its driver says. UsageError for one of a real arm."""
    if not is_setup(name_or_path):
        return EmulatorSpec(profile=RobotProfile.load(name_or_path))
    setup = RobotSetup.load(name_or_path)
    options = setup.driver.options
    if not issubclass(setup.driver.kind, EmulatedArm) or not isinstance(options, EmulatedArmOptions):
        raise UsageError(
            f"The setup '{setup.name}' has the driver '{setup.driver.type}': its arm is no emulated one.",
            expected="a profile, or a setup with `driver: {type: emulated}`",
            fix=f"emulate its robot: smolpilot robot emulate {setup.profile_source}",
        )
    return spec_of(setup.profile, options)


def run_in_foreground(spec: EmulatorSpec, ready: Callable[[EmulatorReady], None], *, link: Path | None = None) -> None:
    """`run_emulator`, with paths that are the same from run to run.

    link: to the port; its calibration is `LINK.calibration.json`. Both are removed in the end. UsageError where
    something else lies there.
    """
    if link is None:
        run_emulator(spec, ready)
        return
    port = link.expanduser().absolute()
    calibration = port.with_name(f"{port.name}.calibration.json")
    for path in (port, calibration):
        refuse_taken(path)
    with ExitStack() as stack:

        def reached(paths: EmulatorReady) -> None:
            stack.enter_context(linked(calibration, Path(paths.calibration)))
            ready(paths.model_copy(update={"calibration": str(calibration)}))

        run_emulator(spec.model_copy(update={"link": str(port)}), reached)
