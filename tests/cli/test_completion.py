"""`smolpilot completion bash`, sourced by a real bash."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from smolpilot.cli.parsing.arguments import fields_of
from smolpilot.cli.parsing.completion import completion_script
from smolpilot.cli.parsing.verbs import VERBS, load
from smolpilot.robots import list_profiles


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
        ("robot ", ["list", "profile", "show"]),
        ("robot profile ", ["check"]),
        ("robot show so10", [name for name in list_profiles() if name.startswith("so10")]),
        ("train --train-expert", ["--train-expert-only"]),
        ("train --no-train", ["--no-train-expert-only"]),
        ("train --config run.yaml --pol", ["--policy", "--policy-stats-from"]),
        ("train --dtype b", ["bfloat16"]),
        ("eval policy --engine ", ["plain", "exact", "fast", "int8"]),
        ("rollout policy --n-act", ["--n-action-steps"]),
        ("dataset convert a b --to v2", ["v2.1"]),
        ("schema ", ["train", "stages", "profile"]),
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
    first, _, rest = completion_script("zsh").partition("\n")
    assert first == "autoload -U +X bashcompinit && bashcompinit"
    assert rest == completion_script("bash")
