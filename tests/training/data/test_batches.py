"""Fast batches equal the transforms on the dataset's samples, number for number."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from smolpilot.datasets import Dataset, DatasetWriter, open_dataset
from smolpilot.robots import JointLayout, RobotProfile
from smolpilot.robots.layout import FrameLayout, to_policy_order
from smolpilot.smolvla.config.presets import preset
from smolpilot.smolvla.network.inputs import PolicyInputs
from smolpilot.smolvla.transforms.byte_tokenizer import byte_level_folder
from smolpilot.smolvla.transforms.tokenizer import PolicyTokenizer
from smolpilot.smolvla.transforms.transform_list import Transforms, TransformsConfig
from smolpilot.training.data.batches import Batches

CPU = torch.device("cpu")
H = 7


@pytest.fixture(scope="module")
def square(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Cameras whose images need no resizing: the network takes squares only."""
    path, draws = tmp_path_factory.mktemp("square") / "data", np.random.default_rng(0)
    names, cameras = ["pan", "lift", "gripper"], {"front": (64, 64), "wrist": (64, 64)}
    with DatasetWriter(path, fps=10, state_names=names, action_names=names, cameras=cameras) as writer:
        for number in range(12):
            image = np.full((64, 64, 3), 20 * number, dtype=np.uint8)
            numbers = {key: draws.normal(size=3).astype(np.float32) for key in ("observation.state", "action")}
            images = {f"observation.images.{camera}": image for camera in cameras}
            writer.add_frame(numbers | images | {"task": "touch it"})
        writer.end_episode()
    return open_dataset(path, chunk_size=H)


def transforms_for(
    dataset: Dataset, *, size: tuple[int, int] | None = (64, 64), height: int = 48, **config: Any
) -> Transforms:
    """Transforms for a robot with another joint order and units than the dataset's, and one empty slot."""
    names = dataset.meta.state_names
    layout = FrameLayout(JointLayout(tuple(names), ("rad", "rad", "unknown")), JointLayout(tuple(names)))
    profile = RobotProfile.from_features([names[1], names[0], names[2]], dataset.meta.cameras, 10)
    joints = [joint.model_copy(update={"unit": "deg"}) for joint in profile.joints[:2]] + profile.joints[2:]
    profile = profile.model_copy(update={"joints": joints})
    shapes = dict.fromkeys(("second", "first", "empty_camera_0"), (3, height, 64))
    settings = preset(
        "tiny", state_dim=3, action_dim=3, image_shapes=shapes, empty_cameras=1, chunk_size=H, n_action_steps=H,
        resize_imgs_with_padding=size, **config,
    )  # fmt: skip
    return Transforms(
        TransformsConfig(
            settings,
            to_policy_order(dataset.meta.statistics, layout, profile),
            PolicyTokenizer(byte_level_folder(settings.vlm)),
            camera_map={"front": "first", "wrist": "second"},
            profile=profile,
            source=layout,
        )
    )


def assert_equal(found: PolicyInputs, expected: PolicyInputs) -> None:
    for field in dataclasses.fields(PolicyInputs):
        left, right = getattr(found, field.name), getattr(expected, field.name)
        if right is None:
            assert left is None, field.name
            continue
        assert left.dtype == right.dtype, field.name
        assert torch.equal(left, right), field.name


@pytest.fixture(scope="module")
def dataset(tiny_dataset: Path) -> Dataset:
    return open_dataset(tiny_dataset, episodes=[1, 2, 4], chunk_size=H)


@pytest.mark.parametrize("padding", ["longest", "max_length"])
@pytest.mark.parametrize("memory_gb", [None, 0.0], ids=["in memory", "decoded when needed"])
def test_batches_equal_the_transforms(dataset: Dataset, memory_gb: float | None, padding: str) -> None:
    transforms = transforms_for(dataset, pad_language_to=padding, tokenizer_max_length=30)
    batches = Batches(dataset, transforms, CPU, chunk_size=H, memory_gb=memory_gb)
    assert batches.in_memory == (memory_gb is None)
    ends = np.flatnonzero(np.diff(dataset.episode_index))
    for rows in ([0, 5, len(dataset) - 1], ends.tolist(), [int(ends[0]) + 1], list(range(len(dataset)))):
        expected = transforms.inputs([dataset[i] for i in rows])
        assert expected.action_is_pad is not None
        assert_equal(batches.batch(rows), expected)


@pytest.mark.parametrize("size", [None, (48, 48)], ids=["native", "smaller"])
def test_kept_images_are_bytes_at_the_policys_size_floats_else_and_give_the_same_batch(
    dataset: Dataset, square: Dataset, size: tuple[int, int] | None
) -> None:
    dataset = square if size is None else dataset
    transforms = transforms_for(dataset, size=size, height=64 if size is None else 48)
    batches = Batches(dataset, transforms, CPU, chunk_size=H)
    per_frame = 64 * 64 * 3 if size is None else 48 * 48 * 3 * 4
    assert batches.needed_gb == pytest.approx(2 * per_frame * len(dataset) / 1e9)
    rows = [3, 7, 10] if size is None else [3, 30, 41]
    assert_equal(batches.batch(rows), transforms.inputs([dataset[i] for i in rows]))


def test_loader_processes_give_the_same_stream(dataset: Dataset) -> None:
    transforms = transforms_for(dataset)
    kept = Batches(dataset, transforms, CPU, chunk_size=H)
    decoded = Batches(dataset, transforms, CPU, chunk_size=H, memory_gb=0.0, workers=2)
    order = kept.order(4, 5)
    streams = [list(batches.stream(order, 3, 8)) for batches in (kept, decoded)]
    assert len(streams[0]) == len(streams[1]) == 5
    for left, right in zip(*streams, strict=True):
        assert_equal(left, right)


def test_only_the_wanted_rows_are_held(dataset: Dataset) -> None:
    transforms = transforms_for(dataset)
    rows = np.array([2, 25, 40])
    whole = Batches(dataset, transforms, CPU, chunk_size=H)
    batches = Batches(dataset, transforms, CPU, chunk_size=H, rows=rows)
    # All that is kept is in the pickle; of all else (dataset, transforms) there is as much in both.
    kept = len(pickle.dumps(whole)) - len(pickle.dumps(batches))
    assert kept == pytest.approx(1e9 * (whole.needed_gb - batches.needed_gb), rel=0.01)
    assert batches.needed_gb == pytest.approx(whole.needed_gb * len(rows) / len(dataset))
    assert_equal(batches.batch(rows[[2, 0]]), transforms.inputs([dataset[40], dataset[2]]))
