"""A transform that somebody adds reaches training: batches, whichever way their pictures come, and validation."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from smolpilot.common.errors import TransformError
from smolpilot.datasets import Dataset, open_dataset
from smolpilot.smolvla import Transform, Transforms, new_policy
from smolpilot.training.data.batches import Batches
from smolpilot.training.run.validation import Validator

from ...smolvla.helpers_new_transforms import Crop, DeltaActions, Politely, UpsideDown, with_extra
from .test_batches import CPU, H, assert_equal
from .test_batches import dataset as dataset
from .test_batches import square as square
from .test_batches import transforms_for as plain_transforms


def transforms_for(dataset: Dataset, *, extra: Sequence[Transform] = (), **more: Any) -> Transforms:
    """Those of the tests of batches, with more of them in the list."""
    return Transforms(dataclasses.replace(plain_transforms(dataset, **more).config, extra=tuple(extra)))


@pytest.mark.parametrize("memory_gb", [None, 0.0], ids=["in memory", "decoded when needed"])
@pytest.mark.parametrize("extra", [[DeltaActions()], [UpsideDown("first"), Crop()], [Politely()],
                                   [Politely(), DeltaActions(), UpsideDown("second")]], ids=len)  # fmt: skip
def test_a_new_transform_reaches_the_batches(dataset: Dataset, extra: list[Transform], memory_gb: float | None) -> None:
    transforms = transforms_for(dataset, extra=extra)
    batches = Batches(dataset, transforms, CPU, chunk_size=H, memory_gb=memory_gb)
    rows = [0, 5, len(dataset) - 1]
    expected = transforms.inputs([dataset[i] for i in rows])
    assert_equal(batches.batch(rows), expected)
    plain = transforms_for(dataset).inputs([dataset[i] for i in rows])
    changed = [field for field in ("images", "tokens", "actions", "state")
               if not torch.equal(getattr(plain, field), getattr(expected, field))]  # fmt: skip
    kinds = {DeltaActions: "actions", UpsideDown: "images", Crop: "images", Politely: "tokens"}
    assert set(changed) == {kinds[type(one)] for one in extra}


@pytest.mark.parametrize("extra", [[], [DeltaActions()]], ids=["rows", "chunks"])
def test_a_recorded_nan_is_named_before_the_first_batch(
    dataset: Dataset, extra: list[Transform], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = dataset.actions.copy()
    broken[20, 1] = np.nan
    monkeypatch.setattr(Dataset, "actions", property(lambda self: broken))
    with pytest.raises(TransformError, match="'action' is NaN for joint 'lift'"):
        Batches(dataset, transforms_for(dataset, extra=extra), CPU, chunk_size=H)


def test_a_new_transform_reaches_pictures_that_are_kept_as_bytes(square: Dataset) -> None:
    transforms = transforms_for(square, size=None, height=64, extra=[UpsideDown("first")])
    batches = Batches(square, transforms, CPU, chunk_size=H)
    assert batches.needed_gb == pytest.approx(2 * 64 * 64 * 3 * len(square) / 1e9)
    assert_equal(batches.batch([3, 7]), transforms.inputs([square[3], square[7]]))


def test_a_new_transform_reaches_the_validation(tiny_dataset: Path) -> None:
    own = {"chunk_size": H, "n_action_steps": H}
    plain = new_policy("tiny", meta=open_dataset(tiny_dataset).meta, device="cpu", overrides=own)
    policy = with_extra(plain, DeltaActions(), UpsideDown("front"))
    dataset, rows = open_dataset(tiny_dataset, chunk_size=H), np.array([1, 20, 50])
    batches = Batches(dataset, policy.transforms, CPU, chunk_size=H, rows=rows)
    found = Validator({"all": (batches, rows)}, batch_size=2, seed=0).run(policy)
    assert found is not None
    draws = torch.Generator().manual_seed(20_000)
    noise = torch.cat([torch.randn(count, H, 32, generator=draws) for count in (2, 1)])
    frames = [dict(dataset[int(row)]) for row in rows]
    apart = [
        (policy.predict_chunk(frame, drawn) - torch.as_tensor(frame["action"])).abs()[~frame["action_is_pad"]]
        for frame, drawn in zip(frames, noise, strict=True)
    ]
    np.testing.assert_allclose(found.mae, torch.cat(apart).mean(dim=0), rtol=1e-4)
