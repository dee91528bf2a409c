"""What an evaluation finds suspicious, from both sides of each limit; nothing of predictions that are right."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from smolpilot.evaluation.offline.summary import summarize
from smolpilot.evaluation.predictions import Predictions

FRAMES, H = 200, 4
NAMES = [f"joint_{number}" for number in range(8)]


def found(
    predicted: Any = None,
    *,
    recorded: Any = None,
    limits: Any = None,
    trained: Any = None,
    names: list[str] = NAMES[:3],
) -> list[str]:
    """The warnings for predictions that are functions of what was recorded, joint by joint, `[F, A]`."""
    width = len(names)
    truth = np.linspace(-1, 1, FRAMES)[:, None] * np.ones(width)
    if recorded is not None:
        truth = truth * np.array(recorded)
    guess = truth.copy() if predicted is None else predicted(truth.copy())
    chunks, targets = (np.repeat(values[:, None], H, axis=1).astype(np.float32) for values in (guess, truth))
    rows = np.arange(FRAMES)
    scored = Predictions(
        chunks, targets, np.zeros((FRAMES, H), dtype=bool), truth.astype(np.float32), truth.mean(axis=0),
        np.zeros(FRAMES, dtype=np.int64), rows, truth.astype(np.float32), np.zeros(FRAMES, dtype=np.int64), rows,
        names, ["rad"] * width, limits or [None] * width, 10.0, 2,
        trained_span=None if trained is None else np.array(trained, dtype=np.float64),
    )  # fmt: skip
    return list(summarize(scored)["warnings"])


def scaled(joint: int, factor: float, shift: float = 0.0) -> Any:
    def change(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        values[:, joint] = values[:, joint] * factor + shift
        return values

    return change


def test_nothing_is_said_of_what_is_right() -> None:
    assert found() == []
    assert found(limits=[(-1.0, 1.0)] * 3, trained=[2.0] * 3) == []


@pytest.mark.parametrize(
    ("factor", "words"),
    [(0.21, None), (0.19, "span less than 0.2 of the recorded range on joint_1 (×0.19)"),
     (4.9, None), (5.1, "span more than 5 times the recorded range on joint_1 (×5.1)")],
)  # fmt: skip
def test_spans(factor: float, words: str | None) -> None:
    said = found(scaled(1, factor))
    assert [words in one for one in said] == [True] * (words is not None) if words else said == []


@pytest.mark.parametrize(("shift", "apart"), [(2.98, False), (3.0, False), (3.02, True), (-2.98, False), (-3.02, True)])
def test_predictions_beside_the_recording(shift: float, apart: bool) -> None:
    """A gap of half the recorded range, which is 2 here."""
    said = found(scaled(2, 1.0, shift))
    assert [("do not overlap on joint_2" in one) for one in said] == [True] * apart


@pytest.mark.parametrize(("joints", "said"), [(1, False), (2, True), (3, True)])
def test_a_scale_that_is_wrong_on_most_joints(joints: int, said: bool) -> None:
    warnings = found(lambda values: values * np.array([10.0] * joints + [1.0] * (3 - joints)))
    assert any(f"wrong on most joints ({joints} of 3)" in one for one in warnings) == said


@pytest.mark.parametrize(("moves", "judged"), [(0.048, False), (0.052, True)])
def test_a_joint_that_hardly_moves_here_says_nothing_of_scale(moves: float, judged: bool) -> None:
    """Less than a twentieth of its range in training, which is 2."""
    said = found(scaled(0, 0.1), recorded=[moves, 1, 1], trained=[2.0, 2.0, 2.0])
    assert bool([one for one in said if "joint_0" in one]) == judged


@pytest.mark.parametrize(("count", "said"), [(2, False), (3, True)])
def test_predictions_outside_the_limits(count: int, said: bool) -> None:
    """More than a hundredth of them."""

    def beyond(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        values[:count, 1] = 1.2
        return values

    warnings = found(beyond, limits=[None, (-1.1, 1.1), None])
    assert any("outside the robot's position limits: joint_1" in one for one in warnings) == said


def test_six_joints_are_named_and_the_others_counted() -> None:
    warnings = found(lambda values: values * 0.1, names=NAMES)
    text = next(one for one in warnings if "span less than" in one)
    assert "joint_5 (×0.1) and 2 more" in text
    assert "joint_6" not in text


def test_numbers_that_are_none_come_first() -> None:
    def spoil(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        values[3, 0], values[4, 1], values[5, 1] = np.nan, np.inf, -np.inf
        return values

    first = found(spoil)[0]
    assert first.startswith(f"{H} predicted values are NaN and {2 * H} infinite")
