"""`smolpilot robot check SETUP --policy`: does a policy go with the arm that is connected?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from smolpilot.cli.main import main

from ..runtime.cameras.helpers_video import write_video
from ..runtime.helpers_setups import living_arm, slow_profile, write_setup
from ..runtime.safety.helpers_rig import JOINTS, PAN, Rig
from .helpers_robot_run import install_odd


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_odd(tmp_path_factory.mktemp("odd"))


@pytest.fixture
def here(tmp_path: Path, site: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the verbs are run, with a stranger's policies installed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(site), prepend=":")
    return tmp_path


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    """An arm that nobody moves."""
    with living_arm() as made:
        yield made


def looked(
    rig: Rig, here: Path, capsys: pytest.CaptureFixture[str], *words: str, **parts: Any
) -> tuple[int, dict[str, dict[str, str]]]:
    """The exit code, and the lines of the report by subject."""
    before = len(rig.goals())
    name = write_setup(rig, here, **({"profile": slow_profile(here)} | parts)).name
    code = main(["robot", "check", name, "--json", "--policy", *words])
    document = json.loads(capsys.readouterr().out)
    assert len(rig.goals()) == before, "a check moves nothing"
    return code, {line["subject"]: line for line in document["lines"]}


def test_a_policy_that_goes_with_the_arm(rig: Rig, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = write_video(here / "front.mp4")
    cameras = {"front": {"type": "file", "device": str(video), "width": 64, "height": 48, "fps": 30}}
    code, lines = looked(rig, here, capsys, "odd:looks", "--instruction", "wave", cameras=cameras)
    assert code == 0
    assert lines["policy"]["found"] == "odd, chunks of 30 actions"
    assert lines["policy joints"]["found"] == "6, names, order and units as the robot's"
    assert lines["policy camera front"]["verdict"] == "ok"
    assert lines["policy rate"]["verdict"] == "warn", "the profile of a busy machine is slower"
    assert lines["policy instruction"] == {
        "subject": "policy instruction",
        "verdict": "ok",
        "found": "“wave”",
        "fix": "",
    }
    assert lines["policy start pose"]["found"] == "the policy does not say where its demonstrations began"


def test_what_does_not_fit_fails(rig: Rig, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = looked(rig, here, capsys, "odd:other-robot")
    assert code == 1
    assert lines["policy joints"]["verdict"] == "fail"
    code, lines = looked(rig, here, capsys, "odd:blind")
    assert code == 1
    assert lines["policy camera top"]["found"] == "the policy sees through it; the setup has none"
    assert "--camera-map" in lines["policy camera top"]["fix"]


def test_of_several_instructions_one_is_to_be_said(rig: Rig, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = looked(rig, here, capsys, "odd:two-tasks")
    assert (code, lines["policy instruction"]["verdict"]) == (0, "warn")
    assert lines["policy instruction"]["fix"] == '--instruction "lift the cube"; --instruction "drop the cube"'
    _, lines = looked(rig, here, capsys, "odd:two-tasks", "--instruction", "drop the cube")
    assert (lines["policy instruction"]["verdict"], lines["policy instruction"]["found"]) == ("ok", "“drop the cube”")


def test_its_demonstrations_limits_and_start_poses_are_held_against_the_arm(
    rig: Rig, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    joints = [{"name": name, "unit": "deg", "velocity": 11.0, "acceleration": None} for name in JOINTS[:-1]]
    joints.append({"name": "gripper", "unit": "normalized", "velocity": None, "acceleration": None})
    at = dict(zip(JOINTS, (float(value) for value in rig.positions()), strict=True))
    poses = [{"name": one["name"], "unit": one["unit"]} | dict.fromkeys(("q00", "q01", "q50", "q99", "q100"), at[name])
             for one in joints if (name := str(one["name"]))]  # fmt: skip
    origins = [{"dataset": "d", "fingerprint": None, "rate": 30.0, "frames": 9, "episodes": [0]}]
    values = {"format": 1, "factor": 1.5, "quantile": 99.9, "joints": joints, "start_poses": poses, "origins": origins}
    (here / "operating_limits.json").write_text(json.dumps(values), encoding="utf-8")
    code, lines = looked(rig, here, capsys, "odd:shown")
    assert code == 0
    assert "velocity 11 per s [demonstrations]" in lines["limits shoulder_pan"]["found"]
    assert "velocity 20 per s [default" in lines["limits gripper"]["found"], "the gripper never moved"
    assert lines["policy start pose"]["found"] == "as in the demonstrations"

    poses[PAN] |= dict.fromkeys(("q00", "q01", "q50", "q99", "q100"), at["shoulder_pan"] + 60.0)
    (here / "operating_limits.json").write_text(json.dumps(values), encoding="utf-8")
    code, lines = looked(rig, here, capsys, "odd:shown")
    assert (code, lines["policy start pose"]["verdict"]) == (0, "warn"), "an arm may stand elsewhere: it is moved there"
    assert lines["policy start pose"]["found"].startswith("shoulder_pan at ")


def test_of_what_is_no_policy_the_arm_is_still_looked_at(
    rig: Rig, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, lines = looked(rig, here, capsys, "nowhere")
    assert code == 1
    assert lines["policy"]["found"].startswith("There is no checkpoint at nowhere")
    assert lines["limits shoulder_pan"]["verdict"] == "ok"
    code, lines = looked(rig, here, capsys, "odd:fails-to-open")
    assert (code, lines["policy"]["verdict"]) == (1, "fail")
    assert "ZeroDivisionError: in the loader" in lines["policy"]["found"]


def test_options_of_a_policy_without_one_are_refused(rig: Rig, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = write_setup(rig, here).name
    assert main(["robot", "check", name, "--instruction", "wave"]) == 2
    assert "about a policy" in capsys.readouterr().err
