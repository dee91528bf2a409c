"""`smolpilot completion bash`, sourced by a real bash."""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from smolpilot.cli.parsing.arguments import fields_of
from smolpilot.cli.parsing.completion import completion_script
from smolpilot.cli.parsing.verbs import VERBS, load
from smolpilot.robots import list_profiles
from smolpilot.runtime.setup.robot_setup import list_setups


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "smolpilot"
    path.write_text(completion_script("bash"), encoding="utf-8")
    return path


def completed(script: Path, typed: str) -> list[str]:
    """What bash offers after the typed words; a space at the end begins a new one."""
    words = ["smolpilot", *typed.split(" ")]
    program = (
        f"source {script}\nCOMP_WORDS=({shlex.join(words)})\nCOMP_CWORD={len(words) - 1}\n_smolpilot\n"
        "printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    done = subprocess.run(["bash", "--norc", "-uc", program], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("", sorted({name.split()[0] for name in VERBS})),
        ("tr", ["train"]),
        ("dataset co", ["compare", "convert"]),
        ("robot ", sorted({name.split()[1] for name in VERBS if name.startswith("robot ")})),
        ("robot profile ", ["check"]),
        ("robot show so10", sorted(n for n in [*list_profiles(), *list_setups()] if n.startswith("so10"))),
        ("train --train-expert", ["--train-expert-only"]),
        ("train --no-train", ["--no-train-expert-only"]),
        ("train --config run.yaml --pol", ["--policy", "--policy-stats-from"]),
        ("train --dtype b", ["bfloat16"]),
        ("eval policy --engine ", ["plain", "exact", "fast", "int8"]),
        ("rollout policy --n-act", ["--n-action-steps"]),
        ("dataset convert a b --to v2", ["v2.1"]),
        ("schema ", ["train", "stages", "profile", "setup"]),
        ("completion ", ["bash", "zsh"]),
        ("dataset info ", []),
        ("train --dataset ", []),
        ("no-such-verb", []),
    ],
)
def test_bash_completes(script: Path, typed: str, offered: list[str]) -> None:
    assert completed(script, typed) == offered


@pytest.mark.parametrize("name", VERBS)
def test_every_option_is_offered(script: Path, name: str) -> None:
    offered = completed(script, f"{name} --")
    fields = fields_of(load(name).options).values()
    assert {field.option for field in fields if not field.positional} <= set(offered)


def test_bash_takes_it_for_the_command(script: Path) -> None:
    program = f"source {script}; complete -p smolpilot"
    done = subprocess.run(["bash", "--norc", "-c", program], capture_output=True, text=True, check=True)
    assert "-F _smolpilot smolpilot" in done.stdout


def test_zsh_gets_the_same_script_by_its_bashcompinit() -> None:
    before, started, rest = completion_script("zsh").partition("autoload -U +X bashcompinit && bashcompinit\n")
    assert started
    assert "compinit" in before  # a new .zshrc has not started zsh's own
    assert rest == completion_script("bash")


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not here")
@pytest.mark.parametrize(
    ("typed", "offered"),
    [("smolpilot datas", "smolpilot dataset"), ("smolpilot dataset conv", "smolpilot dataset convert"),
     ("smolpilot train --no-tr", "smolpilot train --no-train-expert-only")],
)  # fmt: skip
def test_zsh_completes_at_a_prompt(typed: str, offered: str, tmp_path: Path) -> None:
    """A shell without any settings, which has not started its own completion yet."""
    (tmp_path / "script").write_text(completion_script("zsh"), encoding="utf-8")
    shell, screen = pty.fork()
    if shell == 0:
        os.environ.update(TERM="dumb", HOME=str(tmp_path), ZDOTDIR=str(tmp_path))
        os.execvp("zsh", ["zsh", "-f", "-i"])
    try:
        os.write(screen, f"source {tmp_path}/script; echo re''ady\n".encode())
        assert "ready" in _shown(screen, "ready")
        os.write(screen, f"{typed}\t".encode())
        assert offered in _shown(screen, offered)
    finally:
        os.kill(shell, signal.SIGKILL)
        os.waitpid(shell, 0)
        os.close(screen)


def _shown(screen: int, wanted: str) -> str:
    """What a terminal shows, without its control sequences, until it holds `wanted`; at most 20 s of it."""
    text, until = "", time.monotonic() + 20
    while wanted not in text and time.monotonic() < until:
        if select.select([screen], [], [], 0.2)[0]:
            text += os.read(screen, 65_536).decode(errors="replace")
            text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]", "", text)
            while "\b" in text:  # the line is drawn again from its beginning
                text = re.sub(r".?\x08", "", text, count=1)
    return text
