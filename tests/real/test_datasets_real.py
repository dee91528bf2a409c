"""A real recording: Unitree G1 with two hands, 26 joints, one AV1 camera of 480x640, LeRobot v2.1."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from smolpilot.datasets import Dataset, compute_statistics, open_dataset, split_episodes

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def dataset(real_data: Path) -> Dataset:
    path = real_data / "g1_bottle_v21"
    if not path.is_dir():
        pytest.skip("this recording is not here")
    return open_dataset(path)


def test_facts(dataset: Dataset) -> None:
    meta = dataset.meta
    assert (meta.version, meta.fps, len(meta.episodes), len(dataset)) == ("v2.1", 30.0, 10, 2725)
    assert dataset.states.shape == dataset.actions.shape == (2725, 26)
    assert meta.state_names[0] == "kLeftShoulderPitch"
    assert meta.cameras["cam_high"].codec == "av1"
    assert dataset.instructions == {"Pick up the yellow bottle on the table.": 2725}
    dataset.check_videos()


def test_stored_statistics_are_those_of_the_data(dataset: Dataset) -> None:
    exact = compute_statistics(dataset)
    for feature in ("observation.state", "action"):
        for name in ("mean", "std", "min", "max", "count"):
            np.testing.assert_allclose(dataset.meta.statistics[feature][name], exact[feature][name], atol=1e-4)


def test_every_picture_of_an_episode_in_any_order(dataset: Dataset) -> None:
    length = dataset.meta.episode(1).length
    first = int(np.flatnonzero(dataset.episode_index == 1)[0])
    order = np.random.default_rng(0).permutation(length)[:25]
    jumping = {int(i): dataset.images(first + int(i))["cam_high"] for i in order}
    count = 0
    for number, picture in enumerate(dataset.decode_episode("cam_high", 1)):
        count += 1
        if number in jumping:
            assert np.array_equal(picture, jumping[number])
    assert count == length
    assert picture.shape == (480, 640, 3)


def test_split(dataset: Dataset) -> None:
    train, held_out = split_episodes(dataset.meta, held_out=0.2, seed=0)
    assert (len(train), len(held_out)) == (8, 2)
    assert len(dataset.select(held_out)) == sum(dataset.meta.episode(index).length for index in held_out)
