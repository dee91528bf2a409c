"""Units: preflight, train and `dataset check` come to the same verdict, and the option that they name mends it.

One recording per pair of units, in which one joint stands still; and the robot is found in every verb alike.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from smolpilot.cli.main import main
from smolpilot.datasets import DatasetWriter
from smolpilot.robots import Joint, RobotProfile

SO = ["shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper"]
TURN = 180 / math.pi


def record(
    path: Path, joints: list[Joint], *, factors: list[float] | None = None, robot_type: str = "arm", suffix: str = "",
    share: float = 0.8, servo: bool = False,
) -> Path:  # fmt: skip
    """Two episodes that use `share` of each joint's limits, the second joint at rest, in numbers times `factors`.

    servo: joints with limits but the last swing beyond -100..100 and are clipped there, as a servo bus does.
    """
    limits = np.array([joint.position_limits or (-1.0, 1.0) for joint in joints])
    middle, half = limits.mean(axis=1), share * (limits[:, 1] - limits[:, 0]) / 2
    if servo:
        middle, half = np.where(limits[:, 0] < 0, 0.0, middle), np.where(limits[:, 0] < 0, 115.0, half)
    names = [joint.name + suffix for joint in joints]
    with DatasetWriter(
        path, fps=10, state_names=names, action_names=names, cameras={"front": (32, 32)}, robot_type=robot_type
    ) as writer:
        for episode in range(2):
            for frame in range(24):
                phase = frame / 4 + episode + np.arange(len(names))
                values = middle + half * np.sin(phase)
                values[1] = middle[1] + 0.2 * half[1]
                if servo:
                    values[:-1] = np.clip(values[:-1], -100, 100)
                values = (values * (factors or 1.0)).astype(np.float32)
                picture = np.full((32, 32, 3), 8 * frame, np.uint8)
                writer.add_frame(
                    {"observation.state": values, "action": values, "observation.images.front": picture, "task": "move"}
                )
            writer.end_episode()
    return path


def arm(path: Path, unit: str, factor: float, gripper: tuple[str, float], slide: tuple[str, float]) -> RobotProfile:
    """Four angles, a length and a gripper; the last angle's limits are far from zero."""
    angles = [(-2.9, 2.9), (-1.5, 1.5), (-3.07, -0.07), (-2.5, 2.5)]
    joints = [
        *(
            {"name": f"axis {'abcd'[i]}", "unit": unit, "position_limits": [low * factor, high * factor]}
            for i, (low, high) in enumerate(angles)
        ),
        {"name": "slide", "unit": slide[0], "position_limits": [-0.2 * slide[1], 0.5 * slide[1]]},
        {"name": "hand", "unit": gripper[0], "position_limits": [0.0, gripper[1]]},
    ]
    lines = [json.dumps({**joint, "velocity_limit": 0.001}) for joint in joints]
    text = f"name: arm\ndescription: an arm\nrate: 10\njoints:\n{''.join(f'  - {line}{chr(10)}' for line in lines)}"
    path.write_text(text + "gripper: [hand]\n")
    return RobotProfile.load(path)


@dataclass(frozen=True)
class Pair:
    """Declared on recorded: units of angle, slide and gripper's way; what its numbers are multiplied by."""

    profile: tuple[str, float, tuple[str, float], tuple[str, float]]
    factors: tuple[float, float, float]
    wrong: str
    looks: str
    fix: str


RADIANS = ("rad", 1.0, ("normalized", 1.0), ("m", 1.0))
DEGREES = ("deg", TURN, ("normalized", 100.0), ("mm", 1000.0))
PAIRS = {
    "deg-on-rad": Pair(RADIANS, (TURN, 1, 1), "axis", "degrees, not rad", "--units all=deg"),
    "rad-on-deg": Pair(DEGREES, (1 / TURN, 1, 1), "axis", "radians, not deg", "--units all=rad"),
    "mm-on-m": Pair(RADIANS, (1, 1000, 1), "slide", "millimeters, not m", "--units all=mm"),
    "m-on-mm": Pair(DEGREES, (1, 0.001, 1), "slide", "meters, not mm", "--units all=m"),
    "percent-on-fraction": Pair(RADIANS, (1, 1, 100), "hand", "0..100, not 0..1", "--units hand=percent"),
    "fraction-on-percent": Pair(DEGREES, (1, 1, 0.01), "hand", "0..1, not 0..100", "--units hand=fraction"),
    "byte-on-fraction": Pair(RADIANS, (1, 1, 255), "hand", "0..255, not 0..1", "--units hand=byte"),
}


def verdicts(data: Path, robot: str, folder: Path, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, str]:
    """What each verb says: its errors on units, or an empty text."""
    said = {}
    failed = main(["preflight", "--dataset", str(data), "--robot", robot, "--json", *more]) != 0
    lines = json.loads(capsys.readouterr().out)
    errors = [f"{line['found']} {line['fix']}" for line in lines if line["verdict"] == "error"]
    assert failed == bool(errors)
    said["preflight"] = " ".join(errors)
    words = ["train", "--dataset", str(data), "--robot", robot, "--preset", "tiny", "--from-scratch", "--steps", "1",
             "--chunk-size", "4", "--device", "cpu", "--batch-size", "2", "--held-out", "0"]  # fmt: skip
    out = folder / "run"
    if errors:  # what passes is trained in test_preflight.py, which is slower (tests/selftest)
        assert main([*words, "--out", str(out), *more]) == 1
        said["train"] = " ".join(capsys.readouterr().err.split())
        assert not out.exists()
    else:
        said["train"] = _train_verdict([*words, "--out", str(out), *more])
    failed = main(["dataset", "check", str(data), "--robot", robot, "--json", *more]) != 0
    found = json.loads(capsys.readouterr().out)["findings"]
    units = [f"{f['message']} {f['fix']}" for f in found if f["code"] == "unit-mismatch" and f["severity"] == "error"]
    assert failed == bool(units)
    said["check"] = " ".join(units)
    if units:
        # The slide, the hand and the axes are far too fast for this profile: the ones in another unit are not said.
        said["consequences"] = " ".join(f["joint"] for f in found if f["code"] in ("limit-velocity", "limit-position"))
    return said


def _train_verdict(words: list[str]) -> str:
    """The errors that stop `train`, by the functions that it calls before the first step."""
    from smolpilot.cli.parsing.options import parse_with_config
    from smolpilot.training.options.train_options import TrainOptions
    from smolpilot.training.run.setup import prepare

    prepared = prepare(parse_with_config(TrainOptions, words[1:], verb="train"))
    return " ".join(line.found for line in prepared.preflight() if line.verdict == "error")


@pytest.mark.parametrize("name", PAIRS)
def test_one_verdict_in_three_verbs(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair = PAIRS[name]
    profile = arm(tmp_path / "arm.yaml", *pair.profile)
    angle, slide, hand = pair.factors
    data = record(tmp_path / "data", profile.joints, factors=[angle] * 4 + [slide, hand])
    said = verdicts(data, str(tmp_path / "arm.yaml"), tmp_path, capsys)
    for verb in ("preflight", "train", "check"):
        assert pair.looks in said[verb], verb
        assert pair.fix in said[verb], verb
    assert pair.wrong not in said["consequences"]
    assert said["consequences"]  # the other joints are judged as ever
    # What they propose mends it; `check` writes the whole command.
    assert f"smolpilot dataset check {data} --robot {tmp_path / 'arm.yaml'} {pair.fix}" in said["check"]
    mended = verdicts(data, str(tmp_path / "arm.yaml"), tmp_path, capsys, *pair.fix.split())
    assert mended == {"preflight": "", "train": "", "check": ""}


@pytest.mark.parametrize(("recorded", "declared"), [("so101_normalized", "so101"), ("so101", "so101_normalized")])
def test_the_range_of_a_servo_bus_and_degrees(
    recorded: str, declared: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    joints = RobotProfile.load(recorded).joints
    data = record(tmp_path / "data", joints, servo=recorded == "so101_normalized", share=0.95, suffix=".pos")
    said = verdicts(data, declared, tmp_path, capsys)
    for verb in ("preflight", "train", "check"):
        assert f"--robot {recorded}" in said[verb]
    assert verdicts(data, recorded, tmp_path, capsys) == {"preflight": "", "train": "", "check": ""}


def robot_in(data: Path, verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[str, str]:
    """(profile, unit of the first joint) as a verb gives them."""
    if verb == "preflight":
        assert main(["preflight", "--dataset", str(data), "--json", *more]) == 0
        lines = {line["topic"]: line["found"] for line in json.loads(capsys.readouterr().out)}
        return lines["robot"].split(",")[0].removeprefix("robot: "), lines["state joints"].split("units ")[1].split(
            ","
        )[0]
    words = {"view": ["--no-check", "--out", str(tmp_path / f"view{len(more)}")]}.get(verb, [])
    assert main(["dataset", verb, str(data), "--json", *words, *more]) == 0
    shown = json.loads(capsys.readouterr().out)
    if verb == "info":
        return shown["robot"]["name"], shown["features"]["observation.state"]["units"][0]
    if verb == "stats":
        return shown["robot"], shown["features"]["observation.state"]["units"][0]
    if verb == "view":
        facts = (Path(shown["page"]).parent / "data" / "index.js").read_text()
        page = json.loads(facts[facts.index("(") + 1 : facts.rindex(")")])
        return page["robot"], page["joints"][0]["unit"]
    return shown["robot"], ""


@pytest.mark.parametrize("verb", ["info", "stats", "view", "check", "preflight"])
def test_every_verb_finds_the_same_robot(verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = record(tmp_path / "data", RobotProfile.load("so101").joints, robot_type="so_follower", suffix=".pos")
    assert robot_in(data, verb, tmp_path, capsys) == ("so101", "" if verb == "check" else "deg")
    none = robot_in(data, verb, tmp_path, capsys, "--robot", "none")
    known = {"info": (None, None), "stats": (None, None), "view": ("so_follower", None), "check": (None, "")}
    assert none == known.get(verb, ("no profile", "unknown"))


def test_the_range_of_a_servo_bus_is_recognized_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    joints = RobotProfile.load("so101_normalized").joints
    data = record(tmp_path / "data", joints, robot_type="so101_follower", suffix=".pos", servo=True)
    for verb in ("info", "stats", "view", "check"):
        expected = ("so101_normalized", "" if verb == "check" else "normalized")
        assert robot_in(data, verb, tmp_path, capsys) == expected
    assert main(["preflight", "--dataset", str(data)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "so101_normalized" in said
    assert "-100..100" in said


def test_what_was_assumed_of_units_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    joints = RobotProfile.load("so101").joints
    lines: dict[str, dict[str, str]] = {}
    for kind, share in (("so_follower", 0.5), ("so101_follower", 0.5), ("so101", 0.95)):
        data = record(tmp_path / kind, joints, robot_type=kind, share=share)
        assert main(["preflight", "--dataset", str(data), "--json"]) == 0
        for line in json.loads(capsys.readouterr().out):
            if line["topic"] == "units":
                lines[kind] = line
    assert lines["so_follower"]["verdict"] == "ok"
    assert "taken as deg; datasets recorded before LeRobot 0.6 may hold -100..100" in lines["so_follower"]["found"]
    # LeRobot wrote that type only while -100..100 was its default.
    assert (lines["so101_follower"]["verdict"], lines["so101_follower"]["fix"]) == (
        "warning",
        "--robot so101_normalized",
    )
    assert "so101" not in lines  # beyond 100: certainly degrees
    data = record(tmp_path / "koch", RobotProfile.load("koch").joints, robot_type="koch_follower")
    assert main(["preflight", "--dataset", str(data), "--json"]) == 0
    assert "taken as -100..100; datasets made with use_degrees: true" in capsys.readouterr().out


def test_a_recording_in_an_old_format_is_doubted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = record(tmp_path / "v3", RobotProfile.load("so101").joints, robot_type="so101", share=0.5)
    assert main(["dataset", "convert", str(data), str(tmp_path / "v21"), "--to", "v2.1"]) == 0
    capsys.readouterr()
    assert main(["preflight", "--dataset", str(tmp_path / "v21"), "--robot", "so101", "--json"]) == 0
    (line,) = [line for line in json.loads(capsys.readouterr().out) if line["topic"] == "units"]
    assert line["verdict"] == "warning"
    assert "format v2.1" in line["found"]


def test_another_robots_profile_names_the_right_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = record(tmp_path / "data", RobotProfile.load("kuavo").joints, robot_type="kuavo")
    assert main(["preflight", "--dataset", str(data), "--robot", "so101", "--json"]) == 1
    (line,) = [line for line in json.loads(capsys.readouterr().out) if line["verdict"] == "error"]
    assert line["fix"] == "this dataset says robot_type kuavo: --robot kuavo"
    words = ["train", "--dataset", str(data), "--robot", "so101", "--preset", "tiny", "--from-scratch"]
    assert main([*words, "--steps", "1", "--out", str(tmp_path / "run")]) == 2
    assert "--robot kuavo" in capsys.readouterr().err
    for verb in ("stats", "info"):
        assert main(["dataset", verb, str(data), "--robot", "so101"]) == 2
        assert "--robot kuavo" in capsys.readouterr().err
    assert main(["dataset", "check", str(data), "--robot", "so101", "--json"]) == 1
    assert "--robot kuavo" in capsys.readouterr().out


def test_a_summary_and_the_next_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = record(tmp_path / "data", RobotProfile.load("so101").joints, robot_type="so_follower", share=0.9)
    assert main(["preflight", "--dataset", str(data), "--robot", "so101"]) == 0
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert last.startswith("Ready: ")
    assert f"smolpilot train --dataset {data} --policy POLICY --robot so101 --out RUN" in last
    assert main(["preflight", "--dataset", str(data), "--robot", "kuavo"]) == 1
    assert capsys.readouterr().out.strip().splitlines()[-1].startswith("Not ready: 1 error")


@pytest.mark.parametrize(
    ("units", "part"),
    [
        (["all=mm"], "no joint of robot 'so101' can be in it"),
        (["all=normalized"], "--robot so101_normalized"),
        (["gripper.pos=fracton"], "Did you mean 'fraction'?"),
        (["griper.pos=fraction"], "Did you mean 'gripper.pos'?"),
    ],
)
def test_units_that_cannot_be_are_refused(
    units: list[str], part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = record(tmp_path / "data", RobotProfile.load("so101").joints, robot_type="so_follower", suffix=".pos")
    assert main(["dataset", "check", str(data), "--units", *units]) == 2
    assert part in capsys.readouterr().err
    assert main(["preflight", "--dataset", str(data), "--json", "--units", *units]) == 1
    assert part in capsys.readouterr().out
    assert main(["dataset", "check", str(data), "--robot", "none", "--units", *units]) == 2
    assert "--robot PROFILE" in capsys.readouterr().err


def test_a_policy_without_a_profile_is_scored_in_the_datasets_units(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from smolpilot.datasets import open_dataset
    from smolpilot.evaluation import evaluate
    from smolpilot.smolvla import load_policy, new_policy, save_bundle

    data = record(tmp_path / "data", RobotProfile.load("so101").joints, robot_type="so_follower", suffix=".pos")
    policy = new_policy(
        "tiny", meta=open_dataset(data).meta, seed=1, device="cpu", overrides={"chunk_size": 4, "n_action_steps": 4}
    )
    folder = save_bundle(policy, tmp_path / "policy")
    words = ["eval", str(folder), "--dataset", str(data), "--episodes", "0", "--max-frames", "2", "--json"]
    assert main([*words, "--robot", "so101", "--out", str(tmp_path / "refused")]) == 2
    assert "carries its own robot profile" in capsys.readouterr().err
    for name in ("robot.yaml", "smolpilot.json"):  # as LeRobot's checkpoints are
        (folder / name).unlink()
    policy = load_policy(folder, device="cpu", dtype="float32")
    # The last is named, but these numbers are surely not in its unit.
    for robot, unit in ((None, "deg"), ("none", "dataset units"), ("so101_normalized", "dataset units")):
        result = evaluate(policy, open_dataset(data), "0", max_frames=2, latency=False, robot=robot)
        assert result.document["joints"][0]["unit"] == unit


def test_preflight_without_a_policy_loads_no_torch(tmp_path: Path) -> None:
    data = record(tmp_path / "data", RobotProfile.load("so101").joints, robot_type="so_follower")
    code = "import sys; from smolpilot.cli.main import main; main(sys.argv[1:]); "
    code += "print('torch' in sys.modules, 'lerobot' in sys.modules)"
    words = [sys.executable, "-c", code, "preflight", "--dataset", str(data)]
    run = subprocess.run(words, capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "False False"
