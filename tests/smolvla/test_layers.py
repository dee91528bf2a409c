"""Grouped attention against the formula, head by head, and where a query sees nothing."""

from __future__ import annotations

import contextlib

import pytest
import torch
from torch import Tensor

from smolpilot.smolvla.network import layers
from smolpilot.smolvla.network.layers import attend

B, L, K, N, G, E = 2, 5, 7, 6, 2, 8


@pytest.fixture(autouse=True, params=["attend_fused", "attend_grouped"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a CPU takes, and what a GPU takes: both run here."""
    monkeypatch.setattr(layers, "attend_fused", getattr(layers, request.param))


def draw(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    queries, keys, values = (torch.randn(B, *shape, generator=g) for shape in ((L, N, E), (K, G, E), (K, G, E)))
    mask = torch.rand(B, L, K, generator=g) < 0.6
    mask[:, :, 0] = True
    return queries.requires_grad_(), keys.requires_grad_(), values.requires_grad_(), mask


def by_head(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """The formula, one sample, head and query at a time."""
    rows = []
    for b in range(B):
        for query in range(L):
            seen = mask[b, query]
            for head in range(N):
                k, v = (each[b, seen, head // (N // G)] for each in (keys, values))
                rows.append((k @ queries[b, query, head] / E**0.5).softmax(dim=0) @ v)
    return torch.stack(rows).reshape(B, L, N * E)


def test_values_and_gradients_are_those_of_the_formula() -> None:
    queries, keys, values, mask = draw()
    weight = torch.randn(B, L, N * E, generator=torch.Generator().manual_seed(1))
    results = [
        (out.detach(), *torch.autograd.grad((out * weight).sum(), (queries, keys, values)))
        for out in (attend(queries, keys, values, mask), by_head(queries, keys, values, mask))
    ]
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float16])
def test_a_query_that_sees_nothing_stays_finite_and_changes_nothing(dtype: torch.dtype | None) -> None:
    queries, keys, values, mask = draw()
    blind = mask.clone()
    blind[1, 3] = False
    mixed = contextlib.nullcontext() if dtype is None else torch.autocast("cpu", dtype)
    with mixed:
        whole, out = attend(queries, keys, values, mask), attend(queries, keys, values, blind)
    assert out.isfinite().all()
    others = torch.ones(B, L, dtype=torch.bool)
    others[1, 3] = False
    assert torch.equal(out[others], whole[others])
    for gradient in torch.autograd.grad(out.float().sum(), (queries, keys, values)):
        assert gradient.isfinite().all()
