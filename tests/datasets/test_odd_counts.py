"""A count in the stored statistics that is no number: they are computed anew."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smolpilot.common.keys import ACTION
from smolpilot.datasets import open_dataset


@pytest.mark.parametrize("count", [[], [[]], [60, 60, 60]])
def test_statistics_with_such_a_count_are_computed_anew(
    broken: Callable[[str], Path], sound: dict[str, Path], count: list[Any]
) -> None:
    root = broken("v3")
    path = root / "meta" / "stats.json"
    stats = json.loads(path.read_text())
    stats[ACTION]["count"] = count
    path.write_text(json.dumps(stats))
    found, expected = (open_dataset(folder).meta.statistics[ACTION] for folder in (root, sound["v3"]))
    assert found["count"].tolist() == expected["count"].tolist()
    np.testing.assert_allclose(found["std"], expected["std"], rtol=1e-6)
