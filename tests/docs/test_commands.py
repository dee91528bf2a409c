"""Every `smolpilot ...` command and every Python example of README and docs is run here, small, or at least read."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from smolpilot.cli.main import main
from smolpilot.cli.parsing.verbs import GROUPS, VERBS

from .helpers_commands import COMMANDS, Read, Run, block, make_arm, make_place

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
# The log keeps what was typed at its time.
PAGES = [ROOT / "README.md", ROOT / "README.zh-CN.md", *(p for p in sorted(DOCS.glob("*.md")) if p.name != "log.md")]


def _checker() -> Any:
    spec = importlib.util.spec_from_file_location("check_docs", ROOT / "scripts" / "check_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def listed() -> list[str]:
    """All commands of the documents, each once, in their order."""
    found = [" ".join(command.split()) for page in PAGES for command in _checker().commands(page.read_text("utf-8"))]
    return list(dict.fromkeys(found))


def is_mention(command: str) -> bool:
    """A verb alone, which stands for itself in a sentence: its help is asked for."""
    return command in (*VERBS, *GROUPS)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with everything that the commands name, and the working directory while they run."""
    root = tmp_path_factory.mktemp("commands")
    make_place(root, DOCS)
    shutil.copy(_profile(root), root / "my_arm.yaml")
    with contextlib.chdir(root), make_arm(root), pytest.MonkeyPatch.context() as patch:
        patch.setenv("SMOLPILOT_CACHE", str(root / "cache"))
        yield root


def _profile(root: Path) -> Path:
    path = root / "profile.yaml"
    path.write_text(block(DOCS / "adding-a-robot.md", "yaml"))
    return path


def words_of(command: str, change: dict[str, str], more: str) -> list[str]:
    """The words of a command with all that is optional in it, and what stands for others here."""
    words = [word.strip("[]") for word in shlex.split(command)]
    # An option may get words before it; a value is one word, whatever is in it.
    changed = [change.get(word, word).split() if word.startswith("--") else [change.get(word, word)] for word in words]
    return [*(word for part in changed for word in part), *shlex.split(more)]


def outcome(words: list[str]) -> tuple[int, str]:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            code = main(words)
        except SystemExit as ended:
            code = int(ended.code or 0)
    return code, out.getvalue()


def only_read(words: list[str]) -> tuple[int, str]:
    """What the parser of the verb says; nothing is done."""

    class Done(Exception):  # noqa: N818
        pass

    from smolpilot.cli.parsing import options

    real = options.read  # type: ignore[attr-defined]

    def stop(*args: Any, **more: Any) -> Any:
        raise Done(real(*args, **more))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(options, "read", stop)
        try:
            return outcome(words)
        except Done:
            return 0, ""


def test_every_command_is_known_here() -> None:
    """A new command of the documents says in `COMMANDS` how it is run."""
    found = {command for command in listed() if not is_mention(command) or command in COMMANDS}
    assert found - set(COMMANDS) == set()
    assert set(COMMANDS) - found == set(), "not in the documents any more"


def test_mentions_of_a_verb_have_a_help() -> None:
    for command in filter(is_mention, listed()):
        code, said = outcome([*command.split(), "--help"])
        assert code == 0, command
        assert "usage:" in said.lower(), command


def test_every_command_of_the_documents_runs(place: Path) -> None:
    """One after the other, as a reader would: later ones use what earlier ones have made."""
    failed = []
    for command in listed():
        how = COMMANDS.get(command)
        if how is None:
            continue
        words = words_of(command, how.change, how.more if isinstance(how, Run) else "")
        if isinstance(how, Read):
            code, said, wanted = *only_read(words), 0
        else:
            for name in how.fresh:
                shutil.rmtree(place / name, ignore_errors=True)
            code, said, wanted = *outcome(words), how.code
        if code != wanted:
            failed.append(f"smolpilot {shlex.join(words)}: {code}\n{said[-800:]}")
    assert not failed, "\n\n".join(failed)
    assert (place / "runs" / "first" / "eval" / "report.html").is_file()
    assert (place / "runs" / "sequence" / "report.md").is_file()
    assert (place / "runs" / "joint" / "checkpoints" / "last").exists()


def test_what_is_only_read_is_really_read(place: Path) -> None:
    assert only_read(["eval", "BUNDLE", "--dataset", "DATA", "--out", "never"]) == (0, "")
    code, said = only_read(["eval", "BUNDLE", "--dataset", "DATA", "--out", "never", "--engine", "fsat"])
    assert code == 2
    assert "fast" in said
    assert not (place / "never").exists()


def test_the_python_examples_run(place: Path, tmp_path: Path) -> None:
    """One after the other, each page's with the names that its text speaks of."""
    known: dict[str, Any] = {}
    policy = place / "runs" / "first"
    if not policy.exists():  # this test alone
        shutil.copytree(place / "BUNDLE", policy / "checkpoints" / "best")
    with contextlib.redirect_stdout(io.StringIO()) as out:
        for number in range(4):
            exec(block(ROOT / "README.md", "python", number), known)
        assert known["chunks"].shape == (1, *known["chunk"].shape)
        assert known["chunk"].shape[1] == known["action"].shape[0] == 26
        frame = known["frame"]
        images = {key.rpartition(".")[2]: value for key, value in frame.items() if "images" in key}
        for number in range(3):
            exec(block(DOCS / "inference.md", "python", number), known)
            known |= {"images": images, "state": frame["observation.state"], "frames": [frame, frame, frame]}
            known |= {"last": known["chunk"], "executed": 2}
    assert known["chunks"].shape[0] == 3
    assert "parameters" in out.getvalue()
    exec(block(DOCS / "arms.md", "python"), {})
    # The one example that is LeRobot's: tests/oracle/test_checkpoints_oracle.py runs it.
    assert block(DOCS / "bundle-format.md", "python").startswith("from lerobot.")
    blocks = sum(len(re.findall(r"^```python$", page.read_text("utf-8"), re.MULTILINE)) for page in PAGES)
    assert blocks == 4 + 4 + 3 + 1 + 1, "an example that nothing runs: add it here"
