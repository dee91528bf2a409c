"""Episodes that do not begin with a key frame: copied with their neighbors, packet by packet, where these stay."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import ModuleType

import pytest

from smolpilot.cli.main import main
from smolpilot.datasets.check.scan import video_scans as footage_module
from smolpilot.datasets.compare import compare
from smolpilot.datasets.repair import RepairWishes, repair

from .helpers_damage import change_info
from .helpers_recordings import tree_hash
from .helpers_strangers import emptied, few_key_frames, write_sound

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Video files of three episodes and of one; only the first of each begins with a key frame."""
    root = write_sound(tmp_path_factory.mktemp("ours"))["v3"]
    few_key_frames(root)
    return root


def test_all_episodes_in_order_need_no_encoding(joined: Path, tmp_path: Path) -> None:
    for verb, options in (("convert", ["--to", "v3.0"]), ("tasks", ["--rename", "0=touch it"])):
        assert main(["dataset", verb, str(joined), str(tmp_path / verb), *options]) == 0
    assert compare(joined, tmp_path / "convert").equal


def test_a_whole_file_can_go_a_cut_needs_encoding(
    joined: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dataset", "exclude", str(joined), str(tmp_path / "end"), "--episodes", "3"]) == 0
    assert main(["dataset", "check", str(tmp_path / "end")]) == 0
    assert main(["dataset", "exclude", str(joined), str(tmp_path / "start"), "--episodes", "0"]) == 1
    assert "Run again with --reencode" in capsys.readouterr().err
    assert main(["dataset", "exclude", str(joined), str(tmp_path / "start"), "--episodes", "0", "--reencode"]) == 0
    # A file for each episode is a cut, too.
    assert main(["dataset", "convert", str(joined), str(tmp_path / "v21"), "--to", "v2.1"]) == 1


def test_repair_takes_reencode_where_a_cut_is_needed(
    joined: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(shutil.copytree(joined, tmp_path / "src"))
    emptied("action", 0, slice(3, 5))(root)
    assert main(["dataset", "repair", str(root), str(tmp_path / "dst")]) == 1
    assert "Run again with --reencode" in capsys.readouterr().err
    assert main(["dataset", "repair", str(root), str(tmp_path / "dst"), "--reencode"]) == 0
    assert "Encoded again:" in capsys.readouterr().out
    assert main(["dataset", "check", str(tmp_path / "dst")]) == 0


def test_jobs_change_nothing_and_each_video_is_decoded_once(
    joined: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(shutil.copytree(joined, tmp_path / "src"))
    change_info(root, total_frames=3)
    scanned: list[Path] = []
    module: ModuleType = footage_module
    if not hasattr(module, "scan_video"):
        from smolpilot.datasets.check.scan import scan_pool

        module = scan_pool
    scan_video = module.scan_video

    def counting(path: Path, **options: object) -> object:
        scanned.append(path)
        return scan_video(path, **options)

    monkeypatch.setattr(module, "scan_video", counting)
    for jobs in (1, 2):
        scanned.clear()
        assert repair(root, tmp_path / f"jobs{jobs}", RepairWishes(jobs=jobs)).complete
        assert sorted(scanned) == sorted(root.rglob("*.mp4"))
    assert tree_hash(tmp_path / "jobs1") == tree_hash(tmp_path / "jobs2")
