"""`dataset check`: what it prints, its exit codes, the page, and checks whose measure matters."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from smolpilot.cli.main import main
from smolpilot.datasets.check import check_dataset
from smolpilot.datasets.check.checks.check_instructions import estimate_tokens
from smolpilot.datasets.tolerant.rules import GROUPS, RULES
from smolpilot.robots import RobotProfile

from .helpers_damage import (
    change_features,
    change_info,
    change_lines,
    change_table,
    cut,
    table_v21,
    video_v21,
    waiting,
    wall_clock,
)
from .helpers_recordings import FPS, JOINTS, Take, takes, write_v3, write_v21, write_video

DOCS = Path(__file__).parents[2] / "docs" / "dataset-checks.md"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_v21(tmp_path_factory.mktemp("sound") / "v21", takes())


@pytest.fixture
def copy(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "copy"))


def codes(root: Path, **options: Any) -> dict[str, list[int | None]]:
    found: dict[str, list[int | None]] = {}
    for one in check_dataset(root, **options).findings:
        found.setdefault(one.code, []).append(one.episode)
    return found


def rename(root: Path, first: str, second: str) -> None:
    """Other instructions in the task list of a v2.1 folder."""

    def change(rows: list[dict[str, object]]) -> None:
        for row, text in zip(rows, (first, second), strict=True):
            row["task"] = text

    change_lines(root, "tasks.jsonl", change)


def profile(limits: tuple[float, float] | None = (-2.0, 2.0), speed: float | None = None) -> RobotProfile:
    joints: list[dict[str, Any]] = [
        {"name": name, "unit": "rad", "position_limits": limits, "velocity_limit": speed, "aliases": []}
        for name in JOINTS
    ]
    return RobotProfile.model_validate(
        {"name": "toy", "description": "", "rate": 10.0, "joints": joints, "gripper": ["gripper"]}
    )


def test_a_sound_recording_exits_0_also_when_strict(sound: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dataset", "check", str(sound)]) == 0
    assert "Sound: 0 errors, 0 warnings" in capsys.readouterr().out
    assert main(["dataset", "check", str(sound), "--strict"]) == 0


def test_errors_exit_1_and_name_episode_frame_and_command(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change_table(table_v21(copy, 3), lambda columns: columns["observation.state"][4].__setitem__(1, float("nan")))
    assert main(["dataset", "check", str(copy)]) == 1
    text = capsys.readouterr().out
    assert "error not-finite (states and actions): episode 3" in text
    assert "'observation.state' is nan at frame 4 of episode 3, joint 'lift'" in text
    assert f"smolpilot dataset exclude {copy} DST --episodes 3" in text
    assert "Not sound:" in text


def test_warnings_count_only_when_strict(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = takes()[2].pictures["front"]
    write_video(video_v21(copy, 2), np.concatenate([pictures, pictures[:3]]))
    assert main(["dataset", "check", str(copy)]) == 0
    assert main(["dataset", "check", str(copy), "--strict"]) == 1
    assert "video-long" in capsys.readouterr().out


def test_json_is_one_document(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cut(video_v21(copy, 4), 0.5)
    assert main(["dataset", "check", str(copy), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["failed"]
    assert document["counts"]["error"] >= 1
    torn = next(found for found in document["findings"] if found["code"] == "video-torn")
    assert (torn["episode"], torn["camera"], torn["severity"], torn["group"]) == (4, "front", "error", "video")


def test_many_episodes_are_one_line_and_one_command(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for episode in (1, 2, 3, 5):
        change_table(table_v21(copy, episode), lambda columns: wall_clock(columns, list(range(len(columns["index"])))))
    main(["dataset", "check", str(copy)])
    text = capsys.readouterr().out
    assert "timestamp-off-grid (time stamps): episodes 1-3, 5" in text
    assert text.count("timestamp-off-grid") == 1


@pytest.mark.parametrize("arguments", [["nowhere"], [".", "--robot", "no_such_robot"], [".", "--html", "."]])
def test_misuse_exits_2(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert main(["dataset", "check", *arguments]) == 2
    assert "error:" in capsys.readouterr().err


def test_a_folder_that_is_no_dataset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dataset", "check", str(tmp_path)]) == 2
    assert "neither meta/info.json nor parquet files" in capsys.readouterr().err


def test_the_page_is_self_contained_and_escapes_texts(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change_lines(copy, "tasks.jsonl", lambda rows: rows[0].update(task="<script>alert(1)</script>"))
    cut(video_v21(copy, 4), 0.5)
    page = tmp_path / "check.html"
    assert main(["dataset", "check", str(copy), "--html", str(page)]) == 1
    html = page.read_text()
    assert "video-torn" in html
    assert "episode_000004.mp4 cannot be opened" in html
    assert "<script>" not in html
    assert "&lt;script&gt;alert(1)" in html
    assert not re.search(r'(src|href)="(https?:)?//', html)
    for title in GROUPS.values():
        assert title in html


def test_neither_torch_nor_lerobot_is_loaded(sound: Path) -> None:
    code = "import sys; from smolpilot.cli.main import main; main(sys.argv[1:]); "
    code += "print('torch' in sys.modules, 'lerobot' in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", code, "dataset", "check", str(sound)], capture_output=True, text=True, check=True
    )
    assert run.stdout.splitlines()[-1] == "False False"


def test_the_documentation_lists_every_code_as_it_is() -> None:
    text = DOCS.read_text(encoding="utf-8")
    for code, rule in RULES.items():
        assert f"| `{code}` | {rule.severity} | {rule.meaning}" in text, code
    listed = set(re.findall(r"^\| `([a-z0-9-]+)` \| (?:error|warning|info) ", text, re.MULTILINE))
    assert listed == set(RULES)


def test_limits_of_the_robot_profile(sound: Path) -> None:
    assert "limit-position" not in codes(sound, robot=profile())
    narrow = codes(sound, robot=profile((-0.9, 0.95)))
    assert set(narrow["limit-position"]) <= set(range(6))
    assert narrow["limit-position"]
    assert "limit-velocity" in codes(sound, robot=profile(speed=0.5))
    assert "limit-velocity" not in codes(sound, robot=profile(speed=50.0))


def test_values_in_another_unit_are_said_once_per_joint(tmp_path: Path) -> None:
    def in_degrees(made: list[Take]) -> None:
        for take in made:
            take.state, take.action = np.degrees(take.state), np.degrees(take.action)

    found = codes(write_v21(tmp_path / "degrees", takes(in_degrees)), robot=profile((-1.5, 1.5)))
    assert "unit-mismatch" in found
    assert set(found["unit-mismatch"]) == {None}


def test_a_profile_of_another_robot(sound: Path) -> None:
    assert codes(sound, robot=RobotProfile.load("so101"))["profile-mismatch"]


@pytest.mark.parametrize("head", [True, False])
def test_waiting_is_found_with_its_first_and_last_frame(tmp_path: Path, head: bool) -> None:
    made = takes()
    waiting(head)(made)
    write_v21(tmp_path / "set", made)
    found = {one.code: one for one in check_dataset(tmp_path / "set").findings}["idle-head" if head else "idle-tail"]
    rows = len(made[1].state)

    assert found.episode == 1
    assert found.frame is not None
    assert found.last is not None
    assert found.last - found.frame + 1 >= 25
    assert (found.frame if head else found.last) == (0 if head else rows - 1)
    assert f"{found.last - found.frame + 1} frames" in found.message


@pytest.mark.parametrize("lag", [1, 4])
def test_the_lag_of_the_states_behind_the_actions(tmp_path: Path, lag: int) -> None:
    def shift(made: list[Take]) -> None:
        for take in made:
            noise = np.random.default_rng(0).normal(0, 0.002, take.state.shape).astype(np.float32)
            take.action = np.concatenate([take.state[lag:], np.repeat(take.state[-1:], lag, axis=0)]) + noise

    result = check_dataset(write_v3(tmp_path / "lag", takes(shift)))
    message = next(found.message for found in result.findings if found.code == "action-lag")
    assert f"by {lag} frames ({100 * lag} ms)" in message


def test_a_fractional_rate_is_sound(tmp_path: Path) -> None:
    from smolpilot.datasets import DatasetWriter

    with DatasetWriter(
        tmp_path / "ntsc", fps=29.97, state_names=JOINTS, action_names=JOINTS, cameras={"front": (48, 64)}
    ) as writer:
        for take in takes(lengths=(60, 64)):
            for i in range(len(take)):
                frame = {"observation.state": take.state[i], "action": take.action[i], "task": take.task}
                writer.add_frame({**frame, "observation.images.front": take.pictures["front"][i]})
            writer.end_episode()
    assert [f for f in check_dataset(tmp_path / "ntsc").findings if f.severity != "info"] == []


@pytest.mark.parametrize(("stated", "true"), [(29.97, 30), (30, 29.97), (30, 15)])
def test_a_stated_rate_that_is_not_the_rate_of_the_data_is_named(tmp_path: Path, stated: float, true: float) -> None:
    from smolpilot.datasets import DatasetWriter

    with DatasetWriter(
        tmp_path / "rate", fps=true, state_names=JOINTS, action_names=JOINTS, cameras={"front": (48, 64)}
    ) as writer:
        for take in takes(lengths=(40, 44)):
            for i in range(len(take)):
                frame = {"observation.state": take.state[i], "action": take.action[i], "task": take.task}
                writer.add_frame({**frame, "observation.images.front": take.pictures["front"][i]})
            writer.end_episode()
    change_info(tmp_path / "rate", fps=stated)
    result = check_dataset(tmp_path / "rate")
    message = next(found.message for found in result.findings if found.code == "fps-mismatch")
    assert f"says {stated:g} fps; the data have {true:g} frames" in message


def test_time_stamps_that_follow_an_uneven_video_are_a_warning(copy: Path) -> None:
    """The frames came unevenly and the rows say so: every sample loads, so that is no error."""
    import av

    path, uneven = video_v21(copy, 0), copy / "uneven.mp4"
    late = np.arange(24) / FPS + np.where(np.arange(24) > 10, 0.03, 0)
    for camera in ("front", "wrist"):
        path = video_v21(copy, 0, camera)
        with av.open(str(path)) as source, av.open(str(uneven), "w") as target:
            stream = target.add_stream_from_template(source.streams.video[0])
            number = 0
            for packet in source.demux(source.streams.video[0]):
                if packet.dts is not None:
                    packet.pts = packet.dts = round(late[number] / packet.time_base)
                    packet.stream = stream
                    target.mux(packet)
                    number += 1
        uneven.replace(path)
    change_table(table_v21(copy, 0), lambda columns: columns.update(timestamp=late.tolist()))
    findings = [found for found in check_dataset(copy).findings if found.episode == 0]
    assert {f.severity for f in findings if f.code == "timestamp-off-grid"} == {"warning"}
    assert "timestamp-off-video" not in {found.code for found in findings}
    assert "video-grid" in {found.code for found in findings}


def test_pictures_inside_the_tables(tmp_path: Path, copy: Path) -> None:
    """Image datasets get the same looks: one undecodable image and one black camera are found."""
    import io

    from PIL import Image

    for episode, take in enumerate(takes()):
        cells = []
        for i, picture in enumerate(take.pictures["front"]):
            buffer = io.BytesIO()
            Image.fromarray(picture if episode != 2 else np.zeros_like(picture)).save(buffer, format="PNG")
            broken = (episode, i) == (4, 7)
            cells.append({"bytes": b"\x89PNG" if broken else buffer.getvalue(), "path": None})
        path = table_v21(copy, episode)
        table = pq.read_table(path)
        pq.write_table(table.append_column("observation.images.front", pa.array(cells)), path)
    shutil.rmtree(copy / "videos" / "chunk-000" / "observation.images.front")
    change_features(copy, lambda features: features["observation.images.front"].update(dtype="image"))
    found = codes(copy)
    assert found["picture-undecodable"] == [4]
    assert found["camera-black"] == [2]
    assert "check-failed" not in found


def test_a_recording_without_cameras(tmp_path: Path) -> None:
    from smolpilot.datasets import DatasetWriter

    with DatasetWriter(tmp_path / "blind", fps=10, state_names=JOINTS, action_names=JOINTS, cameras={}) as writer:
        for take in takes():
            for i in range(len(take)):
                writer.add_frame({"observation.state": take.state[i], "action": take.action[i], "task": take.task})
            writer.end_episode()
    assert [f for f in check_dataset(tmp_path / "blind").findings if f.severity != "info"] == []


def test_differences_that_mean_something_are_not_near_duplicates(copy: Path) -> None:
    rename(copy, "put it in box 1", "put it in box 2")
    assert "instruction-near" not in codes(copy)
    rename(copy, "grasp the bottle", "grasp the botle")
    assert "instruction-near" in codes(copy)


def test_token_estimates_are_on_the_low_side() -> None:
    assert estimate_tokens("pick up the red cube") <= 7
    assert estimate_tokens("word " * 48) == 49
    assert estimate_tokens("触摸蓝色方块") >= 6


def test_gaps_in_the_episode_numbers(copy: Path) -> None:
    """A v2.1 recording of which somebody deleted an episode: LeRobot looks episodes up by position."""
    change_lines(copy, "episodes.jsonl", lambda rows: rows.pop(2) and None)
    change_lines(copy, "episodes_stats.jsonl", lambda rows: rows.pop(2) and None)
    table_v21(copy, 2).unlink()
    for camera in ("front", "wrist"):
        video_v21(copy, 2, camera).unlink()
    change_info(copy, total_episodes=5, total_frames=132)
    assert codes(copy)["episode-gaps"] == [None]


@pytest.mark.parametrize(
    ("numbers", "missing"),
    [([0, 1, 2], []), ([1, 4], [0, 2, 3]), ([-3, 0, 2], [1]), ([2, 2], [0, 1]), ([2**62], list(range(1000))), ([], [])],
)
def test_gaps_below_the_largest_number(numbers: list[int], missing: list[int]) -> None:
    from smolpilot.datasets.check.context import gaps

    assert gaps(numbers) == missing
