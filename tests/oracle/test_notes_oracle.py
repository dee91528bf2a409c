"""LeRobot opens a dataset whose episode list holds notes as JSON texts, and gives the notes as texts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from smolpilot.datasets.convert import convert
from smolpilot.datasets.copy import CopyOptions

pytestmark = pytest.mark.oracle
NOTES = [1, "a", {"b": [10**30]}, None, 2.5, True]


def test_notes_of_several_types_are_texts_for_lerobot(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    old = tmp_path / "old"
    convert(tiny_dataset, old, CopyOptions(version="v2.1"))
    rows = [json.loads(line) for line in (old / "meta" / "episodes.jsonl").read_text().splitlines()]
    lines = [json.dumps({**row, "note": note}) + "\n" for row, note in zip(rows, NOTES, strict=True)]
    (old / "meta" / "episodes.jsonl").write_text("".join(lines))
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    convert(old, tmp_path / "new")
    found = LeRobotDataset("test/notes", root=tmp_path / "new", video_backend="pyav")
    assert found.meta.total_episodes == len(NOTES)
    assert [found.meta.episodes[i]["note"] for i in range(len(NOTES))] == [json.dumps(note) for note in NOTES]
    assert len(found) == sum(row["length"] for row in rows)
    assert found[0]["task"] == rows[0]["tasks"][0]
