"""`smolpilot dataset info`: tables for people, one JSON document for programs, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from smolpilot.cli.main import main


def test_tables(tiny_dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dataset", "info", str(tiny_dataset)]) == 0
    text = capsys.readouterr().out
    for part in (
        "LeRobot v3.0",
        "toy_arm",
        "6 of 18 to 23 frames",
        "123 at 10 per second",
        "64x48",
        "h264 (yuv420p)",
        "touch the blue block",
        "gripper",
        "unknown",
    ):
        assert part in text


def test_json(tiny_dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dataset", "info", str(tiny_dataset), "--json"]) == 0
    captured = capsys.readouterr()
    facts = json.loads(captured.out)
    assert captured.err == ""
    assert (facts["version"], facts["episodes"], facts["frames"], facts["fps"]) == ("v3.0", 6, 123, 10.0)
    assert facts["hours"] == pytest.approx(123 / 10 / 3600)
    assert facts["features"]["action"]["names"] == ["pan", "lift", "gripper"]
    assert facts["features"]["action"]["unit"] is None
    assert facts["cameras"]["wrist"] == {
        "width": 64, "height": 48, "codec": "h264", "pixel_format": "yuv420p", "fps": 10.0,
    }  # fmt: skip
    assert facts["instructions"][1] == {
        "task_index": 1, "text": "touch the blue block", "episodes": 3, "frames": 63,
    }  # fmt: skip
    assert len(facts["statistics"]["observation.state"]["q99"]) == 3


def test_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dataset", "info", str(tmp_path / "none")]) == 2
    assert "does not exist" in capsys.readouterr().err
    assert main(["dataset", "info", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "not a LeRobot dataset folder" in error
    assert main(["dataset", "inof"]) == 2
    assert "Did you mean 'info'?" in capsys.readouterr().err
    assert main(["dataset"]) == 0
    said = capsys.readouterr().out
    for verb in (
        "info",
        "convert",
        "compare",
        "check",
        "repair",
        "stats",
        "tasks",
        "split",
        "merge",
        "exclude",
        "view",
    ):
        assert f"  {verb} " in said


def test_reading_facts_loads_no_torch(tiny_dataset: Path) -> None:
    program = (
        "import sys; from smolpilot.cli.main import main; "
        f"code = main(['dataset', 'info', {str(tiny_dataset)!r}, '--json']); "
        "sys.exit(code or ('torch' in sys.modules and 9) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
