"""What verbs advise is run, on the recording that they advise it for: every command exits with 0.

A sample of damages, one for each kind of advice; the commands of all texts in the code are in test_advice_words.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from .helpers_advice import advice_of, commands_of, runnable, said
from .helpers_damage import change_lines, change_table, cut, instruction, not_a_number, table_v3, table_v21, video_v21
from .helpers_recordings import write_v21
from .helpers_strangers import recorded, unplaced, without_videos, write_sound

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")


def unreadable_number(root: Path) -> None:
    change_table(table_v3(root), not_a_number)


def empty_text(root: Path) -> None:
    change_lines(root, "tasks.jsonl", lambda rows: rows[1].update(task=""))
    change_lines(root, "episodes.jsonl", lambda rows: [row.update(tasks=[""]) for row in rows[1::2]] and None)


# (layout, what is done to it, how many commands are advised at least)
SAMPLE: dict[str, tuple[str, Callable[[Path], object], int]] = {
    "torn table": ("v21", lambda root: cut(table_v21(root, 2), 0.6), 1),
    "missing video": ("v21", lambda root: video_v21(root, 1).unlink(), 1),
    "camera that most episodes lack": ("v21", without_videos("wrist", range(3)), 1),
    "NaN": ("v3", unreadable_number, 1),
    "place of an episode": ("v3", unplaced("wrist", *range(4)), 1),
    "empty instruction": ("v21", empty_text, 1),
}


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_sound(tmp_path_factory.mktemp("ours"))


def advised(source: Path, work: Path) -> list[str]:
    """The commands that check and the verbs that refuse propose, each once."""
    _, document, _ = said(["dataset", "check", str(source), "--json"])
    texts = [found["fix"] for found in json.loads(document)["findings"] if found["severity"] != "info"]
    for verb in (["info", str(source)], ["stats", str(source)], ["convert", str(source), str(work / "converted")]):
        _, _, errors = said(["dataset", *verb])
        texts += advice_of(errors)
    commands = dict.fromkeys(command for text in texts for command in commands_of(text))
    return [command for command in commands if not command.startswith("dataset view")]


@pytest.mark.parametrize("name", SAMPLE)
def test_advice_can_be_followed(name: str, ours: dict[str, Path], tmp_path: Path) -> None:
    layout, spoil, least = SAMPLE[name]
    source = Path(shutil.copytree(ours[layout], tmp_path / "src"))
    spoil(source)
    assert len(advised(source, tmp_path)) >= least
    assert failing(source, tmp_path) == {}


def test_advice_on_instructions_can_be_followed(tmp_path: Path) -> None:
    made = recorded()
    instruction("test")(made)
    source = write_v21(tmp_path / "src", made)
    assert len(advised(source, tmp_path)) >= 1
    assert failing(source, tmp_path) == {}


def failing(source: Path, work: Path) -> dict[str, str]:
    """What each advised command that fails says; a check that is proposed should find what it is proposed for."""
    failed: dict[str, str] = {}
    verbs: dict[str, str] = {}

    for command in advised(source, work):
        # One of each kind: to leave out episode 3 is no other advice than to leave out episode 4.
        verbs.setdefault(" ".join(word for word in command.split()[:2]), command)
    for number, command in enumerate(verbs.values()):
        words = runnable(command, source, work / f"followed{number}")
        code, out, errors = said(words)
        expected = 1 if words[:2] == ["dataset", "check"] else 0
        asked = "set it with" in out
        if code != expected and not (code == 1 and asked):
            failed[command] = errors or out
    return failed
