"""`dataset repair`: what lies beside a recording comes along, whatever else lies there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from smolpilot.cli.main import main

from .helpers_damage import change_info

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")


def test_the_card_comes_along_whatever_lies_before_it(sound: dict[str, Path], tmp_path: Path) -> None:
    """As a download from the hub has it: hidden files of git and of the client before all others."""
    root = Path(shutil.copytree(sound["v21"], tmp_path / "src"))
    change_info(root, total_frames=1)
    hidden = [".gitattributes", "notes/.hidden"]
    stay = [".cache/huggingface/download/README.md.metadata", "aside.mp4", "aside/table.parquet", "zz.MOV"]
    come = ["LICENSE", "README.md", "meta/setup.txt", "notes/one.txt", "notes/two.txt", "zz.txt"]
    for name in (*hidden, *stay, *come):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    assert main(["dataset", "repair", str(root), str(tmp_path / "dst")]) == 0
    assert [(tmp_path / "dst" / name).read_text() for name in come] == come
    assert [name for name in stay if (tmp_path / "dst" / name).exists()] == []
