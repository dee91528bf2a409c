"""A checkpoint's tokenizer folder takes no other files along: they would be copied into every bundle and export."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from smolpilot.common.errors import CheckpointError
from smolpilot.smolvla import PolicyTokenizer
from smolpilot.smolvla.config.presets import preset
from smolpilot.smolvla.transforms.byte_tokenizer import byte_level_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`vlm` of a checkpoint, beside a secret of the user's."""
    (tmp_path / "secret").write_text("TOKEN=hf_secret")
    path = tmp_path / "checkpoint" / "vlm"
    path.parent.mkdir()
    byte_level_folder(preset("tiny").vlm).write(path)
    return path


@pytest.mark.parametrize("name", ["merges.txt", "chat_template.jinja", "generation_config.json"])
def test_links_out_of_the_checkpoint_are_refused(folder: Path, name: str) -> None:
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to("../../secret")
    with pytest.raises(CheckpointError, match=r"is a link to .*secret, out of the folder") as error:
        PolicyTokenizer.from_folder(folder)
    assert "cp -rL" in error.value.fix
    (folder / name).unlink()
    (folder / name).symlink_to("/proc/self/environ")
    with pytest.raises(CheckpointError, match="/environ, out of the folder"):
        PolicyTokenizer.from_folder(folder)


def test_a_folder_that_is_a_link_out_of_the_checkpoint_is_refused(folder: Path, tmp_path: Path) -> None:
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="out of the folder"):
        PolicyTokenizer.from_folder(folder)
    # Named by the user, it is what they mean.
    (tmp_path / "given").symlink_to(tmp_path / "elsewhere")
    assert PolicyTokenizer.from_folder(tmp_path / "given").folder.has_tokenizer


def test_links_within_a_checkpoint_and_into_the_hubs_blobs_are_its_own(folder: Path, tmp_path: Path) -> None:
    before = PolicyTokenizer.from_folder(folder).folder.files
    (folder / "tokenizer.json").rename(folder.parent / "tokenizer.json")
    (folder / "tokenizer.json").symlink_to("../tokenizer.json")
    assert PolicyTokenizer.from_folder(folder).folder.files == before
    snapshot, blobs = tmp_path / "models--a--b" / "snapshots" / "1", tmp_path / "models--a--b" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, name in enumerate(before):
        (blobs / str(number)).write_bytes(before[name])
        (snapshot / name).symlink_to(os.path.relpath(blobs / str(number), snapshot))
    assert PolicyTokenizer.from_folder(snapshot).folder.files == before
