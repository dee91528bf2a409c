"""Outputs appear whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from smolpilot.common import atomic
from smolpilot.common.atomic import atomic_folder, write_text_atomic
from smolpilot.common.errors import UsageError


def test_folder_appears_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "out"
    with atomic_folder(target) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "a.txt").write_text("x")
        assert not target.exists()
        assert folder.parent == target.parent
    assert (target / "sub" / "a.txt").read_text() == "x"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_folder_vanishes_after_an_error(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error, match="on the way"), atomic_folder(tmp_path / "out") as folder:  # noqa: PT012
        (folder / "a.txt").write_text("x")
        raise error("on the way")
    assert list(tmp_path.iterdir()) == []


def test_existing_targets_are_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(UsageError, match="exists already"), atomic_folder(tmp_path / "out"):
        pass
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="exists already"), atomic_folder(tmp_path / "link"):
        pass
    with pytest.raises(UsageError, match="exists already"), atomic_folder(tmp_path / "late") as folder:  # noqa: PT012
        (folder / "a.txt").write_text("ours")
        (tmp_path / "late").mkdir()
        (tmp_path / "late" / "theirs.txt").write_text("kept")
    assert (tmp_path / "late" / "theirs.txt").read_text() == "kept"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_only_left_overs_of_dead_runs_are_removed(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "out") as running:
        with pytest.raises(UsageError, match="exists already"), atomic_folder(tmp_path / "out") as second:  # noqa: PT012
            assert running.exists()
            assert second != running
            second.rename(tmp_path / "out")
            second.mkdir()
        assert running.exists()
        (tmp_path / "out").rmdir()
    left_over = tmp_path / f".new.{atomic._owner()}-01234567.partial"
    left_over.mkdir()
    with atomic_folder(tmp_path / "new"):
        assert not left_over.exists()


def test_text_is_replaced_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a" / "file.json"
    write_text_atomic(path, "old")
    write_text_atomic(path, "new é")
    assert path.read_text(encoding="utf-8") == "new é"
    monkeypatch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(28, "disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_text_atomic(path, "half")
    assert path.read_text(encoding="utf-8") == "new é"
    assert list(path.parent.iterdir()) == [path]
