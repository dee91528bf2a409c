"""What verbs advise on a recording, and the commands in that advice, ready to be run."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path

from smolpilot.cli.main import main

_END = re.compile(r"`|;|\n|\. |, |$| names | without | where | makes | puts | leaves | puts | for each ")
_PLACEHOLDERS = {"INDEX=new text": "0=a new text", "KEY": "note"}


def said(args: list[str]) -> tuple[int, str, str]:
    """Exit code and what a command prints to both of its streams; a traceback is a failure."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(args)
        except SystemExit as leaving:
            code = int(leaving.code or 0)
    return code, out.getvalue(), err.getvalue()


def advice_of(text: str) -> list[str]:
    """The `Fix:` sentences of an error, with the lines that go on."""
    return [" ".join(part.split()) for part in re.findall(r"Fix: (.*(?:\n {4,}.*)*)", text)]


def commands_of(advice: str) -> list[str]:
    """The `smolpilot …` commands in a sentence, without the words that follow."""
    found = []
    for match in re.finditer(r"smolpilot ", advice):
        rest = advice[match.end() :]
        end = _END.search(rest)
        found.append(rest[: end.start()].strip() if end else rest)
    return [command for command in found if command]


def runnable(command: str, source: Path, target: Path) -> list[str]:
    """The words of a command, with folders and values for its placeholders."""
    words = []
    for word in shlex.split(command):
        word = {"DST": str(target), "SRC": str(source), "PATH": str(source), "N": "0"}.get(word, word)
        words.append(_PLACEHOLDERS.get(word, word))
    return words
