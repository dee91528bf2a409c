"""Image augmentation: repeatable, each picture by itself, nothing else touched, ranges kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch

from smolpilot.smolvla.network.inputs import PolicyInputs
from smolpilot.training.data.augment import Augmentation
from smolpilot.training.data.sample_rng import SampleRng

KINDS = ["color", "crop", "blur", "erase"]


def inputs(count: int = 6) -> PolicyInputs:
    """Two cameras, the second slot empty."""
    generator = torch.Generator().manual_seed(0)
    pictures = torch.rand(count, 1, 3, 24, 32, generator=generator) * 2 - 1
    images = torch.cat([pictures, torch.full_like(pictures, -1.0)], dim=1)
    masks = torch.tensor([True, False]).expand(count, -1)
    tokens = torch.zeros(count, 3, dtype=torch.int64)
    return PolicyInputs(images, masks, tokens, tokens.bool(), torch.rand(count, 4, generator=generator), None, None)


def augment(kinds: dict[str, float], seed: int) -> Callable[..., PolicyInputs]:
    """Augmentation of batch number `step`."""
    change = Augmentation(kinds, SampleRng(seed))
    return lambda given, step: change(given, np.arange(len(given)) + step * len(given))


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_changes_pictures_within_range_and_nothing_else(kind: str) -> None:
    before = inputs()
    kept = before.images.clone()
    after = augment({kind: 1.0}, seed=3)(before, step=5)
    assert torch.equal(before.images, kept)
    assert after.images.shape == before.images.shape
    assert after.images.abs().max() <= 1 + 1e-6
    for number in range(6):
        assert not torch.equal(after.images[number, 0], before.images[number, 0])
    assert torch.equal(after.images[:, 1], before.images[:, 1])
    for field in dataclasses.fields(PolicyInputs):
        if field.name != "images":
            assert getattr(after, field.name) is getattr(before, field.name)


def test_the_same_step_gives_the_same_pictures_another_does_not() -> None:
    kinds = dict.fromkeys(KINDS, 0.7)
    first, again, later, other = (
        augment(kinds, seed)(inputs(), step).images for seed, step in ((1, 4), (1, 4), (1, 5), (2, 4))
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, later)
    assert not torch.equal(first, other)


def test_a_picture_is_changed_the_same_way_in_any_share_of_the_batch() -> None:
    change, places = Augmentation(dict.fromkeys(KINDS, 0.7), SampleRng(1)), np.arange(12, 18)
    whole, part = change(inputs(), places), change(inputs()[2:5], places[2:5])
    assert torch.equal(whole.images[2:5], part.images)


def test_the_probability_is_per_picture() -> None:
    before = inputs(400)
    after = augment({"color": 0.25}, seed=0)(before, step=0)
    changed = (after.images != before.images).flatten(1).any(dim=1).float().mean()
    assert 0.17 < float(changed) < 0.33
    assert augment({"color": 0.0}, seed=0)(before, step=0) is before


def test_equal_pictures_are_changed_differently() -> None:
    one = inputs(2)
    same = dataclasses.replace(one, images=one.images[:1].expand(2, -1, -1, -1, -1).clone())
    after = augment({"crop": 1.0}, seed=1)(same, step=0).images
    assert not torch.equal(after[0, 0], after[1, 0])


def test_a_crop_is_a_scaled_window_of_the_picture() -> None:
    """A ramp stays a ramp, less steep, within its old values."""
    before = inputs(8)
    ramp = torch.linspace(-1, 1, 32).expand(8, 1, 3, 24, 32).clone()
    images = torch.cat([ramp, before.images[:, 1:]], dim=1)
    after = augment({"crop": 1.0}, seed=1)(dataclasses.replace(before, images=images), step=0).images[:, 0]
    slope = after.diff(dim=-1)[..., 2:-2] / (2 / 31)
    assert ((slope > 0.84) & (slope < 1.001)).all()
    assert slope.std(dim=(1, 2, 3)).max() < 1e-4
    assert slope.mean(dim=(1, 2, 3)).std() > 0.01


def test_an_erased_rectangle_is_gray_and_of_the_stated_size() -> None:
    before = dataclasses.replace(inputs(50), images=torch.ones(50, 2, 3, 64, 64))
    after = augment({"erase": 1.0}, seed=1)(before, step=0).images[:, 0, 0]
    assert set(after.unique().tolist()) == {0.0, 1.0}
    share = (after == 0).float().mean(dim=(1, 2))
    assert ((share > 0.012) & (share < 0.115)).all()


def test_the_name_of_a_cache_keeps_the_first_spelling_of_color() -> None:
    described = Augmentation({"color": 0.5, "crop": 0.1}, SampleRng(3)).describe()
    assert described == "[('colour', 0.5), ('crop', 0.1)] seed 3"
