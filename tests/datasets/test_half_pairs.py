"""Half of a surrogate pair is valid JSON and no character: one clear error wherever it stands, and nothing left."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from smolpilot.cli.main import main

from .helpers_small import write_small

HALF = "\ud800"
CAMERA = "observation.images.front"


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two episodes of four frames; never to be changed."""
    return write_small(tmp_path_factory.mktemp("halves"), (4, 4))["v2.1"]


def edit(path: Path, old: str, new: str) -> None:
    """Texts as they stand in the file, where JSON spells half of a pair `\\ud800`."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def spoil(root: Path, where: str) -> None:
    spelled = json.dumps(HALF)[1:-1]
    meta = root / "meta"
    if where == "task":
        edit(meta / "tasks.jsonl", "touch", f"touch {spelled}")
    elif where == "episode":
        edit(meta / "episodes.jsonl", "touch", f"touch {spelled}")
    elif where == "note":
        edit(meta / "episodes.jsonl", '{"episode_index"', f'{{"note": "{spelled}", "episode_index"')
    elif where == "key of a note":
        edit(meta / "episodes.jsonl", '{"episode_index"', f'{{"{spelled}": 1, "episode_index"')
    elif where == "robot":
        edit(meta / "info.json", '"robot_type": ', f'"robot_type": "{spelled}", "was": ')
    elif where == "joint":
        edit(meta / "info.json", '"pan"', f'"pan{spelled}"')
    else:
        edit(meta / "info.json", f'"{CAMERA}"', f'"{CAMERA}{spelled}"')


@pytest.mark.parametrize("where", ["task", "episode", "note", "key of a note", "robot", "joint", "camera"])
def test_half_pairs_are_one_error_in_every_verb(
    short: Path, tmp_path: Path, where: str, capsys: pytest.CaptureFixture[Any]
) -> None:
    root, out = Path(shutil.copytree(short, tmp_path / "data")), tmp_path / "out"
    spoil(root, where)
    before = sorted(tmp_path.rglob("*"))
    verbs = [
        ["info", str(root)],
        ["convert", str(root), str(out)],
        ["tasks", str(root)],
        ["view", str(root), "--out", str(out)],
    ]
    for words in verbs:
        assert main(["dataset", *words]) == 1, words
        said = capsys.readouterr().err
        assert "urrogate" in said or "no character" in said or "UTF-8" in said, said
        assert "meta/" in said
        assert said.isascii()
        assert sorted(tmp_path.rglob("*")) == before
    page = tmp_path / "page.html"
    assert main(["dataset", "check", str(root), "--html", str(page)]) == 1
    assert page.is_file()
    capsys.readouterr()
    # A repair makes a sound copy, or says why it cannot.
    assert main(["dataset", "repair", str(root), str(out)]) in (0, 1)
    assert {path.name for path in tmp_path.iterdir()} <= {"data", "page.html", "out"}
