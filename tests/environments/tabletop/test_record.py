"""Recording: the dataset holds what the simulation showed, with clean actions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smolpilot.common.errors import UsageError
from smolpilot.datasets import open_dataset
from smolpilot.environments.demonstrations.summary import RecordSummary
from smolpilot.environments.tabletop import ScriptedExpert, TabletopEnv, arm
from smolpilot.environments.tabletop.recording import demonstrate, record

NOISE = 0.04
type Recording = tuple[Path, RecordSummary, list[tuple[str, int, int]]]


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    path = tmp_path_factory.mktemp("record") / "demos"
    calls: list[tuple[str, int, int]] = []
    summary = record(path, 6, seed=3, noise=NOISE, progress=lambda *call: calls.append(call))
    return path, summary, calls


def test_summary_and_dataset_agree(recording: Recording) -> None:
    path, summary, calls = recording
    dataset = open_dataset(path)
    assert dataset.meta.version == "v3.0"
    assert dataset.meta.robot_type == "tabletop"
    assert dataset.meta.fps == 10
    assert tuple(dataset.meta.state_names) == tuple(dataset.meta.action_names) == arm.JOINT_NAMES
    assert dataset.meta.camera_names == ["top", "side"]
    assert (len(dataset.meta.episodes), len(dataset)) == (summary.episodes, summary.frames) == (6, len(dataset))
    assert sum(summary.instructions.values()) == 6
    assert set(dataset.meta.tasks.values()) == set(summary.instructions)
    assert calls[-1] == ("recording", 6, 6)


def test_values_and_pictures_are_those_of_the_simulation(recording: Recording) -> None:
    path, _, _ = recording
    dataset = open_dataset(path)
    frames, success = demonstrate(TabletopEnv(), ScriptedExpert(), np.random.SeedSequence([3, 0]), NOISE)
    assert success
    first = np.flatnonzero(dataset.episode_index == 0)
    assert len(first) == len(frames)
    np.testing.assert_array_equal(dataset.states[first], [frame["observation.state"] for frame in frames])
    np.testing.assert_array_equal(dataset.actions[first], [frame["action"] for frame in frames])
    assert dataset.instruction(0) == frames[0]["task"]
    for camera, picture in dataset.images(4).items():
        clean = frames[4][f"observation.images.{camera}"].astype(float)
        assert np.abs(picture.astype(float) - clean).mean() < 6  # lossy video with halved color resolution


def test_recorded_actions_are_clean_and_the_noise_moves_the_arm() -> None:
    def poses(noise: float) -> list[dict[str, Any]]:
        frames, _ = demonstrate(TabletopEnv(), ScriptedExpert(), np.random.SeedSequence([7, 0]), noise)
        return frames

    calm, pushed = poses(0.0), poses(0.03)
    assert np.array_equal(calm[0]["observation.state"], pushed[0]["observation.state"])
    assert np.abs(calm[5]["observation.state"] - pushed[5]["observation.state"]).max() > 0.005
    env, expert = TabletopEnv(), ScriptedExpert()
    scene = int(np.random.SeedSequence([7, 0]).generate_state(1)[0])
    _, info = env.reset(seed=scene)
    env.reset(seed=scene, options={"colors": info["colors"], "target": info["colors"][0]})
    for frame in pushed:
        env.joints = frame["observation.state"].astype(np.float64)
        np.testing.assert_allclose(expert.action(env), frame["action"], atol=1e-4)


def test_existing_folder_is_refused(recording: Recording) -> None:
    path, _, _ = recording
    with pytest.raises(UsageError, match="exists already"):
        record(path, 1)
    assert len(open_dataset(path).meta.episodes) == 6


def test_interruption_leaves_nothing(tmp_path: Path) -> None:
    def stop(what: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record(tmp_path / "demos", 3, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_each_scene_is_shown_for_both_of_its_blocks(recording: Recording) -> None:
    path, summary, _ = recording
    dataset = open_dataset(path)
    starts = [int(np.flatnonzero(dataset.episode_index == episode)[0]) for episode in range(6)]
    for first, second in zip(starts[::2], starts[1::2], strict=True):
        np.testing.assert_array_equal(dataset.states[first], dataset.states[second])
        assert dataset.instruction(first) != dataset.instruction(second)
        for camera, picture in dataset.images(first).items():
            other = dataset.images(second)[camera].astype(float)
            assert np.abs(picture.astype(float) - other).mean() < 3, "the same picture up to video coding"
        towards = dataset.actions[first] - dataset.actions[second]
        assert np.abs(towards).max() > 0.01, "the instruction alone makes the difference"
    assert set(summary.instructions.values()) == {3}


def test_a_target_keeps_its_own_demonstrations_of_the_same_scenes(tmp_path: Path) -> None:
    colors = ["red", "blue", "yellow"]
    assert record(tmp_path / "all", 8, seed=5, colors=colors).discarded == 0
    every = open_dataset(tmp_path / "all")
    for color in colors:
        text = f"touch the {color} block"
        summary = record(tmp_path / color, 2, seed=5, colors=colors, target=color)
        assert summary.instructions == {text: 2}
        alone = open_dataset(tmp_path / color)
        kept = [episode.index for episode in every.meta.episodes if list(episode.tasks) == [text]][:2]
        np.testing.assert_array_equal(alone.states, every.select(kept).states)
        np.testing.assert_array_equal(alone.actions, every.select(kept).actions)


def test_an_environment_with_a_target_names_it_in_every_scene() -> None:
    env = TabletopEnv(colors=["red", "blue", "yellow"], target="blue")
    for seed in range(8):
        _, info = env.reset(seed=seed)
        assert info["target"] == "blue"
        assert len(info["colors"]) == 2


def test_a_target_that_is_no_color_of_the_scenes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'green' is not among the colors"):
        record(tmp_path / "green", 1, target="green")
