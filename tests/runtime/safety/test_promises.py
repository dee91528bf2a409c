"""Every promise of docs/safety.md, tried on the bytes of an emulated bus."""

from __future__ import annotations

import pytest

from .helpers_cases import CASES, Case


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.promise}-{case.check.__name__}")
def test_a_promise_is_kept(case: Case) -> None:
    assert case.check() > 0
