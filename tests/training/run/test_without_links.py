"""Runs on a disk without symbolic links (exFAT, SMB), and runs that were copied to or from one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from smolpilot.cli.main import main
from smolpilot.common.safe_paths import followed, point, target_of
from smolpilot.smolvla.checkpoint.locate import locate
from smolpilot.training.run.run_paths import best_checkpoint

TINY = ["--preset", "tiny", "--from-scratch", "--batch-size", "4", "--chunk-size", "4", "--eval-frames", "4",
        "--device", "cpu"]  # fmt: skip


def refuse_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """What such a disk answers; the real part would need one mounted."""

    def refused(source: Any, target: Any, *_: Any, **__: Any) -> None:
        raise OSError(95, "Operation not supported", str(target))

    monkeypatch.setattr(os, "symlink", refused)


@pytest.fixture(scope="module")
def without(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 4 steps on such a disk."""
    run = tmp_path_factory.mktemp("stick") / "run"
    with pytest.MonkeyPatch.context() as monkeypatch:
        refuse_links(monkeypatch)
        args = ["train", "--dataset", str(tiny_dataset), *TINY, "--steps", "4", "--save-every", "2", "--out", str(run)]
        assert main(args) == 0
    return run


def test_last_and_best_are_small_files_that_every_verb_reads(
    without: Path, tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = without / "checkpoints"
    assert (places / "last").read_text() == "step_000004\n"
    assert (places / (places / "best").read_text().strip() / "model.safetensors").is_file()
    assert not any(path.is_symlink() for path in without.rglob("*"))
    assert main(["status", str(without)]) == 0
    assert (places / "best").read_text().strip() in capsys.readouterr().out
    assert main(["bundle", str(places / "last"), "--json"]) == 0
    assert locate(places / "last").folder == places / "step_000004"
    out = tmp_path / "report"
    assert main(["eval", str(without), "--dataset", str(tiny_dataset), "--out", str(out), "--max-frames", "2"]) == 0


def test_a_run_resumes_on_a_disk_without_links_and_after_a_move_to_another(
    without: Path,
    tiny_dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    shutil.copytree(without, run)
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("steps: 4", "steps: 5"))
    with monkeypatch.context() as patched:
        refuse_links(patched)
        assert main(["train", "--resume", "--out", str(run)]) == 0
    assert (run / "checkpoints" / "last").read_text() == "step_000005\n"
    # On a disk with links the files become links.
    config.write_text(config.read_text().replace("steps: 5", "steps: 6"))
    assert main(["train", "--resume", "--out", str(run)]) == 0
    assert (run / "checkpoints" / "last").readlink() == Path("step_000006")
    kept = {path.name for path in (run / "checkpoints").glob("step_*")}
    assert {"step_000005", "step_000006"} <= kept
    # `cp -rL` makes whole folders of links: they are set aside, not written over.
    copied = tmp_path / "copied"
    shutil.copytree(run, copied, symlinks=False)
    assert not (copied / "checkpoints" / "last").is_symlink()
    config = copied / "config.yaml"
    config.write_text(config.read_text().replace("steps: 6", "steps: 7"))
    assert main(["status", str(copied)]) == 0
    assert main(["train", "--resume", "--out", str(copied)]) == 0
    assert (copied / "checkpoints" / "last").readlink() == Path("step_000007")
    assert (copied / "checkpoints" / "last_copied" / "model.safetensors").is_file()


def test_a_run_that_lost_its_links_stands_for_its_newest_checkpoint(without: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(without, run)
    for name in ("last", "best"):
        (run / "checkpoints" / name).unlink()
    assert main(["bundle", str(run), "--json"]) == 0
    assert locate(run).folder == run / "checkpoints" / "step_000004"
    assert main(["status", str(run)]) == 0


def test_a_pointer_is_followed_wherever_it_stands_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stages" / "1_a" / "checkpoints" / "step_1").mkdir(parents=True)
    refuse_links(monkeypatch)
    point(tmp_path / "checkpoints", "stages/1_a/checkpoints")
    point(tmp_path / "stages" / "1_a" / "checkpoints" / "best", "step_1")
    assert followed(tmp_path / "checkpoints" / "best") == tmp_path / "stages" / "1_a" / "checkpoints" / "step_1"
    assert best_checkpoint(tmp_path) == (tmp_path / "stages" / "1_a" / "checkpoints" / "step_1").resolve()
    # Other small files are no pointers.
    for text in ("", "nowhere", "a\nb", "x" * 2000):
        (tmp_path / "file").write_text(text)
        assert target_of(tmp_path / "file") is None
        assert followed(tmp_path / "file") == tmp_path / "file"
