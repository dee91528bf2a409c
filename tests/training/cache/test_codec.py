"""Cached numbers as bytes: exact ones come back bit for bit, scaled ones within their step."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from smolpilot.training.cache.codec import CacheCodec


def rows() -> torch.Tensor:
    """[3, 2, 7, 4]: tokens along axis 2, channels of very different size, one of zeros."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, 2, 7, 4, generator=generator) * torch.tensor([1e-4, 1.0, 300.0, 0.0])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_plain_numbers_come_back_as_they_were_rounded(dtype: Any) -> None:
    numbers = CacheCodec.of((2, 7, 4), 1, dtype, torch.float32)
    content = numbers.pack(rows())
    assert content.shape == (3, numbers.row_bytes)
    assert torch.equal(numbers.unpack(content, torch.float32), rows().to(numbers.dtype).float())


@pytest.mark.parametrize(("dtype", "step"), [("int8", 0.5 / 127), ("fp8", 2**-4)])
def test_scaled_numbers_come_back_within_a_step_of_their_channel(dtype: Any, step: float) -> None:
    numbers = CacheCodec.of((2, 7, 4), 1, dtype, torch.float32)
    content = numbers.pack(rows())
    assert numbers.row_bytes == 2 * 7 * 4 + 4 * 2 * 4
    assert content.shape == (3, numbers.row_bytes)
    back = numbers.unpack(content, torch.float32)
    largest = rows().abs().amax(dim=2, keepdim=True)
    assert ((back - rows()).abs() <= step * largest * 1.001).all()
    assert (back[..., 3] == 0).all()
    # A row is packed by itself: what stands beside it changes nothing.
    assert torch.equal(numbers.pack(rows()[1:2]), content[1:2])


def test_the_models_own_dtype_is_kept_where_none_is_named() -> None:
    assert CacheCodec.of((2, 3), 1, None, torch.bfloat16).dtype == torch.bfloat16
    with pytest.raises(ValueError, match="rows of"):
        CacheCodec.of((2, 3), 1, None, torch.float32).pack(torch.zeros(5, 3, 2))
