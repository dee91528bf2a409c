"""A table without the column of a camera: `check` reports it, whatever else it looks at."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from smolpilot.cli.main import main


def test_is_a_finding(build_v21: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    root = build_v21(pictures_in_table=True)
    path = root / "data" / "chunk-000" / "episode_000001.parquet"
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["observation.images.top"]), path)
    assert main(["dataset", "check", str(root), "--json", "--jobs", "1"]) == 1
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert any("observation.images.top" in one["message"] and one["severity"] == "error" for one in findings)
    assert "check-failed" not in {one["code"] for one in findings}
