"""Streams that are closed, and readers that went away: no traceback, and no file in a stream's place."""

from __future__ import annotations

import os
import subprocess
import sys

CODE = """
import os
from smolpilot.common.streams import open_closed_streams
open_closed_streams()
file = os.open("/dev/null", os.O_RDONLY)
import sys
print("lost"), print("lost", file=sys.stderr), sys.stdin.read()
os.write({told}, str(file).encode())
"""


def test_a_program_without_streams_opens_no_file_in_their_place() -> None:
    """Else what it prints would go into its log, or to the servos."""
    reading, told = os.pipe()
    closed = f"exec {sys.executable} -c '{CODE.format(told=told)}' <&- >&- 2>&-"
    done = subprocess.run(["sh", "-c", closed], pass_fds=(told,), check=False, timeout=60)
    os.close(told)
    with os.fdopen(reading) as answer:
        assert int(answer.read()) > 2
    assert done.returncode == 0


def test_a_reader_that_goes_away_is_no_error() -> None:
    """Also where rich prints: `smolpilot robot list | head -1`."""
    command = [sys.executable, "-m", "smolpilot", "robot", "list"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 0
