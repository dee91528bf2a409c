from __future__ import annotations

import json
from pathlib import Path

import pytest

from smolpilot.common.errors import TrainingError
from smolpilot.training.run.metrics_log import MetricsLog, read_metrics


def test_a_resumed_run_drops_the_lines_beyond_its_checkpoint(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path, step=0)
    for step in (10, 20, 30):
        log.write(step, "train", {"loss": step / 10, "mae": {"pan": 0.5}})
    log.close()
    again = MetricsLog(tmp_path, step=20)
    again.write(30, "train", {"loss": 9.0})
    again.close()
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [(line["step"], line["loss"]) for line in lines] == [(10, 1.0), (20, 2.0), (30, 9.0)]
    assert list((tmp_path / "tensorboard").glob("events.*"))


def test_what_json_has_no_number_for_is_null(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path, step=0)
    log.write(3, "validation", {"score": float("inf"), "mae": {"pan": float("nan"), "lift": 0.5}})
    log.close()
    line = json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=pytest.fail)
    assert line == {"step": 3, "kind": "validation", "score": None, "mae": {"pan": None, "lift": 0.5}}


def test_a_torn_last_line_is_left_out_and_a_torn_middle_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "kind": "train"}\n{"step": 2, "ki', encoding="utf-8")
    assert [line["step"] for line in read_metrics(path)] == [1]
    MetricsLog(tmp_path, step=1).close()
    assert path.read_text(encoding="utf-8") == '{"step": 1, "kind": "train"}\n'
    path.write_text('{"step": 1\n{"step": 2, "kind": "train"}\n', encoding="utf-8")
    with pytest.raises(TrainingError, match="Line 1"):
        read_metrics(path)
