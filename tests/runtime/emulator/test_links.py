"""Links to an emulated arm take nothing from anybody: no file, no link of a user's, none of another arm that runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from smolpilot.common.errors import UsageError
from smolpilot.runtime.emulator.links import CALIBRATION, FRAMES, PORT, linked, refuse_taken, running


@pytest.fixture
def arm(tmp_path: Path) -> Path:
    """The folder of an arm, whose port is there, as that of a killed one may be by chance."""
    folder = tmp_path / "emulator"
    (folder / FRAMES).mkdir(parents=True)
    (folder / CALIBRATION).write_text("{}")
    (folder / PORT).symlink_to("/dev/null")
    return folder


def test_a_link_is_there_as_long_as_it_is_needed(tmp_path: Path, arm: Path) -> None:
    link = tmp_path / "a port"
    with linked(link, arm / PORT):
        assert link.readlink() == arm / PORT
    assert not link.is_symlink()


def test_the_link_of_an_arm_that_runs_stays(tmp_path: Path, arm: Path) -> None:
    link = tmp_path / "arm"
    link.symlink_to(arm / PORT)
    with running(arm), pytest.raises(UsageError, match="An emulated arm that runs has"), linked(link, arm / "other"):
        pass
    assert link.readlink() == arm / PORT


def test_the_link_of_a_killed_arm_is_replaced(tmp_path: Path, arm: Path) -> None:
    for name in (PORT, CALIBRATION):
        (tmp_path / name).symlink_to(arm / name)
        with linked(tmp_path / name, Path("/elsewhere")):
            assert (tmp_path / name).readlink() == Path("/elsewhere")
    (tmp_path / "dead").symlink_to(tmp_path / "gone")
    with linked(tmp_path / "dead", arm / PORT):
        assert (tmp_path / "dead").readlink() == arm / PORT


def test_what_another_has_put_there_meanwhile_stays(tmp_path: Path, arm: Path) -> None:
    link = tmp_path / "arm"
    with linked(link, arm / PORT):
        link.unlink()
        link.symlink_to("/elsewhere")
    assert link.readlink() == Path("/elsewhere")


def test_a_link_of_the_users_stays(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    (tmp_path / "arm").symlink_to(tmp_path / "notes")
    with pytest.raises(UsageError, match=r"is a link to .*notes"):
        refuse_taken(tmp_path / "arm")
    assert (tmp_path / "arm").read_text() == "mine"


def test_a_folder_that_is_not_there_is_named(tmp_path: Path, arm: Path) -> None:
    with pytest.raises(UsageError, match=r"The folder .*nowhere does not exist"), linked(tmp_path / "nowhere/arm", arm):
        pass
    with pytest.raises(UsageError, match=r"cannot be made \("), linked(Path("/proc/arm"), arm):
        pass
