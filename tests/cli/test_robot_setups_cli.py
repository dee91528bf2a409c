"""`smolpilot robot` with setups and arms: list, show, find, new and emulate as a user runs them."""

from __future__ import annotations

import json
import os
import pty
import select
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from smolpilot.cli.main import main
from smolpilot.cli.parsing.schemas import schema_of
from smolpilot.common.errors import ProfileError
from smolpilot.robots import RobotProfile
from smolpilot.robots.yaml_kinds import setups_folder
from smolpilot.runtime.calibration import default_calibration, read_calibration, write_calibration
from smolpilot.runtime.drivers.feetech.arm import FeetechArm
from smolpilot.runtime.emulator.bus import EmulatedBus
from smolpilot.runtime.setup import found_ports
from smolpilot.runtime.setup.robot_setup import RobotSetup, list_setups

from ..runtime.cameras.helpers_video import write_video

SO101 = RobotProfile.load("so101")
NEW_EMULATED = ["robot", "new", "new.yaml", "--profile", "so101", "--driver", "emulated"]
NEW_FEETECH = [*NEW_EMULATED[:-1], "feetech", "--port"]


@pytest.fixture
def arm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EmulatedBus]:
    """An arm of the emulator, which LeRobot has calibrated here under the id `blue`."""
    monkeypatch.setenv("HF_LEROBOT_CALIBRATION", str(tmp_path / "calibration"))
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "calibration" / "robots" / "so_follower"
    folder.mkdir(parents=True)
    write_calibration(folder / "blue.json", default_calibration(SO101))
    with EmulatedBus() as bus:
        yield bus


def test_the_list_has_the_setups_below_the_profiles(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["robot", "list"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in list_setups())
    assert main(["robot", "list", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [setup["name"] for setup in document["setups"]] == list_setups()


def test_a_setup_is_shown_with_its_devices_limits_and_start_pose(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["robot", "show", "tabletop-emulated"]) == 0
    out = capsys.readouterr().out
    for part in ("plant: environment:tabletop", "camera side", "-1.4 profile .. 1.4 profile", "default", "1.57"):
        assert part in out
    assert main(["robot", "show", "so101-emulated"]) == 0
    assert "leaves out: front, wrist" in capsys.readouterr().out


def test_a_setup_as_json_is_a_setup_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["robot", "show", "tabletop-emulated", "--json"]) == 0
    (tmp_path / "copy.yaml").write_text(capsys.readouterr().out, encoding="utf-8")
    shipped, copy = RobotSetup.load("tabletop-emulated"), RobotSetup.load(tmp_path / "copy.yaml")
    assert copy.values() == shipped.values()


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["robot", "profile", "check", "setup.yaml"], "is a robot setup"),
        (["robot", "show", "so101-emulatd"], "Did you mean"),
        (["robot", "emulate", "setup.yaml"], "its arm is no emulated one"),
        (["robot", "emulate", "pusht"], "a servo turns in no such unit"),
        (["robot", "new", "new.yaml"], "--profile is not given"),
        (["robot", "new", "new.yaml", "--profile", "so101"], "--driver is not given"),
        (["robot", "new", "new.yaml", "--profile", "so101", "--driver", "feetec"], "Did you mean 'feetech'?"),
        (["robot", "new", "new.yaml", "--profile", "so101", "--driver", "feetec"], "There is no driver 'feetec'"),
        (["robot", "new", "new.yaml", "--profile", "so101", "--driver", "feetech"], "needs --port"),
        ([*NEW_FEETECH, "setup.yaml", "--calibration", "blue"], "setup.yaml is no serial port"),
        ([*NEW_FEETECH, ".", "--calibration", "blue"], ". is no serial port"),
        ([*NEW_FEETECH, "/dev/null"], "needs --calibration"),
        ([*NEW_EMULATED, "--driver-options", "faults={drop: 1"], "--driver-options faults:1 is not valid YAML"),
        ([*NEW_EMULATED, "--driver-options", "type=feetech"], "type is given twice"),
        ([*NEW_EMULATED, "--camera", "front=file:none.mp4"], "none.mp4, does not exist"),
        (["robot", "new", "setup.yaml", "--profile", "so101", "--driver", "emulated"], "setup.yaml"),
        (["robot", "find", "--prot", "x"], "--port"),
    ],
)
def test_misuse_exits_2_and_says_what_is_meant(
    words: list[str], part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = "profile: so101\ndriver: {type: feetech, port: /dev/ttyACM0, calibration: my_arm}\n"
    Path("setup.yaml").write_text(text, encoding="utf-8")
    assert main(words) == 2
    err = capsys.readouterr().err
    assert part in err
    assert "Traceback" not in err
    assert not Path("new.yaml").exists()


def test_find_shows_what_answers_and_the_command_that_comes_next(
    arm: EmulatedBus, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["robot", "find", "--port", arm.port]) == 0
    out = capsys.readouterr().out
    for part in ("SO-100 or SO-101", "STS3215", "3.10", "12.1", "calibrated here: blue"):
        assert part in out
    assert f"robot new my_arm.yaml --profile so101 --driver feetech --port {arm.port} --calibration blue" in out
    assert main(["robot", "find", "--port", arm.port, "/dev/null", "--json"]) == 0
    found = {port["device"]: port for port in json.loads(capsys.readouterr().out)["ports"]}
    assert [servo["id"] for servo in found[arm.port]["servos"]] == [1, 2, 3, 4, 5, 6]
    assert "cannot be opened" in found["/dev/null"]["problem"]


def test_find_exits_1_where_nothing_answers(
    arm: EmulatedBus, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["robot", "find", "--port", "/dev/null"]) == 1
    assert "Fix:" in capsys.readouterr().out
    monkeypatch.setattr(found_ports, "serial_ports", list)
    assert main(["robot", "find"]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "This machine has no serial port of a USB adapter. Is the arm's USB cable plugged in?"
    assert out[1].startswith("Without an arm: smolpilot robot emulate so101")


def test_new_with_options_writes_a_setup_that_is_valid_and_reaches_the_arm(
    arm: EmulatedBus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["robot", "new", "arm.yaml", "--profile", "so101", "--driver", "feetech", "--port", arm.port]
    assert main([*words, "--calibration", "blue", "--driver-options", "timeout=0.5"]) == 0
    assert "Next: smolpilot robot check arm.yaml" in capsys.readouterr().out
    values = yaml.safe_load((tmp_path / "arm.yaml").read_text(encoding="utf-8"))
    assert list(jsonschema.Draft202012Validator(schema_of("setup")).iter_errors(values)) == []
    driver = RobotSetup.load(tmp_path / "arm.yaml").make_driver()
    assert isinstance(driver, FeetechArm)
    assert len(driver.details()) == 6
    assert main([*words, "--calibration", "blue"]) == 2
    assert "exist" in capsys.readouterr().err


def test_new_asks_on_a_terminal_until_it_understands(arm: EmulatedBus, tmp_path: Path) -> None:
    port = ["/dev/nothing", ".", arm.port]
    cameras = ["front.mp4", "file:frnt.mp4", "file:front.mp4", ""]
    answers = ["so10", "so101", "fetch", "feetech", *port, "bleu", "blue", *cameras]
    write_video(tmp_path / "front.mp4")
    shown = typed([sys.executable, "-m", "smolpilot", "robot", "new", "arm.yaml"], answers)
    expected = [
        "Did you mean 'so101'?",
        "There is no driver 'fetch'. Did you mean 'feetech'?",
        "There is no port /dev/nothing",
        ". is no serial port.",
        "frnt.mp4, does not exist",
        "calibrated here: blue",
        "Did you mean 'blue'?",
    ]
    for part in (*expected, "begins with no camera type", "Next: smolpilot robot check arm.yaml"):
        assert part in shown
    setup = RobotSetup.load(tmp_path / "arm.yaml")
    assert setup.driver.options.model_dump()["port"] == arm.port
    assert setup.missing_cameras == ["wrist"]


def typed(command: list[str], answers: list[str]) -> str:
    """What a program shows on a terminal where each of its questions is answered."""
    main_end, end = pty.openpty()
    process = subprocess.Popen(command, stdin=end, stdout=end, stderr=end, env={**os.environ, "COLUMNS": "200"})
    os.close(end)
    shown, seen, deadline = "", 0, time.monotonic() + 60
    while time.monotonic() < deadline:
        if select.select([main_end], [], [], 0.05)[0]:
            try:
                shown += os.read(main_end, 65_536).decode()
            except OSError:  # it has ended
                break
        elif answers and shown[seen:].rstrip(" ").endswith(":") and shown[seen:].strip():
            seen = len(shown)
            os.write(main_end, f"{answers.pop(0)}\n".encode())
    os.close(main_end)
    assert process.wait(10) == 0, shown
    return shown


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, Any]]]:
    """`robot emulate so101 --link arm --json`, and what it printed."""
    words = [sys.executable, "-m", "smolpilot", "robot", "emulate", "so101", "--link", "arm", "--json"]
    process = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield process, json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_emulate_serves_an_arm_and_ends_without_leaving_anything(
    emulator: tuple[subprocess.Popen[bytes], dict[str, Any]], number: int, tmp_path: Path
) -> None:
    process, told = emulator
    assert told["port"] == str(tmp_path / "arm")
    assert told["servos"] == {joint.name: i for i, joint in enumerate(SO101.joints, 1)}
    calibration = read_calibration(Path(told["calibration"]), SO101)
    driver = FeetechArm(SO101, told["port"], calibration, timeout=0.5)
    driver.connect()
    assert driver.read().faults == {}
    driver.disconnect()
    folder = Path(told["frames"]).parent
    assert folder.is_dir()
    process.send_signal(number)
    assert process.wait(20) == 0
    assert (folder.exists(), list(tmp_path.iterdir())) == (False, [])


def test_a_second_arm_does_not_take_the_link_of_the_first(
    emulator: tuple[subprocess.Popen[bytes], dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    before = (tmp_path / "arm").readlink()
    assert main(["robot", "emulate", "so101", "--link", "arm"]) == 2
    assert "An emulated arm that runs has" in capsys.readouterr().err
    assert (tmp_path / "arm").readlink() == before


def test_emulate_runs_without_standard_output(tmp_path: Path) -> None:
    words = f"exec {sys.executable} -m smolpilot robot emulate so101 --link arm >&-"
    process = subprocess.Popen(["bash", "-c", words], cwd=tmp_path, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not (tmp_path / "arm.calibration.json").is_symlink() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.terminate()
    assert process.communicate(timeout=20)[1] == b""
    assert (process.returncode, list(tmp_path.iterdir())) == (0, [])


def test_emulate_prints_commands_that_a_shell_reads(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "smolpilot", "robot", "emulate", "so101", "--link", "my arm"]
    process = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    while not (line := process.stdout.readline()).startswith("  smolpilot robot new"):
        assert line, "it has ended"
    process.terminate()
    process.communicate(timeout=20)
    assert shlex.split(line)[-3:] == [f"{tmp_path}/my arm", "--calibration", f"{tmp_path}/my arm.calibration.json"]


def test_emulate_takes_no_path_that_something_else_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("arm.calibration.json").write_text("mine", encoding="utf-8")
    assert main(["robot", "emulate", "so101", "--link", "arm"]) == 2
    assert "is there already" in capsys.readouterr().err
    assert Path("arm.calibration.json").read_text(encoding="utf-8") == "mine"


CHANGES: list[dict[str, Any]] = [
    {"profil": "so101"},
    {"driver": {"type": "feetech"}},
    {"driver": {"type": "none"}},
    {"driver": {"type": "emulated", "plnt": "servo"}},
    {"start_pose": {"shoulder_pan": "x"}},
    {"operating_limits": {"shoulder_pan": {"velocity": 0}}},
    {"governor": {"max_state_age": 0}},
    {"cameras": {"top": {"type": "environment", "width": 0, "height": 1, "fps": 1}}},
]


@pytest.mark.parametrize("change", CHANGES)
def test_the_schema_of_a_setup_refuses_what_the_reader_refuses(change: dict[str, Any]) -> None:
    values = {**yaml.safe_load(RobotSetup.load("tabletop-emulated").to_yaml()), **change}
    with pytest.raises(ProfileError, match=r"\w"):
        RobotSetup.from_yaml(yaml.safe_dump(values))
    assert list(jsonschema.Draft202012Validator(schema_of("setup")).iter_errors(values)) != []


def test_shipped_setups_are_valid_by_the_schema() -> None:
    validator = jsonschema.Draft202012Validator(schema_of("setup"))
    for name in list_setups():
        text = setups_folder().joinpath(f"{name}.yaml").read_text(encoding="utf-8")
        assert list(validator.iter_errors(yaml.safe_load(text))) == [], name
