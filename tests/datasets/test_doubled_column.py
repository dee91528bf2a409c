"""A table that has a column twice: one error with the way out, which `repair` is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from smolpilot.cli.main import main


@pytest.mark.parametrize("name", ["task_index", "index", "action", "observation.state"])
def test_is_one_error_and_repaired(
    build_v21: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    root = build_v21(pictures_in_table=True)
    path = root / "data" / "chunk-000" / "episode_000001.parquet"
    table = pq.read_table(path)
    pq.write_table(table.append_column(name, table[name]), path)
    for verb in (["info", str(root)], ["convert", str(root), str(tmp_path / "c"), "--to", "v3.0"]):
        assert main(["dataset", *verb]) == 1
        said = capsys.readouterr().err
        assert f"has the column '{name}' more than once" in said
        assert f"dataset repair {root} DST" in said
    assert not (tmp_path / "c").exists()
    assert main(["dataset", "check", str(root)]) == 1
    assert f"has the column '{name}' twice" in capsys.readouterr().out
    assert main(["dataset", "repair", str(root), str(tmp_path / "r")]) == 0
    assert main(["dataset", "check", str(tmp_path / "r")]) == 0
