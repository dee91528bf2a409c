"""What is wrong with a checkpoint's statistics is said as that: which one, of which feature, at which joint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from smolpilot.common.errors import CheckpointError
from smolpilot.common.keys import ACTION, STATE
from smolpilot.smolvla import preset
from smolpilot.smolvla.checkpoint.statistics_binding import bind_statistics
from smolpilot.smolvla.transforms.normalize import settle_still

NAMES = {STATE: ["pan", "lift", "elbow"], ACTION: ["pan", "lift", "elbow"]}
MEAN_STD = {"VISUAL": "IDENTITY", "STATE": "MEAN_STD", "ACTION": "MEAN_STD"}


def flat(**more: Any) -> dict[str, npt.NDArray[Any]]:
    whole = {f"{key}.{name}": np.ones(3) for key in (STATE, ACTION) for name in ("mean", "std", "min", "max")}
    return {**whole, **{key.replace("__", "."): np.asarray(value, np.float64) for key, value in more.items()}}


def without(names: tuple[str, ...]) -> Callable[[dict[str, npt.NDArray[Any]]], dict[str, npt.NDArray[Any]]]:
    return lambda values: {key: value for key, value in values.items() if key not in names}


@pytest.mark.parametrize(
    ("values", "mode", "words"),
    [
        (flat(action__std=[1, 1, np.nan]), "MEAN_STD", "std of 'action' is NaN for joint 2 (elbow)"),
        (flat(action__mean=[np.nan, np.inf, 1]), "MEAN_STD", "mean of 'action' is NaN for joint 0 (pan)"),
        (flat(action__std=[1, np.inf, 1]), "MEAN_STD", "std of 'action' is infinite for joint 1 (lift)"),
        (flat(action__std=[1, -1, 1]), "MEAN_STD", "std of 'action' is negative for joint 1 (lift)"),
        (flat(action__std=[np.inf] * 3), "MEAN_STD", "std of 'action' was never set"),
        (flat(action__max=[1, 1, np.nan]), "MIN_MAX", "max of 'action' is NaN for joint 2 (elbow)"),
        (flat(action__std=np.ones(7)), "MEAN_STD", "std of 'action' has 7 values, the policy has 3 joints there"),
        (without(("action.min", "action.max"))(flat()), "MIN_MAX",
         "normalizes 'action' by MIN_MAX, which needs min and max; min and max are not stored, only mean, std"),
        (without(("action.std",))(flat()), "MEAN_STD", "std is not stored, only mean, min, max"),
        (without(tuple(f"action.{name}" for name in ("mean", "std", "min", "max")))(flat()), "MEAN_STD",
         "no usable statistics for 'action': none are stored"),
    ],
)  # fmt: skip
def test_the_defect_is_named(values: Mapping[str, npt.NDArray[Any]], mode: str, words: str) -> None:
    mapping = MEAN_STD | {"ACTION": mode}
    config = preset(
        "tiny", state_dim=3, action_dim=3, image_shapes={"front": (3, 32, 32)}, normalization_mapping=mapping
    )
    with pytest.raises(CheckpointError) as caught:
        bind_statistics(dict(values), dict(values), {}, config, NAMES)
    assert words in caught.value.found
    assert "--policy-stats-from" in caught.value.fix


def test_without_names_a_joint_has_its_number() -> None:
    config = preset("tiny", state_dim=3, action_dim=3, image_shapes={"front": (3, 32, 32)})
    with pytest.raises(CheckpointError, match=r"std of 'action' is NaN for joint 2\."):
        bind_statistics({}, flat(action__std=[1, 1, np.nan]), {}, config)


def test_a_joint_that_never_moves_gets_a_scale_that_its_noise_cannot_fill() -> None:
    plain = {
        "mean": [5.0, 12.000002, 0.0],
        "std": [2.0, 3e-6, 0.0],
        "min": [0.0, 12.0, 0.0],
        "max": [9.0, 12.00001, 0.0],
    }
    own = {name: np.array(value) for name, value in plain.items()}
    settled, still = settle_still({STATE: dict(own), ACTION: dict(own)}, MEAN_STD)
    assert still == {STATE: [1, 2], ACTION: [1, 2]}
    np.testing.assert_array_equal(settled[STATE]["std"], [2.0, 1.0, 1.0])
    assert settled[ACTION]["std"][0] == 2.0
    assert 1e-4 < settled[ACTION]["std"][2] < settled[ACTION]["std"][1] < 0.1  # far above noise, far below motion
    for name in ("mean", "min", "max"):
        np.testing.assert_array_equal(settled[ACTION][name], own[name])
    ranged, _ = settle_still({ACTION: dict(own)}, MEAN_STD | {"ACTION": "MIN_MAX"})
    low, high = ranged[ACTION]["min"], ranged[ACTION]["max"]
    np.testing.assert_allclose((low + high)[1:] / 2, own["mean"][1:])
    assert (high - low)[1] > 1e-3
    assert own["std"][1] == 3e-6  # what was given is not changed
