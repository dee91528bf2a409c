"""Misuse that nothing else tries: each wish is refused with exit status 2, its own words, and nothing written."""

from __future__ import annotations

import dataclasses
import errno
import os
import sys
import time
from pathlib import Path

import pytest

from smolpilot.cli.main import main
from smolpilot.common.progress import progress_bar

JOBS = [
    ["dataset", "check", "DATA"],
    ["dataset", "compare", "DATA", "DATA"],
    ["dataset", "convert", "DATA", "OUT"],
    ["dataset", "repair", "DATA", "OUT"],
    ["dataset", "stats", "DATA", "--recompute"],
    ["dataset", "exclude", "DATA", "OUT", "--episodes", "0"],
]


def said(words: list[str], data: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    names = {"DATA": str(data), "OUT": str(folder / "out"), "FOLDER": str(folder), "FILE": str(folder / "file")}
    capsys.readouterr()
    code = main([names.get(word, word) for word in words])
    shown = capsys.readouterr()
    return code, shown.err


@pytest.mark.parametrize("words", JOBS, ids=lambda words: words[1])
def test_a_negative_number_of_processes(
    words: list[str], tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = said([*words, "--jobs", "-1"], tiny_dataset, tmp_path, capsys)
    assert (code, "--jobs is -1." in text) == (2, True), text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["dataset", "chekc", "DATA"], "Unknown verb 'dataset chekc'.\n  Fix: Did you mean 'check'"),
        (["dataset", "check", "DATA", "--html", "FOLDER"], "is a folder"),
        (["dataset", "compare", "DATA", "DATA", "--tolerance", "-1"], "--tolerance is -1"),
        (["dataset", "convert", "DATA", "OUT", "--to", "v2.0"], "v2.0"),
        (["dataset", "convert", "DATA", "OUT", "--video-file-mb", "0"], "--video-file-mb is 0"),
        (["dataset", "rename", "DATA", "OUT", "--feature", "index=number"], "LeRobot's own columns keep their names"),
        (["dataset", "rename", "DATA", "OUT", "--feature", "action=index"], "LeRobot's own columns keep their names"),
        (["dataset", "rename", "DATA", "OUT", "--feature", "action=a/b"], "'a/b' cannot be a feature's name"),
        (["dataset", "rename", "DATA", "OUT", "--feature", "action=observation.images.x"],
         "'action' cannot be called 'observation.images.x'"),
        (["dataset", "rename", "DATA", "OUT", "--feature", "observation.images.front=action"],
         "'observation.images.front' cannot be called 'action'"),
        (["dataset", "rename", "DATA", "OUT", "--feature", "action=observation.state"],
         "Two features would be called 'observation.state'"),
        (["dataset", "rename", "DATA", "OUT", "--feature", "action=action"], "No feature of"),
        (["dataset", "tasks", "DATA", "OUT", "--rename", "0="], "has nothing after the '='"),
        (["dataset", "tasks", "DATA", "OUT", "--rename", "0=a\nb"], "more than one line"),
        (["dataset", "tasks", "DATA", "OUT", "--set", "0=a", "0-1=b"], "Episode 0 is given two instructions"),
        (["dataset", "tasks", "DATA", "OUT"], "A new folder is named, but no change"),
        (["dataset", "tasks", "DATA", "OUT", "--undo", "--set", "0=a"], "are given together"),
        (["export", "FOLDER", "--out", "OUT", "--frames", "0"], "--frames is 0"),
        (["export", "FOLDER", "--out", "OUT", "--calibration-frames", "0"], "--calibration-frames is 0"),
        (["export", "FOLDER", "--out", "OUT", "--precision", "int8"], "--precision int8 is calibrated"),
        (["rollout", "FOLDER", "--out", "OUT", "--video-episodes", "-1"], "--video-episodes is -1"),
        (["rollout", "FOLDER", "--out", "OUT", "--episodes", "0"], "--episodes is 0"),
        (["rollout", "FOLDER", "--out", "OUT", "--n-action-steps", "0"], "--n-action-steps is 0"),
        (["rollout", "FOLDER", "--out", "OUT", "--engine", "int8"], "--engine int8 is calibrated"),
        (["rollout", "FOLDER", "--out", "OUT", "--calibrate-on", "DATA"], "--calibrate-on does nothing with"),
        (["rollout", "FOLDER", "--out", "OUT", "--untrained", "--engine", "fast"], "--untrained replaces"),
        (["eval", "FOLDER", "--dataset", "DATA", "--out", "OUT", "--every", "0"], "--every is 0"),
        (["eval", "FOLDER", "--dataset", "DATA", "--out", "OUT", "--max-frames", "0"], "--max-frames is 0"),
        (["eval", "FOLDER", "--dataset", "DATA", "--out", "OUT", "--num-steps", "0"], "--num-steps is 0"),
        (["eval", "FOLDER", "--dataset", "DATA", "--out", "OUT", "--seed", "-1"], "--seed is -1"),
        (["record", "--out", "OUT", "--episodes", "1", "--colors", "red", "mauve"], "mauve"),
        (["watch", "FOLDER", "--every", "0"], "--every is 0"),
    ],
    ids=lambda value: None if isinstance(value, str) else " ".join(value[:2] + value[-2:]),
)  # fmt: skip
def test_contradictory_options(
    words: list[str], message: str, tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = said(words, tiny_dataset, tmp_path, capsys)
    assert (code, message in text) == (2, True), text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "does not exist"), ("{", "is not JSON"), ('{"found": []}', "holds no list of findings"),
     ('{"findings": [1]}', "holds no list of findings"), ("[{}, 2]", "holds no list of findings")],
)  # fmt: skip
def test_findings_of_another_form(
    content: str | None, message: str, tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / "file").write_text(content)
    words = ["dataset", "view", "DATA", "--out", "OUT", "--findings", "FILE"]
    code, text = said(words, tiny_dataset, tmp_path, capsys)
    assert (code, message in text) == (2, True), text
    assert not (tmp_path / "out").exists()


# -- the command itself ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("finetune", "smolpilot train"),
        ("fine-tune", "smolpilot train"),
        ("lerobot-train", "smolpilot train"),
        ("benchmark", "smolpilot bench"),
        ("trian", "Did you mean 'train'"),
        ("lerobot-teleoperate", "lerobot-teleoperate"),
        ("find_port", "lerobot-find-port"),
    ],
)
def test_verbs_of_other_programs(typed: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([typed]) == 2
    text = capsys.readouterr().err
    assert f"Unknown verb '{typed}'" in text
    assert words in text


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (KeyboardInterrupt(), 130, "Interrupted."),
        (OSError(errno.ENOSPC, "No space left on device", "/data/x"), 1, "/data/x"),
        (MemoryError(), 1, "The memory does not suffice"),
        (BrokenPipeError(), 0, ""),
    ],
)
def test_what_the_system_says_is_no_traceback(
    error: BaseException, code: int, words: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from smolpilot.cli import doctor

    def fail(_: object) -> int:
        raise error

    monkeypatch.setattr(doctor, "VERB", dataclasses.replace(doctor.VERB, run=fail))
    kept = os.dup(1)  # a broken pipe takes standard output away
    try:
        assert main(["doctor"]) == code
    finally:
        os.dup2(kept, 1)
        os.close(kept)
    text = capfd.readouterr().err
    assert words in text
    assert "Traceback" not in text


def test_an_edit_says_that_it_was_compared(
    tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dataset", "exclude", str(tiny_dataset), str(tmp_path / "out"), "--episodes", "0"]) == 0
    shown = capsys.readouterr().out
    assert "5 episodes" in shown
    assert "read back and equal to the source (" in shown


# -- the progress bar --------------------------------------------------------------------------------------------------


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:

        self.now = 100.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


def test_in_a_log_file_each_stage_is_one_line_after_five_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock(monkeypatch)
    with progress_bar() as update:
        update("copying", 1, 9)
        clock.now += 4.9
        update("copying", 2, 9)
        assert capsys.readouterr().err == ""
        clock.now += 0.2
        for done in (3, 4):
            update("copying", done, 9)
        update("checking", 1, 2)
        update("checking", 2, 2)
    assert capsys.readouterr().err.splitlines() == ["copying: 3 of 9 ...", "checking: 1 of 2 ..."]


def test_on_a_terminal_a_bar_is_shown_once_the_work_takes_a_while(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock(monkeypatch)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with progress_bar() as update:
        update("copying", 1, 9)
        assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress_bar() as update:
        update("copying", 1, 9)
        clock.now += 1.1
        update("copying", 2, 9)
        update("checking", 1, 2)
    shown = capsys.readouterr().err
    assert "copying" in shown
    assert "2/9" in shown
