"""LeRobot's side of realtime.py: `lerobot-rollout` on an emulated port, and its control loop beside a busy machine."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import realtime_program as program
from realtime_runs import THREADS, peak_megabytes
from startup import find

_STARTED = "control loop started"
"""lerobot-rollout says so before its first tick."""
_PATIENCE_S = 180.0


@contextlib.contextmanager
def emulated_arm(folder: Path) -> Iterator[tuple[str, Path]]:
    """An SO-101 that is there before a program starts: its port and its calibration."""
    command = [sys.executable, "-m", "smolpilot", "robot", "emulate", "so101", "--link", f"{folder}/arm", "--json"]
    emulator = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert emulator.stdout is not None
        text = ""
        while not text.rstrip().endswith("}"):
            line = emulator.stdout.readline()
            if not line:
                raise SystemExit("the emulated arm did not start")
            text += line
        paths = json.loads(text)
        yield paths["port"], Path(paths["calibration"])
    finally:
        emulator.terminate()
        emulator.wait()


def smallest_policy(folder: Path) -> None:
    """The smallest policy of LeRobot's that needs no image: a Gaussian actor with 8 hidden units."""
    import torch
    from lerobot.configs.types import FeatureType, PolicyFeature
    from lerobot.policies.gaussian_actor.configuration_gaussian_actor import GaussianActorConfig
    from lerobot.policies.gaussian_actor.modeling_gaussian_actor import GaussianActorPolicy
    from lerobot.policies.gaussian_actor.processor_gaussian_actor import make_gaussian_actor_pre_post_processors

    config = GaussianActorConfig(
        input_features={"observation.state": PolicyFeature(FeatureType.STATE, (6,))},
        output_features={"action": PolicyFeature(FeatureType.ACTION, (6,))},
        dataset_stats=None, device="cpu", push_to_hub=False, state_encoder_hidden_dim=8, latent_dim=8,
    )  # fmt: skip
    GaussianActorPolicy(config).save_pretrained(folder)
    one = {"min": torch.full((6,), -1.0), "max": torch.full((6,), 1.0)}
    stats = {"observation.state": one, "action": one}
    for processor in make_gaussian_actor_pre_post_processors(config, dataset_stats=stats):
        processor.save_pretrained(folder)


def start_of_rollout(folder: Path, port: str, calibration: Path) -> dict[str, Any]:
    """Seconds from exec of lerobot-rollout to its control loop, and its most memory in MB; `failed`: why not."""
    policy = folder / "policy"
    made = subprocess.run([*program.command("peer_policy()"), str(policy)], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        return {"failed": f"its policy could not be made: {made.stderr.strip()[-200:]}"}
    command = [
        find("lerobot-rollout") or "lerobot-rollout", "--strategy.type=base", f"--policy.path={policy}",
        "--robot.type=so101_follower", f"--robot.port={port}", f"--robot.id={calibration.stem}",
        f"--robot.calibration_dir={calibration.parent}", "--duration=2", "--return_to_initial_position=false",
        "--play_sounds=false",
    ]  # fmt: skip
    begun, said = time.monotonic(), ""
    found: dict[str, Any] = {}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    try:
        assert process.stdout is not None
        while time.monotonic() - begun < _PATIENCE_S:
            found["megabytes"] = peak_megabytes(process.pid) or found.get("megabytes")
            if not select.select([process.stdout], [], [], 0.02)[0]:
                continue
            if not (more := os.read(process.stdout.fileno(), 65_536)):
                break
            said += more.decode(errors="replace")
            if _STARTED in said and "seconds" not in found:
                found["seconds"] = time.monotonic() - begun
    finally:
        if process.poll() is None and "seconds" not in found:
            process.terminate()
        process.wait()
    return found if "seconds" in found else {"failed": said.strip()[-300:]} | imported(port, calibration)


def imported(port: str, calibration: Path) -> dict[str, Any]:
    """Where lerobot-rollout does not run: seconds of what it imports and of the robot's connect, and MB."""
    text = (
        "import resource, sys, time; start = time.perf_counter(); import lerobot.scripts.lerobot_rollout\n"
        "from lerobot.robots.so_follower import SO101Follower, SOFollowerRobotConfig\n"
        "port, name, folder = sys.argv[1:]\n"
        "robot = SO101Follower(SOFollowerRobotConfig(id=name, port=port, calibration_dir=folder))\n"
        "robot.connect(calibrate=False); took = time.perf_counter() - start; robot.disconnect()\n"
        "print(took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)\n"
    )
    command = [sys.executable, "-c", text, port, calibration.stem, str(calibration.parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return {}
    seconds, megabytes = map(float, done.stdout.split()[-2:])
    return {"import_seconds": seconds, "megabytes": megabytes}


def loops(port: str, calibration: Path, rates: list[float], seconds: float, own: float) -> dict[str, Any]:
    """LeRobot's control loop in a process of its own: see `program.peer_loops`. own: seconds of its second part."""
    words = [port, calibration.stem, str(calibration.parent), json.dumps([rates, seconds, own])]
    command, environ = program.command("peer_loops()", *words), {**os.environ, **THREADS}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
    if done.returncode != 0:
        return {"failed": done.stderr.strip()[-300:]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def play_loops() -> int:
    """In that process: lateness of ticks beside a busy process of the policy's niceness, then with the same threads in
    this process, which is where lerobot-rollout computes a policy."""
    port, name, folder, rest = sys.argv[1:]
    rates, seconds, own = json.loads(rest)
    from lerobot.robots.so_follower import SO101Follower, SOFollowerRobotConfig

    robot = SO101Follower(SOFollowerRobotConfig(id=name, port=port, calibration_dir=Path(folder)))
    robot.connect(calibrate=False)
    found: dict[str, Any] = {"beside": {}, "within": {}}
    try:
        with subprocess.Popen(program.command("busy(10)"), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as load:
            assert load.stdin is not None
            assert load.stdout is not None
            load.stdout.readline()
            for rate in rates:
                found["beside"][f"{rate:g}"] = play_loop(robot, rate, seconds)
            load.stdin.close()
        if own > 0:
            program.burn()
            for rate in rates:
                found["within"][f"{rate:g}"] = play_loop(robot, rate, own)
    finally:
        robot.disconnect()
    print(json.dumps(found))
    return 0


def play_loop(robot: Any, rate: float, seconds: float) -> list[float]:
    """The ticks of BaseStrategy.run, without a policy: observe, command, sleep what is left of the period. How late
    each began after the one before it and a period, in seconds: its loop knows no other due time."""
    from lerobot.utils.robot_utils import precise_sleep

    period, begun = 1.0 / rate, []
    start = time.perf_counter()
    while (now := time.perf_counter()) - start < seconds:
        begun.append(now)
        observed = robot.get_observation()
        action = {name: value for name, value in observed.items() if name.endswith(".pos")}
        action["shoulder_pan.pos"] = float(program.sine((now - start) * program.RATE))
        robot.send_action(action)
        precise_sleep(period - (time.perf_counter() - now))
    return [second - first - period for first, second in pairwise(begun)]
