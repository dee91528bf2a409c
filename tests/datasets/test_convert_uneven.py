"""Conversion of videos whose frames come unevenly, and of edits that would give an index two texts."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest

from smolpilot.cli.main import main
from smolpilot.common.errors import DatasetError, UsageError
from smolpilot.datasets import read_meta
from smolpilot.datasets.compare import compare
from smolpilot.datasets.convert import convert
from smolpilot.datasets.copy import CopyOptions, EpisodePlan, copy_episodes

from .helpers_damage import change_table, rows_of, table_v3, table_v21, video_v21
from .helpers_recordings import FPS, LENGTHS

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")

V21 = CopyOptions(version="v2.1")


def late(episode: int) -> npt.NDArray[Any]:
    """When the frames of an episode come: some of them 30 ms late, each episode from another frame on."""
    frames = np.arange(LENGTHS[episode])
    return frames / FPS + np.where(frames > 8 + episode, 0.03, 0.0)


@pytest.fixture(scope="module")
def uneven(sound: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A v2.1 recording in which every frame of episodes 1 and 2 has the time stamp of its row, on no grid."""
    root = Path(shutil.copytree(sound["v21"], tmp_path_factory.mktemp("uneven") / "v21"))
    for episode in (1, 2):
        times = late(episode)
        for camera in ("front", "wrist"):
            path = video_v21(root, episode, camera)
            moved = path.with_suffix(".moved.mp4")
            with av.open(str(path)) as source, av.open(str(moved), "w") as target:
                stream = target.add_stream_from_template(source.streams.video[0])
                packets = [packet for packet in source.demux(source.streams.video[0]) if packet.dts is not None]
                for packet, time in zip(packets, times, strict=True):
                    packet.pts = packet.dts = round(time / packet.time_base)
                    packet.stream = stream
                    target.mux(packet)
            moved.replace(path)
        change_table(table_v21(root, episode), partial(dict.update, timestamp=times.tolist()))
    (root / "meta" / "episodes_stats.jsonl").unlink()  # those of other time stamps
    return root


def shifted(columns: dict[str, list[float]], row: int, by: float) -> None:
    columns["timestamp"][row] += by


def test_rows_that_follow_uneven_videos_are_converted(uneven: Path, tmp_path: Path) -> None:
    report = convert(uneven, tmp_path / "v3")
    assert report.off_video < 1e-4
    assert compare(uneven, tmp_path / "v3").equal
    # Back: now several clips lie in one file, each with a place and a time of its own.
    back = convert(tmp_path / "v3", tmp_path / "v21", V21)
    assert back.off_video < 1e-4
    assert compare(uneven, tmp_path / "v21").equal


@pytest.mark.parametrize("episode", [1, 2])
@pytest.mark.parametrize(("by", "refused"), [(0.035, False), (-0.045, True), (0.045, True)])
def test_a_row_that_does_not_fit_its_uneven_video(
    uneven: Path, tmp_path: Path, episode: int, by: float, refused: bool
) -> None:
    """Up to 40 ms at 10 frames per second, four tenths of a frame, still show the frame that is meant."""
    root = Path(shutil.copytree(uneven, tmp_path / "src"))
    change_table(table_v21(root, episode), lambda columns: shifted(columns, 15, by))
    if not refused:
        assert convert(root, tmp_path / "dst").off_video == pytest.approx(abs(by), abs=1e-4)
        return
    words = rf"time stamps of episode {episode} do not fit .* at frame 15 they are 0\.045 s apart"
    with pytest.raises(DatasetError, match=words):
        convert(root, tmp_path / "dst")
    kept = convert(root, tmp_path / "dst", CopyOptions(misaligned=True))
    assert kept.off_video == pytest.approx(0.045, abs=1e-4)


def test_the_same_of_an_even_video_and_inside_a_larger_file(sound: dict[str, Path], tmp_path: Path) -> None:
    for by, refused in ((0.035, False), (0.045, True)):
        root = Path(shutil.copytree(sound["v3"], tmp_path / f"{by}"))
        change_table(table_v3(root), lambda columns, by=by: shifted(columns, rows_of(columns, 4)[7], by))  # type: ignore[misc]
        if refused:
            with pytest.raises(DatasetError, match=r"of episode 4 do not fit .* at frame 7 they are 0\.045 s apart"):
                convert(root, tmp_path / f"{by}-dst", V21)
        else:
            assert convert(root, tmp_path / f"{by}-dst", V21).off_video == pytest.approx(by, abs=1e-4)


# -- one text per index ------------------------------------------------------------------------------------------------


def test_an_index_never_gets_two_texts(tiny_dataset: Path, tmp_path: Path) -> None:
    """Episodes that share an instruction, of which one is renamed while the indices stay."""
    meta = read_meta(tiny_dataset)
    plans = [EpisodePlan(meta, 0), EpisodePlan(meta, 2, tasks={0: "wave"}), EpisodePlan(meta, 4)]
    with pytest.raises(UsageError, match="Task 0 would have two texts: 'touch the red block' and 'wave'"):
        copy_episodes(plans, tmp_path / "out")
    two = [EpisodePlan(meta, 0, tasks={0: "wave"}), EpisodePlan(meta, 2, tasks={0: "jump"})]
    with pytest.raises(UsageError, match="Task 0 would have two texts: 'wave' and 'jump'"):
        copy_episodes(two, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    # Renumbered, or all of them alike, there is one text for each index.
    copy_episodes(plans, tmp_path / "anew", renumber=True)
    assert [one.tasks for one in read_meta(tmp_path / "anew").episodes] == [
        ["touch the red block"], ["wave"], ["touch the red block"],
    ]  # fmt: skip
    copy_episodes([EpisodePlan(meta, index, tasks={0: "wave"}) for index in (0, 2)], tmp_path / "alike")
    assert read_meta(tmp_path / "alike").tasks[0] == "wave"


def test_an_episode_is_not_written_twice_under_one_number(tiny_dataset: Path, tmp_path: Path) -> None:
    meta = read_meta(tiny_dataset)
    with pytest.raises(UsageError, match="Two episodes have the same index"):
        copy_episodes([EpisodePlan(meta, 0), EpisodePlan(meta, 1), EpisodePlan(meta, 1)], tmp_path / "out")
    with pytest.raises(UsageError, match="No episodes are left to write"):
        copy_episodes([], tmp_path / "out")


# -- what the system refuses -------------------------------------------------------------------------------------------


def test_two_commands_do_not_write_the_same_result(
    tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from smolpilot.datasets.copy.work import locked

    with locked(tmp_path / "out"):
        assert main(["dataset", "convert", str(tiny_dataset), str(tmp_path / "out")]) == 2
        said = capsys.readouterr().err
        assert f"Another smolpilot is writing {tmp_path / 'out'} at this moment" in said
    assert main(["dataset", "convert", str(tiny_dataset), str(tmp_path / "out")]) == 0


def test_a_result_under_a_file_is_refused(
    tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    assert main(["dataset", "convert", str(tiny_dataset), str(tmp_path / "file" / "out")]) == 2
    assert str(tmp_path / "file") in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"
