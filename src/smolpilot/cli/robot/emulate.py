"""`smolpilot robot emulate NAME`: an emulated arm on a serial port of this machine, for our verbs and for others'."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from smolpilot.common.option_types import Flag

from ..parsing.verbs import Verb

if TYPE_CHECKING:
    from smolpilot.runtime.emulator.process import EmulatorReady
    from smolpilot.runtime.emulator.spec import EmulatorSpec


@dataclass(kw_only=True)
class EmulateOptions:
    """Run an emulated arm: STS3215 servos, register by register, behind a serial port, until Ctrl-C.

    Any program for such arms can open the port, LeRobot's too. A setup brings what its driver `emulated` says: what the
    servos move, where they stand, faults of the bus.
    """

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")]
    """A profile or a setup: shipped (smolpilot robot list), or a YAML file."""
    link: Path | None = None
    """Reach the port by this path, and the calibration by `LINK.calibration.json`: the same from run to run."""
    json: Flag = False
    """Print one JSON document, in one line, as soon as the port can be opened."""


def run(options: EmulateOptions) -> None:
    """Run it in the foreground; Ctrl-C and SIGTERM end it and leave nothing behind."""
    from smolpilot.runtime.emulator.spec import calibration_of
    from smolpilot.runtime.setup.emulated_setup import emulator_spec, run_in_foreground

    spec = emulator_spec(options.name)
    ids = {name: entry.id for name, entry in calibration_of(spec).items()}

    def ready(paths: EmulatorReady) -> None:
        if options.json:
            facts = {"profile": spec.profile.name, "plant": spec.plant, "servos": ids}
            print(json.dumps({**paths.model_dump(), **facts}), flush=True)
        else:
            print("\n".join(_told(spec, paths, ids)), flush=True)

    run_in_foreground(spec, ready, link=options.link)
    if not options.json:
        print("Ended: the port is gone.")


def _told(spec: EmulatorSpec, paths: EmulatorReady, ids: dict[str, int]) -> list[str]:
    name = spec.profile.name
    port, file, folder = map(shlex.quote, (paths.port, paths.calibration, str(Path(paths.calibration).parent)))
    servos = ", ".join(f"{number} {joint}" for joint, number in ids.items())
    lines = [
        f"An emulated {name} answers until Ctrl-C: servos {servos}",
        f"port         {paths.port}",
        f"calibration  {paths.calibration}   (in LeRobot's form)",
    ]
    if spec.plant.startswith("environment:"):
        lines.append(f"cameras      {paths.frames}   (`device` of cameras of the type environment)")
    lines += [
        "",
        "With smolpilot, in another terminal:",
        f"  smolpilot robot find --port {port}",
        f"  smolpilot robot new my_arm.yaml --profile {name} --driver feetech --port {port} --calibration {file}",
    ]
    if name in ("so100", "so101"):
        arm = shlex.quote(Path(paths.calibration).stem)
        lines += [
            "With LeRobot, any of its programs:",
            f"  --robot.type={name}_follower --robot.port={port} --robot.id={arm} --robot.calibration_dir={folder}",
        ]
    return lines


VERB = Verb(EmulateOptions, run)
