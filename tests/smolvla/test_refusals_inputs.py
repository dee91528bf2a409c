"""Frames, settings and names that a policy is not made of; each refusal beside what is just right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from smolpilot.common.errors import SmolpilotError, TransformError, UsageError
from smolpilot.datasets import open_dataset
from smolpilot.smolvla import new_policy
from smolpilot.smolvla.transforms.normalize import Normalizer

from .helpers_transforms import frame, statistics, tiny_config, transforms


@pytest.mark.parametrize(
    ("low", "high", "fix"),
    [
        (0.0, 1.0, None),
        (0.0, 1.0001, "divide it by 255"),
        (0.0, 255.0, "divide it by 255"),
        (-0.0001, 1.0, "undo earlier normalization"),
        (float("nan"), 1.0, "check the camera"),
    ],
)
def test_brightness_of_float_images(low: float, high: float, fix: str | None) -> None:
    image = torch.rand(3, 48, 64)
    image[0, 0, 0], image[2, 3, 4] = low, high
    # The second camera of the second frame: all of them are looked at.
    frames = [frame(), frame() | {"observation.images.wrist": image}]
    if fix is None:
        assert transforms().inputs(frames).images.shape[0] == 2
        return
    with pytest.raises(TransformError, match=r"camera 'wrist' .* with values from") as caught:
        transforms().inputs(frames)
    assert fix in caught.value.fix


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.array([True, False, True]), "'observation.state' is bool"),
        (np.array([1 + 2j, 0, 0]), "'observation.state' is complex128"),
        ([1.0, "two", 3.0], "'observation.state'"),
        (np.zeros(2), "of different shapes"),
        (np.array([0.0, 0.0, np.inf]), "infinite"),
    ],
)
def test_states_that_are_none(values: Any, words: str) -> None:
    with pytest.raises(TransformError, match=words):
        transforms().inputs([frame(), frame() | {"observation.state": values}])


def test_frames_that_make_no_batch() -> None:
    chunk = np.zeros((12, 3), dtype=np.float32)
    with pytest.raises(TransformError, match="action"):
        transforms().inputs([frame(action=chunk), frame()])
    with pytest.raises(TransformError, match="'action_is_pad' has shape"):
        transforms().inputs([frame(action=chunk, action_is_pad=np.zeros(11, dtype=bool))])


@pytest.mark.parametrize("feature", ["STATE", "ACTION"])
def test_a_normalization_that_nobody_knows(feature: str) -> None:
    modes = {"VISUAL": "IDENTITY", "STATE": "MEAN_STD", "ACTION": "MEAN_STD", feature: "MEAN_STDD"}
    with pytest.raises(SmolpilotError, match="'MEAN_STDD'"):
        transforms(tiny_config(normalization_mapping=modes))


@pytest.mark.parametrize(("mode", "names"), [("MIN_MAX", ("min", "max")), ("QUANTILES", ("q01", "q99"))])
def test_a_range_becomes_minus_one_to_one(mode: str, names: tuple[str, str]) -> None:
    """And of a joint that stands still at its place, -1."""
    low, high = np.array([2.0, -3.0, 0.5]), np.array([4.0, 3.0, 0.5])
    normalizer = Normalizer("action", mode, {"action": dict(zip(names, (low, high), strict=True))}, 3)
    values = torch.tensor(np.stack([low, high, (low + high) / 2])).float()
    there = normalizer.forward(values)
    assert there[:, :2].tolist() == [[-1, -1], [1, 1], [0, 0]]
    assert there[:, 2].tolist() == [-1, -1, -1]
    torch.testing.assert_close(normalizer.backward(there), values)


@pytest.mark.parametrize("joints", [32, 33])
def test_the_largest_robot(joints: int) -> None:
    config = tiny_config(joints, 3)
    stats = statistics(joints, 3)
    if joints == 32:
        assert transforms(config, stats).inputs([frame(state=32)]).state.shape == (1, 32)
        return
    with pytest.raises(TransformError, match="max_state_dim"):
        transforms(config, stats)


def test_what_a_new_policy_is_not_made_of(tiny_dataset: Path, tmp_path: Path) -> None:
    meta = open_dataset(tiny_dataset).meta
    with pytest.raises(UsageError, match=r"no field 'chunk_sise'.\nFix: Did you mean 'chunk_size'"):
        new_policy("tiny", meta=meta, overrides={"num_steps": 4, "chunk_sise": 4}, device="cpu")
    with pytest.raises(UsageError, match=r"has no tokenizer\.json"):
        new_policy("tiny", meta=meta, tokenizer_dir=tmp_path, device="cpu")
    with pytest.raises(UsageError, match="needs the tokenizer of SmolVLM2"):
        new_policy("smolvla", meta=meta, device="cpu")
