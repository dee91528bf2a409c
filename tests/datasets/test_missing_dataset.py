"""A dataset path that does not exist: hub ids, addresses of the hub, LeRobot's cache, typing mistakes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from smolpilot.cli.main import main
from smolpilot.common.errors import UsageError
from smolpilot.datasets import open_dataset

FETCH = "hf download lerobot/pusht --repo-type dataset --local-dir pusht"


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HOME", "HF_HUB_CACHE", "HF_LEROBOT_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.mark.parametrize(
    "args",
    [
        ["dataset", "info", "lerobot/pusht"],
        ["dataset", "check", "lerobot/pusht"],
        ["dataset", "convert", "lerobot/pusht", "out", "--to", "v2.1"],
        ["preflight", "--dataset", "lerobot/pusht"],
        ["train", "--dataset", "lerobot/pusht", "--preset", "tiny", "--from-scratch", "--steps", "1", "--out", "run"],
        ["dataset", "info", "https://huggingface.co/datasets/lerobot/pusht"],
        ["dataset", "info", "hf://datasets/lerobot/pusht"],
    ],
)
def test_a_hub_id_is_answered_with_the_command_that_fetches_it(
    args: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(args)
    captured = capsys.readouterr()
    said = captured.out + captured.err
    assert FETCH in " ".join(said.split()) or args[0] == "preflight"
    assert code == (1 if args[0] == "preflight" else 2)
    assert "pusht" in said
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("place", ["huggingface/lerobot/me/pick", "huggingface/hub/datasets--me--pick/snapshots/abc"])
def test_what_a_cache_holds_is_named(tiny_dataset: Path, tmp_path: Path, place: str) -> None:
    held = tmp_path / "cache" / place
    shutil.copytree(tiny_dataset, held)
    with pytest.raises(UsageError) as caught:
        open_dataset("me/pick")
    assert str(held) in caught.value.fix
    assert len(open_dataset(held).episodes) == 6
    assert "hf download" not in str(caught.value)


def test_a_mistyped_folder_does_not_exist_and_is_taken_for_no_hub_name(tiny_dataset: Path) -> None:
    shutil.copytree(tiny_dataset, Path("data/rec"))
    with pytest.raises(UsageError, match="does not exist") as caught:
        open_dataset("data/reg")
    assert "Did you mean 'data/rec'?" in caught.value.fix
    with pytest.raises(UsageError, match="does not exist") as caught:
        open_dataset("/no/such/place")
    assert "hf download" not in str(caught.value)
