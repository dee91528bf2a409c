"""`dataset check` on damaged recordings: each damage is named, with its episode, and none stops the check."""

from __future__ import annotations

from pathlib import Path

import pytest

from smolpilot.datasets.check import check_dataset

from .helpers_damage import DAMAGES, Damage, damaged
from .helpers_recordings import takes, write_v21


@pytest.mark.parametrize("layout", ["v3", "v21"])
def test_a_sound_recording_gives_no_error_and_no_warning(sound: dict[str, Path], layout: str) -> None:
    result = check_dataset(sound[layout])
    assert [f for f in result.findings if f.severity != "info"] == []
    assert result.facts()["decoded_frames"] == 2 * sum(len(take) for take in takes())


def test_a_sound_v20_recording_gives_no_error_and_no_warning(tmp_path: Path) -> None:
    result = check_dataset(write_v21(tmp_path / "v20", takes(), version="v2.0"))
    assert [f for f in result.findings if f.severity != "info"] == []
    assert result.dataset.version == "v2.0"


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.name)
def test_each_damage_is_found_where_it_is(damage: Damage, sound: dict[str, Path], tmp_path: Path) -> None:
    result = check_dataset(damaged(damage, sound, tmp_path / "broken"))
    assert [f.message for f in result.findings if f.code == "check-failed"] == []
    found = [f for f in result.findings if f.code == damage.code]
    assert found, sorted({f.code for f in result.findings})
    assert damage.episode in {f.episode for f in found}
    assert all(f.fix and f.message for f in result.findings)


def test_there_are_enough_kinds_of_damage() -> None:
    assert len({damage.name for damage in DAMAGES}) >= 60
    assert len({damage.code for damage in DAMAGES}) >= 40
