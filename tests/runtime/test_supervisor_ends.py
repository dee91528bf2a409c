"""The parent of a control process, with drives that end in every way."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest

_SCRIPT = """
import os, signal, sys
signal.signal(signal.SIGQUIT, signal.SIG_DFL)  # ignored under a shell in the background
from smolpilot.runtime.supervisor import supervised
for drive in sys.argv[1:]:
    code = supervised(lambda: eval(drive))
    print("then", os.getppid(), code, file=sys.stderr)
"""


def ends(drives: Sequence[str], **options: Any) -> list[str]:
    """What is said on standard error by a program that runs drives, expressions, one after the other.

    After each one it says who its parent is, and the code: two parents are two processes that go on.
    """
    ended = subprocess.run(
        [sys.executable, "-c", _SCRIPT, *drives],
        stderr=subprocess.PIPE, text=True, timeout=60, check=False, env=os.environ | {"PYTHONUNBUFFERED": ""},
        **options,
    )  # fmt: skip
    return ended.stderr.splitlines()


def test_a_drive_ends_as_it_ends_and_only_the_parent_goes_on() -> None:
    drives = ["3", "sys.exit(4)", "sys.exit('text')", "os.kill(os.getpid(), 9)", "os.kill(os.getpid(), 3)", "1 / 0"]
    said = ends(drives)
    own = os.getpid()
    codes = [line for line in said if line.startswith("then")]
    assert codes == [f"then {own} {code}" for code in (3, 4, 1, 1, 1, 1)]
    killed = [line for line in said if line.startswith("error")]
    assert "was killed by SIGKILL (by hand" in killed[0]
    assert "was killed by SIGQUIT" in killed[1]
    assert "ZeroDivisionError: division by zero" in said


@pytest.mark.parametrize("closed", [False, True])
def test_output_that_nobody_takes_does_not_let_the_control_process_go_on(closed: bool) -> None:
    """What is printed is still in a buffer when the control process ends, and its pipe has no reader any more."""
    reader, writer = os.pipe()
    os.close(reader)
    options: dict[str, Any] = {"preexec_fn": lambda: os.close(1)} if closed else {"stdout": writer}
    said = ends(["(print('x'), 3)[1]"], **options)
    os.close(writer)
    assert said == [f"then {os.getpid()} 3"]
