"""`smolpilot status` and `smolpilot robot report` of a run's folder."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from smolpilot.cli.main import main
from smolpilot.contracts.run_folder import FRAMES, read_episodes, write_facts
from smolpilot.evaluation.robot_runs.standing import run_standing

from .helpers_robot_runs import end, example_run, facts


def test_a_run_that_ended_says_how(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = example_run(tmp_path / "run", seconds=3.0)
    assert run_standing(run).state == "ended"
    assert main(["status", str(run)]) == 0
    told = capsys.readouterr().out
    assert "robot run" in told
    assert "ended: all episodes were run" in told
    assert main(["status", str(run), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert (values["kind"], values["state"]) == ("robot run", "ended")
    unmarked = sum(one.mark is None for one in read_episodes(run))
    assert values["episodes"] == values["successes"] + values["failures"] + unmarked


def test_a_run_goes_on_while_its_process_does_and_is_cut_off_after_it(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    write_facts(tmp_path, facts(ended=None, host=socket.gethostname(), process=process.pid))
    (tmp_path / FRAMES).mkdir()
    assert run_standing(tmp_path).state == "running"
    process.communicate(b"\n")
    standing = run_standing(tmp_path)
    assert standing.state == "cut off"
    assert ("left", f"report.html, dataset: smolpilot robot report {tmp_path}") in standing.rows()
    write_facts(tmp_path, facts(ended=None, host="somewhere-else", process=process.pid))
    assert run_standing(tmp_path).state == "running", "nobody here can see that it does not"


def test_marks_and_stops_are_counted(tmp_path: Path) -> None:
    write_facts(tmp_path, facts())
    lines = [end(0), end(1, mark="failure"), end(2, mark=None, ended="stop", stop="Ctrl-C was pressed."),
             end(1, mark="success")]  # fmt: skip
    (tmp_path / "episodes.jsonl").write_text("".join(f"{one.model_dump_json()}\n" for one in lines))
    standing = run_standing(tmp_path)
    assert (standing.episodes, standing.successes, standing.failures) == (3, 2, 0), "said again, the last counts"
    assert standing.stops == ("Ctrl-C was pressed.",)


def test_report_writes_it_again_and_refuses_what_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = example_run(tmp_path / "run", seconds=3.0)
    page = run / "report.html"
    page.unlink(missing_ok=True)
    (run / "robot.yaml").write_text("name: nothing\n")
    assert main(["robot", "report", str(run)]) in (1, 2), "the dataset needs the profile"
    assert page.is_file(), "the report does not"
    capsys.readouterr()
    assert main(["robot", "report", str(tmp_path)]) == 1
    assert "is no folder of `smolpilot run`: it has no run.json." in capsys.readouterr().err
    write_facts(run, facts(ended=None, host=socket.gethostname(), process=os.getpid()))
    assert main(["robot", "report", str(run)]) == 0
    assert "The run goes on: its dataset is written when it has ended." in capsys.readouterr().err
