"""`smolpilot demo` at toy sizes: every step runs for real, nothing finished is done again, an honest verdict."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from smolpilot.cli.main import main
from smolpilot.cli.robot import realtime_act
from smolpilot.contracts.run_folder import read_episodes, read_facts
from smolpilot.contracts.run_log import read_run_log
from smolpilot.environments.tabletop.demo_options import DemoOptions
from smolpilot.evaluation import rate_interval

TINY = ["--demonstrations", "4", "--steps", "3", "--rollouts", "2"]
SIZES = [*TINY, "--robot-episodes", "0"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo far too small to learn anything."""
    out = tmp_path_factory.mktemp("demo") / "demo"
    assert main(["demo", "--out", str(out), *SIZES]) == 1
    return out


def copy(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "demo", symlinks=True))


def test_it_leaves_recordings_policy_evaluation_rollouts_and_one_report(finished: Path) -> None:
    assert (finished / "recordings" / "meta" / "info.json").is_file()
    assert (finished / "run" / "checkpoints" / "best" / "model.safetensors").is_file()
    assert (finished / "eval" / "report.html").is_file()
    page = (finished / "report.html").read_text()
    for folder in ("rollout", "swapped", "untrained", "hold-state"):
        results = json.loads((finished / folder / "results.json").read_text())
        assert results["episodes"] == 2
        assert results["interval"] == pytest.approx(rate_interval(results["successes"], 2))
    for words in (
        "Right instruction",
        "Other block named",
        "Untrained weights",
        "Arm held still",
        "正确的指令",
        "<video",
    ):
        assert words in page
    assert not re.search(r"(src|href)=\"https?:", page)  # self-contained
    assert (
        '<div class="banner good"><span class="en" lang="en">Arm held still: success in 0' in page
    )  # who does nothing is there to fail


def test_again_does_nothing_twice_and_gives_the_same_verdict(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = copy(finished, tmp_path)
    before = (out / "run" / "metrics.jsonl").read_bytes()
    assert main(["demo", "--out", str(out), *SIZES]) == 1
    said = capsys.readouterr().err
    assert said.count(" exists: skipped") == 7
    assert "at least 90%: NO" in said
    assert (out / "run" / "metrics.jsonl").read_bytes() == before


def test_an_interrupted_demo_resumes(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = copy(finished, tmp_path)
    for folder in ("eval", "rollout", "swapped", "untrained", "hold-state"):
        shutil.rmtree(out / folder)
    shutil.rmtree(out / "run" / "checkpoints" / "step_000003")
    for name in ("best", "last"):
        (out / "run" / "checkpoints" / name).unlink(missing_ok=True)
    config = out / "run" / "config.yaml"
    config.write_text(config.read_text().replace(str(finished), str(out)))
    assert main(["demo", "--out", str(out), *SIZES]) == 1
    said = re.sub(r"\s+", " ", capsys.readouterr().err)
    assert "$ smolpilot train --out" in said
    assert "--resume" in said
    assert (out / "run" / "checkpoints" / "step_000003").is_dir()
    assert (out / "untrained" / "results.json").is_file()
    assert json.loads((out / "hold-state" / "results.json").read_text())["successes"] == 0


def test_success_is_exit_code_0(finished: Path, tmp_path: Path) -> None:
    out = copy(finished, tmp_path)
    for folder, rate in (("rollout", 0.9), ("swapped", 0.95), ("untrained", 0.2), ("hold-state", 0.2)):
        path = out / folder / "results.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"success_rate": rate}))
    assert main(["demo", "--out", str(out), *SIZES]) == 0
    # Who holds still and succeeds shows a world that is too easy.
    path.write_text(json.dumps(json.loads(path.read_text()) | {"success_rate": 0.3}))
    assert main(["demo", "--out", str(out), *SIZES]) == 1


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--demonstrations", "4", "--steps", "4", "--rollouts", "2"], "holds a demo with --steps 3"),
        ([*TINY[:-1], "0"], "--rollouts is 0"),
        ([*SIZES, "--seed", "-1"], "--seed is -1"),
    ],
)
def test_misuse(finished: Path, args: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--out", str(finished), *args]) == 2
    assert words in capsys.readouterr().err


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    assert main(["demo", "--out", str(tmp_path), *SIZES]) == 2
    assert "holds no demo" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_the_last_act_drives_the_emulated_arm_and_kills_its_policy(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mechanism, never the rate: every command through bus and governor, and an arm that holds."""
    monkeypatch.setattr(realtime_act, "SECONDS", 2)
    out = copy(finished, tmp_path)
    assert main(["demo", "--out", str(out), *TINY, "--robot-episodes", "1"]) == 1, "it has learned nothing"
    said = re.sub(r"\s+", " ", capsys.readouterr().err)
    assert "9/9 The emulated arm, in real time" in said
    assert "Success in real time: 0 of 1" in said
    assert "Policy process killed in the middle: the arm slowed down, held, and said why" in said
    seed = json.loads((out / "rollout" / "episodes.jsonl").read_text().splitlines()[0])["seed"]
    for name, number in (("episode-00", 0), ("killed", 1)):
        facts, log = read_facts(out / "robot" / name), read_run_log(out / "robot" / name / "run-log.jsonl")
        assert (facts.schedule["mode"], facts.engine, facts.dry_run) == ("rtc", "fast", False)
        setup = json.loads((out / "robot" / f"{name}.yaml").read_text())
        assert setup["driver"]["seed"] == seed + number
        assert sum(tick.source == "policy" for tick in log.ticks) > 3
        moved = log.commanded[-1] - log.commanded[0]
        assert abs(moved).max() > 0.01, "the arm was told to move"
    killed = read_episodes(out / "robot" / "killed")[0]
    assert killed.ended == "stop"
    assert killed.stop is not None
    assert killed.stop.startswith("The policy process was killed by SIGKILL")
    last = read_run_log(out / "robot" / "killed" / "run-log.jsonl").ticks[-2:]
    assert last[0].sent.commanded == pytest.approx(last[1].sent.commanded), "it stands"
    assert last[1].sent.stop is not None
    before = (out / "robot" / "killed" / "run-log.jsonl").read_bytes()
    assert main(["demo", "--out", str(out), *TINY, "--robot-episodes", "1"]) == 1
    assert (out / "robot" / "killed" / "run-log.jsonl").read_bytes() == before, "what was played is not played again"


def test_quick_judges_no_goals() -> None:
    quick = DemoOptions(quick=True).resolved()
    assert (quick.demonstrations, quick.robot_episodes) == (40, 1)
    assert DemoOptions().resolved() == DemoOptions()
