"""Stored statistics beside the frames: a writer's arithmetic is no disagreement, other numbers are; absurd values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from smolpilot.common.keys import ACTION, STATE
from smolpilot.common.statistics import Statistics, array_statistics, is_still, merge_statistics
from smolpilot.datasets import Dataset, DatasetWriter, open_dataset
from smolpilot.datasets.statistics.rounding import unlike
from smolpilot.datasets.statistics.stored_statistics import (
    disagreements,
    exact_statistics,
    folder_statistics,
    outliers,
)

JOINTS = ["pan", "lift", "grip"]


def record(path: Path, values: list[npt.NDArray[Any]]) -> Dataset:
    """A recording without images; `values`: one [L, 3] of state and action for each episode."""
    with DatasetWriter(path, fps=10, state_names=JOINTS, action_names=JOINTS, cameras={}) as writer:
        for episode in values:
            for row in episode.astype(np.float32):
                writer.add_frame({STATE: row, ACTION: row, "task": "go"})
            writer.end_episode()
    return open_dataset(path)


def motion(length: int, seed: int, scale: float = 1.0, offset: float = 0.0) -> npt.NDArray[Any]:
    phase = np.arange(length)[:, None] / 9 + np.arange(3)[None] + seed
    return np.asarray(scale * np.sin(phase) + offset)


def lerobot_like(values: list[npt.NDArray[Any]]) -> Statistics:
    """As LeRobot's recorder adds up: float32, episode by episode, mean of squares minus square of the mean."""

    def one(part: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        rows = part.astype(np.float32)
        mean, squares = rows.mean(axis=0), (rows**2).mean(axis=0)
        own = {"mean": mean, "std": np.sqrt(np.maximum(squares - mean**2, 0)), "min": rows.min(axis=0)}
        own |= {"max": rows.max(axis=0), "count": np.array([len(rows)])}
        # Quantiles of each episode, from a histogram: a bin off.
        own |= {
            f"q{q:02d}": np.quantile(rows, q / 100, axis=0) + np.ptp(rows, axis=0) / 5000 for q in (1, 10, 50, 90, 99)
        }
        return {name: np.asarray(value, np.float64) for name, value in own.items()}

    return merge_statistics([{STATE: one(part), ACTION: one(part)} for part in values])


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (90.0, 12.0), (0.01, 300.0), (0.0, 12.3), (1e-5, 12.0)])
def test_a_writers_arithmetic_is_no_disagreement(tmp_path: Path, scale: float, offset: float) -> None:
    values = [motion(length, seed, scale, offset) for seed, length in enumerate((700, 60, 45))]
    data = record(tmp_path / "data", values)
    assert disagreements(lerobot_like(values), exact_statistics(data), data) == []
    assert disagreements(exact_statistics(data), exact_statistics(data), data) == []


@pytest.mark.parametrize(
    ("name", "factor", "shift"),
    [("mean", 1, 0.3), ("std", 57.3, 0), ("std", 1 / 57.3, 0), ("min", 1, -0.5), ("max", 3, 0), ("q99", 1, 0.5)],
)
def test_each_statistic_is_compared_and_named(tmp_path: Path, name: str, factor: float, shift: float) -> None:
    data = record(tmp_path / "data", [motion(60, seed) for seed in range(3)])
    stored = exact_statistics(data)
    stored[ACTION][name][1] = stored[ACTION][name][1] * factor + shift
    (found,) = disagreements(stored, exact_statistics(data), data)
    assert (found.feature, found.joint, found.statistic) == (ACTION, "lift", name)
    assert f"the {name} of 'action', joint 'lift', is {unlike(found.stored, found.computed)[0]}" in found.text()


def test_statistics_of_other_episodes_and_of_rescaled_frames_are_seen_in_every_joint(tmp_path: Path) -> None:
    data = record(tmp_path / "data", [motion(60, seed) for seed in range(3)])
    own = exact_statistics(data)
    for other in (array_statistics(motion(60, 0, scale=57.3)), array_statistics(motion(60, 0, offset=4.0))):
        found = disagreements({STATE: other, ACTION: other}, own, data)
        assert [one.joint for one in found] == JOINTS * 2


def test_two_numbers_never_look_alike() -> None:
    assert unlike(0.45450001, 0.4545) == ("0.45450001", "0.4545")
    assert unlike(24.77, 0.4323) == ("24.77", "0.4323")


def test_exact_statistics_are_those_of_all_columns_at_once(tmp_path: Path) -> None:
    data = record(tmp_path / "data", [motion(60, seed, 40.0) for seed in range(3)])
    found, expected = exact_statistics(data)[ACTION], array_statistics(data.actions)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-12, err_msg=name)
    meta, read = folder_statistics(tmp_path / "data")
    np.testing.assert_array_equal(read[ACTION]["std"], found["std"])
    assert meta.fps == 10


@pytest.mark.parametrize("absurd", [1e6, -1e6, 3e4])
def test_one_absurd_action_is_named_with_its_place(tmp_path: Path, absurd: float) -> None:
    values = [motion(60, seed, 80.0) for seed in range(3)]
    values[1][17, 2] = absurd
    found = outliers(record(tmp_path / "data", values))
    assert [(one.feature, one.joint, one.episode, one.frame) for one in found] == [
        (STATE, "grip", 1, 17), (ACTION, "grip", 1, 17),
    ]  # fmt: skip
    assert all(one.absurd for one in found)
    assert f"is {absurd:.5g} in episode 1, frame 17; it is usually between -79." in found[1].text()


def test_a_spike_that_could_be_motion_is_seen_but_not_absurd(tmp_path: Path) -> None:
    values = [motion(60, seed) for seed in range(3)]
    values[2][5, 0] = 30.0
    found = outliers(record(tmp_path / "data", values))
    assert {(one.joint, one.episode, one.frame, one.absurd) for one in found} == {("pan", 2, 5, False)}


def test_a_gripper_that_seldom_closes_is_no_outlier(tmp_path: Path) -> None:
    values = [motion(120, seed) for seed in range(3)]
    for part in values:
        part[:, 2] = 0.0
    values[1][40:46, 2] = 100.0
    assert outliers(record(tmp_path / "data", values)) == []


@pytest.mark.parametrize(
    ("low", "high", "still"),
    [(12.0, 12.00001, True), (0.0, 0.0, True), (0.0, 1e-7, True), (1500.0, 1500.002, True), (-3.0, -2.999999, True),
     (0.0, 1e-4, False), (12.0, 12.001, False), (1500.0, 1500.1, False), (0.0, 1.0, False)],
)  # fmt: skip
def test_float_noise_is_no_motion(low: float, high: float, still: bool) -> None:
    assert bool(is_still(low, high)) is still
