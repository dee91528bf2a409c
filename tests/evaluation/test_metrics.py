"""Error metrics against numbers worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from smolpilot.evaluation.metrics import chunk_errors, chunk_targets, motion, ranges

# Two frames, three steps, two joints; the last step of the second frame lies behind its episode.
TARGET = np.array([[[0, 10], [1, 10], [2, 10]], [[1, 10], [2, 10], [2, 10]]], dtype=np.float32)
IS_PAD = np.array([[False, False, False], [False, False, True]])


def _predicted() -> npt.NDArray[Any]:
    predicted = TARGET.copy()
    predicted[0, 0] += [1, -2]
    predicted[0, 1] += [-3, 0]
    predicted[1, 1] += [2, 4]
    predicted[1, 2] += [1000, 1000]  # padded: must not count
    return predicted


def test_errors_by_hand() -> None:
    errors = chunk_errors(_predicted(), TARGET, IS_PAD)
    np.testing.assert_allclose(errors.mae, [6 / 5, 6 / 5], rtol=1e-12)
    np.testing.assert_allclose(errors.rmse, [np.sqrt(14 / 5), np.sqrt(20 / 5)], rtol=1e-12)
    np.testing.assert_allclose(errors.max, [3, 4])
    np.testing.assert_allclose(errors.mae_by_step, [[0.5, 1.0], [2.5, 2.0], [0.0, 0.0]])
    np.testing.assert_allclose(errors.rmse_by_step[1], [np.sqrt(13 / 2), np.sqrt(8)])
    assert errors.steps.tolist() == [2, 2, 1]
    assert errors.mean_mae == pytest.approx(1.2)


def test_padded_steps_never_count() -> None:
    with_pad, without = chunk_errors(_predicted(), TARGET, IS_PAD), chunk_errors(_predicted(), TARGET)
    assert with_pad.max.max() == 4
    assert without.max.max() == 1000


def test_step_without_frames_is_nan() -> None:
    errors = chunk_errors(TARGET, TARGET, np.array([[False, False, True], [False, False, True]]))
    assert np.isnan(errors.mae_by_step[2]).all()
    assert (errors.mae == 0).all()


def test_non_finite_predictions_are_counted_and_left_out() -> None:
    predicted = _predicted()
    predicted[0, 1, 0] = np.nan
    predicted[0, 2, 1] = np.inf
    predicted[1, 2, 0] = np.nan  # padded
    errors = chunk_errors(predicted, TARGET, IS_PAD)
    assert errors.non_finite == 2
    np.testing.assert_allclose(errors.mae, [3 / 4, 6 / 4])


def test_joint_without_a_finite_prediction_is_nan() -> None:
    predicted = TARGET.copy()
    predicted[:, :, 1] = np.nan
    errors = chunk_errors(predicted, TARGET, IS_PAD)
    assert errors.mae[0] == 0
    assert np.isnan(errors.mae[1])
    assert np.isnan(errors.max[1])
    assert np.isnan(errors.mean_mae)


def test_float64_accumulation() -> None:
    """In float32 the sum of a million errors of 0.1 on values of 1000 drifts in the fourth digit."""
    target = np.full((20_000, 50, 1), 1000, dtype=np.float32)
    predicted = target + np.float32(0.125)
    assert chunk_errors(predicted, target).mae[0] == pytest.approx(0.125, abs=1e-12)


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="predicted has shape"):
        chunk_errors(TARGET[:, :2], TARGET)
    with pytest.raises(ValueError, match="is_pad has shape"):
        chunk_errors(TARGET, TARGET, IS_PAD[:, :2])


def test_targets_are_the_actions_h_frames_later() -> None:
    actions = np.arange(10, dtype=np.float32)[:, None]  # the action tells its row
    episodes = np.array([4] * 6 + [7] * 4)
    target, is_pad = chunk_targets(actions, episodes, np.array([0, 4, 5, 6, 9]), 3)
    assert target[..., 0].tolist() == [[0, 1, 2], [4, 5, 5], [5, 5, 5], [6, 7, 8], [9, 9, 9]]
    assert is_pad.tolist() == [
        [False, False, False],
        [False, False, True],
        [False, True, True],
        [False, False, False],
        [False, True, True],
    ]


def test_a_prediction_late_by_one_frame_is_seen_at_every_step() -> None:
    actions = np.arange(30, dtype=np.float32)[:, None] ** 2
    episodes = np.zeros(30, dtype=int)
    rows = np.arange(30)
    target, is_pad = chunk_targets(actions, episodes, rows, 4)
    late, _ = chunk_targets(actions, episodes, np.maximum(rows - 1, 0), 4)
    assert chunk_errors(target, target, is_pad).mae[0] == 0
    assert (chunk_errors(late, target, is_pad).mae_by_step > 1).all()


def test_motion_of_a_parabola_and_a_cubic() -> None:
    t = np.arange(6) / 10  # 10 frames a second
    chunks = np.stack([3 * t, 0.5 * 4 * t**2, t**3], axis=1)[None]
    result = motion(chunks, None, fps=10)
    assert result.speed[0] == pytest.approx(3)
    assert result.acceleration[:2] == pytest.approx([0, 4], abs=1e-9)
    assert result.jerk == pytest.approx([0, 0, 6], abs=1e-9)


def test_motion_ignores_padding_and_short_chunks() -> None:
    chunks = np.array([0, 1, 2, 3, 100, 100], dtype=float)[None, :, None]
    is_pad = np.array([[False, False, False, False, True, True]])
    result = motion(chunks, is_pad, fps=1)
    assert (result.speed[0], result.acceleration[0], result.jerk[0]) == (1, 0, 0)
    assert np.isnan(motion(chunks[:, :2], None, fps=1).jerk[0])


def test_ranges_by_hand() -> None:
    target = np.array([0, 1, 2, 4], dtype=float)[:, None, None] * np.array([1, 1, 0])
    predicted = np.array([-1, 0.5, 1, 1], dtype=float)[:, None, None] * np.array([1, 0.1, 1])
    result = ranges(predicted, target, None, [(-0.5, 5), None, (-2, 2)])
    assert result.span_ratio[:2] == pytest.approx([0.5, 0.05])
    assert np.isnan(result.span_ratio[2])  # the recording never moves this joint
    assert result.outside_target[0] == pytest.approx(0.25)
    assert result.outside_limits[0] == pytest.approx(0.25)
    assert np.isnan(result.outside_limits[1])
    assert result.outside_limits[2] == 0
    assert (result.predicted_min[0], result.predicted_max[0]) == (-1, 1)
