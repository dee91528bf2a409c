"""`dataset rename`: other names for features everywhere in the copy, and nothing else is different."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from smolpilot.cli.main import main
from smolpilot.datasets import open_dataset
from smolpilot.datasets.compare import compare

from .helpers_damage import change_info
from .helpers_recordings import tree_hash
from .helpers_strangers import added, recorded, renamed, write_sound

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")
OPENPI = {"observation.state": "state", "action": "actions", "observation.images.front": "image"}
BACK = ["state=observation.state", "actions=action", "image=observation.images.front"]


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_sound(tmp_path_factory.mktemp("ours"))


@pytest.fixture
def foreign(ours: dict[str, Path], tmp_path: Path) -> Path:
    root = Path(shutil.copytree(ours["v3"], tmp_path / "foreign"))
    renamed(OPENPI)(root)
    return root


def test_renamed_there_and_back_it_is_the_same(
    foreign: Path, ours: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tree_hash(foreign)
    assert main(["dataset", "rename", str(foreign), str(tmp_path / "dst"), "--feature", *BACK, "--jobs", "1"]) == 0
    assert "read back and equal to the source" in capsys.readouterr().out
    assert tree_hash(foreign) == before
    assert compare(ours["v3"], tmp_path / "dst").equal
    for episode, take in enumerate(recorded()):
        mine = open_dataset(tmp_path / "dst").select([episode])
        np.testing.assert_array_equal(mine.states, take.state)
        np.testing.assert_array_equal(mine.actions, take.action)
    assert main(["dataset", "check", str(tmp_path / "dst")]) == 0


def test_the_old_name_is_nowhere(ours: dict[str, Path], tmp_path: Path) -> None:
    pair = "observation.images.wrist=observation.images.hand"
    assert main(["dataset", "rename", str(ours["v21"]), str(tmp_path / "dst"), "--feature", pair]) == 0
    root = tmp_path / "dst"
    names = [path.relative_to(root).as_posix() for path in root.rglob("*")]
    assert not [name for name in names if "wrist" in name]
    assert "videos/chunk-000/observation.images.hand/episode_000003.mp4" in names
    for name in ("info.json", "episodes_stats.jsonl"):
        text = (root / "meta" / name).read_text()
        assert "wrist" not in text
        assert "observation.images.hand" in text
    history = json.loads((root / "meta" / "smolpilot_history.json").read_text())["edits"]
    assert history[-1]["features"] == {"observation.images.wrist": "observation.images.hand"}


def test_names_can_be_exchanged_and_cameras_named_shortly(ours: dict[str, Path], tmp_path: Path) -> None:
    pairs = ["front=observation.images.wrist", "wrist=observation.images.front"]
    assert main(["dataset", "rename", str(ours["v3"]), str(tmp_path / "dst"), "--feature", *pairs]) == 0
    picture = next(iter(open_dataset(tmp_path / "dst").decode_episode("front", 1)))
    assert np.abs(picture.astype(int) - recorded()[1].pictures["wrist"][0]).mean() < 6


def test_further_columns_and_what_others_wrote_about_them(
    foreign: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    added("reward", lambda n: [0.5] * n, {"dtype": "float64", "shape": [1], "names": None})(foreign)
    (foreign / "meta" / "modality.json").write_text('{"video": {"image": {"original_key": "image"}}}')
    change_info(foreign, note="mine")
    pairs = [*BACK, "reward=next.reward"]
    assert main(["dataset", "rename", str(foreign), str(tmp_path / "dst"), "--feature", *pairs]) == 0
    assert "meta/modality.json still names image" in capsys.readouterr().err
    assert set(pq.read_table(next((tmp_path / "dst").glob("data/*/*")))["next.reward"].to_pylist()) == {0.5}
    assert json.loads((tmp_path / "dst" / "meta" / "info.json").read_text())["note"] == "mine"
    assert (tmp_path / "dst" / "meta" / "modality.json").read_text() == (foreign / "meta" / "modality.json").read_text()


def test_instructions_can_still_be_undone(ours: dict[str, Path], tmp_path: Path) -> None:
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    assert main(["dataset", "tasks", str(ours["v3"]), str(one), "--rename", "0=other"]) == 0
    pair = "observation.images.wrist=observation.images.hand"
    assert main(["dataset", "rename", str(one), str(two), "--feature", pair]) == 0
    assert main(["dataset", "tasks", str(two), str(three), "--undo"]) == 0
    assert set(open_dataset(three).select([0]).instructions) == {recorded()[0].task}


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        (["stat=observation.state"], ["no feature 'stat'", "Did you mean 'state'?"]),
        (["state=actions"], ["Two features would be called 'actions'", "--feature actions=OTHER"]),
        (["state=observation.images.x"], ["expected: a camera"]),
        (["image=observation.state"], ["expected: a vector per frame"]),
        (["index=number"], ["LeRobot's own columns keep their names"]),
        (["state=timestamp"], ["LeRobot's own columns keep their names"]),
        (["state=a/b"], ["cannot be a feature's name"]),
        (["state=state"], ["would change"]),
        (["image=observation.images.wrist"], ["Two features would be called"]),
        (["image=wrist"], ["Two cameras would have the same name"]),
        ([], ["--feature OLD=NEW"]),
    ],
)
def test_names_that_cannot_be(
    pairs: list[str], words: list[str], foreign: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--feature", *pairs] if pairs else []
    assert main(["dataset", "rename", str(foreign), str(tmp_path / "dst"), *options]) == 2
    text = capsys.readouterr().err
    for word in words:
        assert word.lower() in text.lower()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["foreign"]
