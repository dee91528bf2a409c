"""`smolpilot rollout --language`: the same scenes under their other texts, in files, tables, pages and after a kill."""

from __future__ import annotations

import csv
import html
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smolpilot.cli.main import main
from smolpilot.datasets import open_dataset
from smolpilot.environments import shipped as environments
from smolpilot.environments.tabletop.recording import record
from smolpilot.evaluation.rollout import closed_loop
from smolpilot.policies import shipped as policies
from smolpilot.smolvla import new_policy, save_bundle

WORLD = "tests.evaluation.helpers_world"
Run = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def strangers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(environments.SHIPPED, "line", f"{WORLD}:Line")
    monkeypatch.setitem(policies.SHIPPED, "driver", f"{WORLD}:open_driver")


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """A rollout's results.json, and what was printed under `said`."""

    def run(*words: str, out: str = "out") -> dict[str, Any]:
        given = ["rollout", *words, "--language", "--video-episodes", "0", "--out", str(tmp_path / out)]
        assert main(given) == 0
        found: dict[str, Any] = json.loads((tmp_path / out / "results.json").read_text())
        return found | {"said": capsys.readouterr().out}

    return run


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_tiny_policy_on_the_tabletop(run: Run, tmp_path: Path) -> None:
    record(tmp_path / "data", 4)
    bundle = save_bundle(new_policy("tiny", meta=open_dataset(tmp_path / "data").meta, device="cpu"), tmp_path / "made")
    found = run(str(bundle), "--env", "tabletop", "--episodes", "4", "--seed", "1", "--no-floors", "--device", "cpu")
    language = found["language"]
    assert (found["episodes"], language["scenes"], language["right"]["episodes"]) == (4, 4, 8)
    own, told = (lines(tmp_path / "out" / name) for name in ("episodes.jsonl", "episodes_language.jsonl"))
    assert [row["seed"] for row in own] == [row["seed"] for row in told] == [1, 2, 3, 4]
    for mine, other in zip(own, told, strict=True):
        assert other["instruction"] in mine["alternatives"]
        assert mine["instruction"] in other["alternatives"]
    assert [row["instruction"] for row in found["runs"]] == [row["instruction"] for row in own]
    assert language["decision"] in ("nothing reached", "not told apart")


def test_who_listens_and_who_does_not(run: Run, tmp_path: Path) -> None:
    found = run("driver", "--env", "line", "--episodes", "10")
    assert found["language"]["decision"] == "follows"
    assert (found["successes"], found["language"]["followed"]["successes"]) == (10, 10)
    deaf = run("driver:right", "--env", "line", "--episodes", "10", "--against", str(tmp_path / "out"), out="deaf")
    assert deaf["language"]["decision"] == "ignores"
    assert (deaf["successes"], deaf["language"]["right"]["successes"]) == (5, 10)
    for text in (
        "texts of a scene",
        "success as told",
        "10 of 20 (50 %)",
        "another goal instead",
        "same goals what",
        "10 of 10 (100 %)",
        deaf["language"]["text"],
        "Where following every text of a scene counts",
    ):
        assert text in deaf["said"]
    assert deaf["against"]["language"]["decision"] == "worse"
    page = html.unescape((tmp_path / "deaf" / "report.html").read_text())
    for text in (
        "Does it listen?",
        "The policy ignores the text in most scenes",
        "策略在多数达到目标的场景中忽略",
        "succeeds as told in 50 % at most",
        "Every scene under every text",
        "drive to the left end",
    ):
        assert text.replace(" %", "\xa0%") in page or text in page
    with (tmp_path / "deaf" / "plots" / "language.csv").open() as file:
        rows = {row["measure"]: row for row in csv.DictReader(file)}
    assert (rows["same goals always"]["count"], rows["another goal instead"]["share"]) == ("10", "0.5")
    with (tmp_path / "deaf" / "plots" / "language_told.csv").open() as file:
        assert [*csv.reader(file)] == [["told", "episodes", "right", "other", "nothing"],
                                       ["own", "10", "5", "5", "0"], ["others", "10", "5", "5", "0"]]  # fmt: skip


def test_json_has_it_and_nothing_else_is_on_standard_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["rollout", "driver", "--env", "line", "--episodes", "6", "--video-episodes", "0", "--no-floors", "--json"]
    assert main([*words, "--language", "--out", str(tmp_path / "out")]) == 0
    assert json.loads(capsys.readouterr().out)["language"]["decision"] == "follows"
    assert main([*words, "--out", str(tmp_path / "without")]) == 0
    assert json.loads(capsys.readouterr().out)["language"] is None
    assert not (tmp_path / "without" / "episodes_language.jsonl").exists()
    assert 'id="language"' not in (tmp_path / "without" / "report.html").read_text()


def test_processes_change_nothing(run: Run, tmp_path: Path) -> None:
    words = ["random", "--env", "tabletop", "--episodes", "12", "--seed", "1", "--no-floors"]
    here, there = run(*words), run(*words, "--jobs", "2", out="there")
    assert here["language"] == there["language"]
    assert here["language"]["same"]["successes"] == here["language"]["reaching"] > 0  # who is blind to text
    assert here["language"]["effect"]["difference"] == 0
    assert here["language"]["followed"]["successes"] == 0


def test_a_killed_test_of_language_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["rollout", "driver", "--env", "line", "--episodes", "6", "--video-episodes", "0", "--no-floors"]
    words += ["--language", "--out", str(tmp_path / "out")]
    plays, ended = closed_loop._Episodes.play, list[int]()

    def interrupt(runs: Any, *given: Any, **more: Any) -> Any:
        for one in plays(runs, *given, **more):
            ended.append(one.seed)
            if len(ended) == 9:
                raise KeyboardInterrupt
            yield one

    with monkeypatch.context() as patched:
        patched.setattr(closed_loop._Episodes, "play", interrupt)
        assert main(words) == 130
    assert "8 episodes of this rollout are kept" in capsys.readouterr().err
    assert len(lines(tmp_path / "out.partial" / "episodes_language.jsonl")) == 2
    assert main(words) == 0
    said = capsys.readouterr().err
    assert "Resuming: 6 episodes of before" in said
    assert "Resuming: 2 episodes of before under other texts" in said
    found = json.loads((tmp_path / "out" / "results.json").read_text())["language"]
    assert (found["right"]["successes"], found["right"]["episodes"]) == (12, 12)
    assert not (tmp_path / "out.partial").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["hold-state", "--env", "examples/mountain_car.yaml"], "offers one text for the scene of seed"),
        (["driver", "--env", "line", "--swap-instruction"], "leave --swap-instruction out"),
    ],
)
def test_what_cannot_be_tested_is_said_before_anything_is_played(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_play(*given: Any, **more: Any) -> Any:
        raise AssertionError("nothing is to be played")

    monkeypatch.chdir(Path(__file__).parents[2])
    monkeypatch.setattr(closed_loop._Episodes, "play", no_play)
    assert main(["rollout", *words, "--language", "--video-episodes", "0", "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()
