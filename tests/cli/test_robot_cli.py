"""`smolpilot robot` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from smolpilot.cli.main import main
from smolpilot.robots import RobotProfile, list_profiles


def test_the_table_names_every_profile(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["robot", "list"]) == 0
    out = capsys.readouterr().out
    for name in list_profiles():
        assert name in out


def test_one_robot_shows_joints_limits_and_cameras(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["robot", "show", "parol6"]) == 0
    out = capsys.readouterr().out
    for part in ("joint_2", "-145.009 .. -3.375", "deg", "front", "640", "J2"):
        assert part in out


def test_unknown_limits_are_shown_as_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["robot", "show", "pusht"]) == 0
    assert "unknown" in capsys.readouterr().out


def test_json_of_the_list_and_of_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["robot", "list", "--json"]) == 0
    assert [p["name"] for p in json.loads(capsys.readouterr().out)["profiles"]] == list_profiles()
    assert main(["robot", "show", "kuavo", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["joints"]) == 16


def test_check_accepts_a_good_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(RobotProfile.load("so101").to_yaml(), encoding="utf-8")
    assert main(["robot", "profile", "check", "mine.yaml"]) == 0
    assert "mine.yaml is valid" in capsys.readouterr().out
    assert main(["robot", "profile", "check", "mine.yaml", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["valid"] is True


def test_check_names_the_defect_and_exits_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(RobotProfile.load("so101").to_yaml().replace("rate:", "rata:"), encoding="utf-8")
    assert main(["robot", "profile", "check", str(path)]) == 2
    err = capsys.readouterr().err
    assert "unknown key 'rata'" in err
    assert "Did you mean 'rate'?" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("args", "part"),
    [
        (["robot", "show", "SO101"], "Did you mean 'so101'?"),
        (["robot", "profile", "check"], "needs more: FILE"),
        (["robot", "profile", "check", "so101"], "does not exist"),
        (["robot", "profile", "check", "nowhere.yaml"], "does not exist"),
        (["robot", "show", "so101", "koch"], "koch"),
        (["robot", "shwo", "so101"], "Did you mean 'show'?"),
    ],
)
def test_misuse_exits_2(args: list[str], part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(args) == 2
    assert part in capsys.readouterr().err
