from __future__ import annotations

import io

from smolpilot.common.progress import track
from smolpilot.training.run.run_progress import RunProgress

VALUES = {"loss": 0.5, "lr": 1e-3, "samples_per_s": 812.0, "data_wait": 0.021, "memory_gb": 0.6}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_without_a_terminal_there_are_plain_lines_for_the_first_and_last_step() -> None:
    stream = io.StringIO()
    progress = RunProgress(100, stream=stream)
    for step in (10, 20, 100):
        progress.update(step, VALUES)
    progress.note("held-out error 0.1")
    progress.close()
    lines = stream.getvalue().splitlines()
    assert [line.split()[1] for line in lines[:2]] == ["10/100", "100/100"]
    for word in ("loss 0.5000", "lr 1.0e-03", "812 samples/s", "data 2%", "0.6 GB", "left 0:0"):
        assert word in lines[0]
    assert lines[2] == "held-out error 0.1"
    assert "\x1b" not in stream.getvalue()


def test_on_a_terminal_the_live_line_shows_the_same() -> None:
    stream = Terminal()
    progress = RunProgress(100, start=50, stream=stream)
    progress.update(60, VALUES)
    progress.close()
    assert "60/100" in stream.getvalue()
    assert "812 samples/s" in stream.getvalue().replace("\n", " ")


def test_track_passes_every_item_and_is_silent_when_quick() -> None:
    stream = io.StringIO()
    assert list(track(iter(range(5)), 5, "decoding", stream=stream)) == list(range(5))
    assert stream.getvalue() == ""
