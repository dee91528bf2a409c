"""Recording an expert: what the simulation showed, the expert's clean actions, and what it was drawn with."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smolpilot.cli.main import main
from smolpilot.common.errors import DatasetError, SimulationError, UsageError
from smolpilot.datasets import open_dataset
from smolpilot.datasets.simulation_record import SimulationRecord
from smolpilot.environments.demonstrations import recorder
from smolpilot.environments.demonstrations.recorder import Demonstration, Expert, Stage, record_expert
from smolpilot.environments.making import checked_settings
from smolpilot.environments.simulators import pusht
from smolpilot.robots import RobotProfile

pytest.importorskip("gym_aloha")
SETTINGS = {"width": "32", "height": "24", "shadows": "false", "msaa": "0", "max_steps": "350"}
NOISE = Expert(noise=0.005, vary=0.1)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("record") / "demos"
    words = ["record", "--env", "aloha", "--expert", "--env-settings", *(f"{k}={v}" for k, v in SETTINGS.items())]
    assert main([*words, "--episodes", "2", "--jobs", "2", "--seed", "5", "--out", str(out), "--json"]) == 0
    return out, json.loads((out / "meta" / SimulationRecord.FILE).read_text(encoding="utf-8"))


def test_actions_are_the_experts_and_states_the_simulations(recorded: tuple[Path, dict[str, Any]]) -> None:
    path, _ = recorded
    dataset = open_dataset(path)
    assert (dataset.meta.fps, dataset.meta.robot_type, len(dataset.meta.episodes)) == (50, "aloha", 2)
    stage = Stage("aloha", checked_settings("aloha", SETTINGS), None)
    try:
        shown = stage.demonstrate(5, NOISE)
        frames = stage.frames(shown)
    finally:
        stage.close()
    first = np.flatnonzero(dataset.episode_index == 0)
    np.testing.assert_array_equal(dataset.actions[first], shown.actions)
    np.testing.assert_array_equal(dataset.states[first], [frame["observation.state"] for frame in frames])
    clean = frames[200]["observation.images.top"].astype(float)
    assert np.abs(dataset.images(200)["top"].astype(float) - clean).mean() < 6
    pushed = np.abs(shown.executed - shown.actions).mean(axis=0)
    assert pushed[[6, 13]].max() == 0, "a gripper that trembles drops what it holds"
    assert 0.002 < pushed[[0, 8]].min() < 0.02


def test_the_dataset_says_what_it_was_drawn_with(recorded: tuple[Path, dict[str, Any]]) -> None:
    path, document = recorded
    record = SimulationRecord.of(path)
    assert record is not None
    assert record.document() == document
    assert (record.env, record.seeds, record.successes) == ("aloha", [5, 6], [True, True])
    assert (record.noise, record.vary) == (0.005, 0.1)
    assert record.settings["shadows"] is False
    assert {"shadows", "msaa", "gl", "width", "height"} <= record.simulation["render"].keys()
    assert {"mujoco", "multiccd"} <= record.simulation["physics"].keys()


def test_one_process_records_the_same(recorded: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    path, _ = recorded
    record_expert("aloha", checked_settings("aloha", SETTINGS), tmp_path / "one", 2, 5, expert=NOISE)
    one, two = open_dataset(tmp_path / "one"), open_dataset(path)
    np.testing.assert_array_equal(one.actions, two.actions)
    np.testing.assert_array_equal(one.states, two.states)


def test_failures_are_left_out_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With this noise the peg goes in in the episode of seed 3, and not in those of 2 and 4."""
    words = ["record", "--env", "aloha", "--env-settings", "task=insertion", "width=16", "height=16", "shadows=false"]
    words += ["msaa=0", "--noise", "0.01", "--vary-timing", "0", "--seed", "2", "--json", "--out"]
    assert main([*words, str(tmp_path / "good"), "--episodes", "1"]) == 0
    good = json.loads(capsys.readouterr().out)
    assert (good["episodes"], good["tried"], good["succeeded"], good["discarded"]) == (1, 2, 1, 1)
    kept = SimulationRecord.of(tmp_path / "good")
    assert kept is not None
    assert kept.seeds == [3]
    assert main([*words, str(tmp_path / "all"), "--episodes", "2", "--keep-failures"]) == 0
    every = SimulationRecord.of(tmp_path / "all")
    assert every is not None
    assert (every.seeds, every.successes) == ([2, 3], [False, True])


def test_a_simulation_that_always_breaks_is_given_up_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(self: recorder.Stage, number: int, expert: Expert) -> Demonstration:
        raise SimulationError("The environment aloha broke: the arm came off.")

    monkeypatch.setattr(recorder, "_PATIENCE", 2)
    monkeypatch.setattr(recorder.Stage, "demonstrate", breaks)
    with pytest.raises(DatasetError, match=r"failed in 2 episodes in a row\. The environment aloha broke: the arm"):
        record_expert("aloha", checked_settings("aloha", SETTINGS), tmp_path / "data", 2)
    assert not (tmp_path / "data").exists()


def test_people_from_a_seed_on_are_all_that_are_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("gym_pusht", reason="gym-pusht is not installed")
    words = ["record", "--env", "pusht", "--env-settings", "width=16", "height=16", "--json", "--out"]
    assert main([*words, str(tmp_path / "last"), "--seed", "205"]) == 0
    assert json.loads(capsys.readouterr().out)["episodes"] == 1
    assert main([*words, str(tmp_path / "none"), "--seed", "206"]) == 2
    assert "pusht has 206 recorded episodes; asked for are 206 from 206 on" in capsys.readouterr().err


def test_whose_expert_is_meant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["record", "--env", "tabletob", "--out", str(tmp_path / "data")]) == 2
    assert "Did you mean 'tabletop'?" in capsys.readouterr().err


def test_an_expert_that_never_succeeds_is_given_up(tmp_path: Path) -> None:
    settings = checked_settings("aloha", {**SETTINGS, "max_steps": "20"})
    with pytest.raises(DatasetError, match="failed in 40 episodes in a row"):
        record_expert("aloha", settings, tmp_path / "none", 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--env", "gymnasium"], "The environment 'gymnasium' has no expert that could demonstrate"),
        (["--env", "aloah"], "Did you mean 'aloha'"),
        (["--env", "aloha", "--target", "red"], "--target is an option of the tabletop, not of aloha"),
        (["--env-settings", "target=red", "--target", "blue"], "say the same"),
        (["--vary-timing", "0.1"], "--vary-timing has no meaning for the tabletop"),
    ],
)
def test_misuse(words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["record", *words, "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_record_that_is_none_is_no_record(tmp_path: Path) -> None:
    (tmp_path / "meta").mkdir()
    assert SimulationRecord.of(tmp_path) is None
    for text in ("{", "[1]", '{"env": "aloha"}'):
        (tmp_path / "meta" / SimulationRecord.FILE).write_text(text, encoding="utf-8")
        assert SimulationRecord.of(tmp_path) is None


def test_a_simulation_that_does_not_repeat_itself_is_noticed() -> None:
    stage = Stage("aloha", checked_settings("aloha", SETTINGS), None)
    try:
        shown = stage.demonstrate(5, NOISE)
        executed = shown.executed.copy()
        executed[:, 13] = 1.0  # the right gripper never closes: nothing is lifted
        shown = replace(shown, executed=executed)
        with pytest.raises(SimulationError, match="does not repeat itself: the episode of seed 5 ended otherwise"):
            stage.frames(shown)
    finally:
        stage.close()


def test_another_seed_is_another_dataset_and_the_folder_must_be_new(recorded: tuple[Path, dict[str, Any]]) -> None:
    path, _ = recorded
    with pytest.raises(UsageError, match="exists already"):
        record_expert("aloha", checked_settings("aloha", SETTINGS), path, 1)


def test_people_are_replayed_and_drawn_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("gym_pusht")
    words = ["record", "--env", "pusht", "--expert", "--env-settings", "width=64", "height=64", "--episodes", "2"]
    out = tmp_path / "people"
    assert main([*words, "--seed", "3", "--json", "--out", str(out)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["episodes"], found["tried"], found["discarded"]) == (2, 2, 0)
    dataset, record = open_dataset(out), SimulationRecord.of(out)
    assert record is not None
    assert (record.recorded, record.seeds) == ([3, 4], [])
    with np.load(Path(pusht.__file__).parent / "pusht_human" / "states_actions.npz") as people:
        first, last = people["episode_ends"][2:4]
        rows = dataset.episode_index == 0
        np.testing.assert_array_equal(dataset.actions[rows], people["action"][first:last].astype(np.float32))
        np.testing.assert_allclose(dataset.states[rows], people["state"][first:last, :2], atol=1e-3)
    assert main(["env", "check", "pusht", "--demonstrations", str(out)]) == 0
    assert capsys.readouterr().out.startswith("replay-exact")


def test_joints_of_its_own_come_with_a_profile(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """PushT's keypoints are state that the shipped profile has not; the next command names the right one."""
    pytest.importorskip("gym_pusht")
    out, settings = tmp_path / "people", ["--env-settings", "keypoints=true", "width=64", "height=64"]
    assert main(["record", "--env", "pusht", *settings, "--episodes", "2", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    profile = out / "meta" / "smolpilot_profile.yaml"
    assert f"--robot {profile} " in said
    assert len(RobotProfile.load(profile).joints) == 18
    run = ["--robot", str(profile), "--preset", "tiny", "--from-scratch", "--steps", "1", "--batch-size", "2"]
    assert main(["train", "--dataset", str(out), *run, "--eval-frames", "2", "--out", str(tmp_path / "run")]) == 0
    bundle = str(tmp_path / "run" / "checkpoints" / "best")
    few = ["--episodes", "1", "--video-episodes", "0", "--no-floors", "--out", str(tmp_path / "score")]
    assert main(["rollout", bundle, "--env", "pusht", *settings, *few]) == 0
    assert (tmp_path / "score" / "report.html").is_file()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--seed", "200", "--episodes", "7"], "pusht has 206 recorded episodes; asked for are 7 from 200 on"),
        (["--noise", "0.01"], "are people's, and take no noise"),
    ],
)
def test_what_people_do_not_offer(
    more: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["record", "--env", "pusht", "--out", str(tmp_path / "out"), *more]) == 2
    assert message in capsys.readouterr().err
