"""A name from a file is shown, and nothing of it acts: not on the terminal, nor as markup, formula, HTML or a label."""

from __future__ import annotations

import io
import json
import re
import sys
import time
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO, cast

import numpy as np
import pytest

from smolpilot.cli.main import main
from smolpilot.common import terminal
from smolpilot.common.progress import progress_bar, working
from smolpilot.common.streams import Guarded, guarded, unguarded
from smolpilot.datasets import DatasetWriter

TASK = "pick \x1b]0;title\x07\x1b[2J [/red] :smile: $x_{ {0} %s <script>alert(1)</script> \u202e 红色"
JOINTS = ["$\\frac{$", "_[/x]\x1b[1A", "=a|<b>\x9b2J"]
ROBOT = "arm\x1b[8m[/bold]\r"
CAMERA = "[red]top"


def write(path: Path, task: str = TASK) -> Path:
    writer = DatasetWriter(
        path, fps=10, state_names=JOINTS, action_names=JOINTS, cameras={CAMERA: (32, 32)}, robot_type=ROBOT
    )
    with writer:
        for episode in range(2):
            for frame in range(8):
                values = np.array([frame / 8, np.sin(frame), 0.1 * episode + frame / 9], np.float32)
                writer.add_frame(
                    {
                        "observation.state": values,
                        "action": values + np.float32(0.1),
                        f"observation.images.{CAMERA}": np.full((32, 32, 3), 9 * frame, np.uint8),
                        "task": task,
                    }
                )
            writer.end_episode()
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("names") / "data")


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("names") / "run"
    words = ["--preset", "tiny", "--from-scratch", "--steps", "1", "--batch-size", "2", "--chunk-size", "4"]
    with pytest.MonkeyPatch.context() as patch:
        screen = io.StringIO()
        patch.setattr(sys, "stdout", screen)
        assert main(["train", "--dataset", str(data), "--out", str(out), *words]) == 0
        assert_inert(screen.getvalue())
    return out


def assert_inert(text: str, *, colors: bool = False) -> None:
    """Nothing in the text acts on a terminal, but rich's colors where they are expected."""
    if colors:
        text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    acting = {letter for letter in text if unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp")} - {
        "\n",
        "\t",
    }
    assert acting == set()


class Screen(io.StringIO):
    """A terminal as far as programs ask."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@contextmanager
def screens() -> Iterator[tuple[Screen, Screen]]:
    """Standard output and error are terminals of 400 columns."""
    out, err = Screen(), Screen()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        for name, value in {"TERM": "xterm-256color", "COLUMNS": "400", "LINES": "50"}.items():
            patch.setenv(name, value)
        patch.delenv("NO_COLOR", raising=False)
        yield out, err


SHOWING = {
    "info": ["dataset", "info", "DATA"],
    "check": ["dataset", "check", "DATA", "--jobs", "1"],
    "stats": ["dataset", "stats", "DATA"],
    "tasks": ["dataset", "tasks", "DATA"],
    "repair": ["dataset", "repair", "DATA", "NEW", "--dry-run"],
    "convert": ["dataset", "convert", "DATA", "NEW", "--to", "v2.1", "--jobs", "1"],
    "rename": ["dataset", "rename", "DATA", "NEW", "--feature", f"observation.images.{CAMERA}=observation.images.[b]"],
    "view": ["dataset", "view", "DATA", "--out", "NEW"],
    "preflight": ["preflight", "--dataset", "DATA"],
    "status": ["status", "RUN"],
    "bundle": ["bundle", "RUN"],
    "bundle --json": ["bundle", "RUN", "--json"],
    "export": ["export", "RUN", "--dataset", "DATA", "--out", "NEW", "--frames", "1"],
    "error": ["dataset", "info", "\x1b]0;X\x07[/red]"],
    "unknown verb": ["\x1b[2J[/red]"],
    "unknown option": ["dataset", "info", "DATA", "--\x1b[2J[/red]"],
    "unknown value": ["train", "--dataset", "DATA", "--out", "NEW", "--preset", "\x1b[2J[/red]"],
}


@pytest.mark.parametrize("name", SHOWING)
@pytest.mark.filterwarnings("ignore")
def test_no_verb_lets_a_name_act(name: str, data: Path, run: Path, tmp_path: Path) -> None:
    places = {"DATA": str(data), "RUN": str(run), "NEW": str(tmp_path / "new")}
    with screens() as both:
        code = main([places.get(word, word) for word in SHOWING[name]])
    out, err = (screen.getvalue() for screen in both)
    assert code in ((2,) if name.startswith(("error", "unknown")) else (0, 1)), err
    assert_inert(out, colors=True)
    assert_inert(re.sub(r"\x1b\[\?25[lh]|\x1b\[2K|\x1b\[1A|\r", "", err), colors=True)  # a bar's own
    if name.endswith("--json"):
        assert TASK in json.loads(out)["instructions"]
    if name in ("info", "tasks"):
        shown = re.sub(r"\x1b\[[0-9;]*m", "", out)
        assert "pick \\x1b]0;title\\x07\\x1b[2J [/red] :smile: $x_{ {0} %s" in shown
        assert "\\u202e 红色" in shown
    if name == "info":
        assert "arm\\x1b[8m[/bold]\\r" in shown
        assert "_[/x]\\x1b[1A" in shown
        assert CAMERA in shown


@contextmanager
def show_warnings() -> Iterator[None]:
    """As outside of pytest, which keeps warnings for its summary."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(warnings, "showwarning", lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr))
        yield


def test_lines_in_a_running_bar_and_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    """rich takes the streams over while a bar runs, and would obey what is printed then."""
    monkeypatch.setattr("smolpilot.common.progress._SHOW_AFTER_S", -1.0)
    monkeypatch.setattr("smolpilot.common.progress.SAY_AFTER_S", 0.0)
    with screens() as (out, err), guarded(), warnings.catch_warnings(), show_warnings():
        warnings.simplefilter("always")
        with progress_bar() as progress:
            progress("videos of [/red]\x1b]0;X\x07", 1, 2)
            print("note: \x1b]0;X\x07[/red]")
            warnings.warn("camera '\x1b[2J[/red]'", stacklevel=1)
        before, begin = sys.stdout, time.monotonic()
        with working("opening [/red]\x1b]0;X\x07"):
            # Its thread takes the streams over first, then it puts the guard before them.
            while sys.stdout is before or not isinstance(sys.stdout, Guarded):
                assert time.monotonic() - begin < 20
                time.sleep(0.01)
            print("in between \x1b[8m")
        bar = terminal.bar(terminal.Terminal(stderr=True))
        terminal.start(bar)
        bar.add_task("[/red]\x1b]0;X\x07")
        bar.stop()
        assert isinstance(sys.stdout, Guarded)  # no more than one guard is left
        assert unguarded(cast(TextIO, sys.stdout)) is out
    own = r"\x1b\[\?25[lh]|\x1b\[2K|\x1b\[1A|\r"
    for screen in (out, err):
        assert_inert(re.sub(own, "", screen.getvalue()), colors=True)
    said = out.getvalue() + err.getvalue()
    for text in (
        "note: \\x1b]0;X\\x07[/red]",
        "camera '\\x1b[2J[/red]'",
        "videos of [/red]\\x1b]0;X\\x07",
        "in between \\x1b[8m",
    ):
        assert text in said


def test_a_terminal_without_the_letters_gets_them_spelled(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bytes_out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(bytes_out, encoding="ascii", write_through=True))
    assert main(["dataset", "tasks", str(data)]) == 0
    assert main(["dataset", "tasks", str(data), "--json"]) == 0
    assert b"\\u7ea2\\u8272" in bytes_out.getvalue()


def test_pages_and_pictures(data: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """HTML, JSON for the page, and PNGs. `$` in a joint's name ended an evaluation after its last frame."""
    page, report, view = tmp_path / "check.html", tmp_path / "eval", tmp_path / "view"
    assert main(["dataset", "check", str(data), "--html", str(page), "--jobs", "1"]) in (0, 1)
    words = ["--episodes", "all", "--max-frames", "2"]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # none for a letter that the font lacks
        assert main(["eval", str(run), "--dataset", str(data), "--out", str(report), *words]) in (0, 1)
    said = capsys.readouterr()
    assert_inert(said.out)
    assert_inert(said.err)
    assert "_[/x]\\x1b[1A" in said.out
    assert main(["dataset", "view", str(data), "--out", str(view), "--no-check"]) == 0
    for text in (page.read_text(encoding="utf-8"), (report / "report.html").read_text(encoding="utf-8")):
        assert_inert(text)
        assert "<script>alert" not in text
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
        assert "=a|&lt;b&gt;\\x9b2J" in text or text.count("joint") < 5
    for script in (view / "data").glob("*.js"):
        assert_inert(script.read_text(encoding="utf-8"))
    index = (view / "data" / "index.js").read_text(encoding="utf-8")
    assert [joint["name"] for joint in json.loads(index[index.index("(") + 1 : index.rindex(")")])["joints"]] == JOINTS


def test_an_instruction_of_ten_million_letters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write(tmp_path / "data", task="y" * 10_000_000)
    for verb in (["info"], ["tasks"], ["check", "--jobs", "1", "--html", str(tmp_path / "page.html")]):
        assert main(["dataset", verb[0], str(data), *verb[1:]]) in (0, 1)
        out = capsys.readouterr().out
        assert len(out) < 100_000, verb
        assert "yyyyyy" in out or verb[0] == "check"
    assert main(["dataset", "view", str(data), "--out", str(tmp_path / "view"), "--no-check"]) == 0
    assert (tmp_path / "page.html").stat().st_size < 200_000
    assert (tmp_path / "view" / "data" / "index.js").stat().st_size < 100_000
    capsys.readouterr()
    assert main(["dataset", "tasks", str(data), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["instructions"][0]["text"]) == 10_000_000
