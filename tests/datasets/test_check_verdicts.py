"""`dataset check`: recordings that look wrong and are not, and causes that their consequences used to stand for."""

from __future__ import annotations

import codecs
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from smolpilot.cli.main import main
from smolpilot.datasets.check import check_dataset
from smolpilot.robots import RobotProfile

from .helpers_damage import (
    POINTER,
    change_features,
    change_info,
    change_lines,
    change_table,
    episodes_v3,
    put,
    table_v3,
    table_v21,
    video_v21,
)
from .helpers_recordings import JOINTS, Edit, Take, write_v3, write_v21, write_video
from .helpers_recordings import takes as made_takes


def takes(edit: Edit | None = None, lengths: tuple[int, ...] = (11, 12, 14, 13, 12, 15)) -> list[Take]:
    """Short demonstrations: all of their frames are decoded again and again."""
    return made_takes(edit, lengths)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("verdicts")
    return {"v3": write_v3(base / "v3", takes()), "v21": write_v21(base / "v21", takes())}


@pytest.fixture
def copy(sound: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    return lambda layout: Path(shutil.copytree(sound[layout], tmp_path / "copy"))


def checked(root: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, dict[str, Any]]:
    """Exit code and document of `dataset check --json`."""
    code = main(["dataset", "check", str(root), "--json", *options])
    return code, json.loads(capsys.readouterr().out)


def errors(document: dict[str, Any]) -> list[str]:
    return [found["code"] for found in document["findings"] if found["severity"] == "error"]


def of(document: dict[str, Any], code: str) -> list[dict[str, Any]]:
    return [found for found in document["findings"] if found["code"] == code]


# What is not wrong


def test_a_joint_that_only_shows_noise_has_no_outliers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def noisy(made: list[Take]) -> None:
        generator = np.random.default_rng(0)
        for take in made:
            take.state[:, 1] = generator.normal(0, 2e-4, len(take)).astype(np.float32)
            take.state[0, 1] += 0.005
        made[3].action[12, 0] = 25.0

    _, document = checked(write_v21(tmp_path / "noisy", made_takes(noisy)), capsys)
    assert of(document, "jump") == []
    # The true outlier of another joint is found all the same.
    assert [(found["episode"], found["joint"]) for found in of(document, "outlier")] == [(3, "pan")]


def test_statistics_with_the_rounding_of_float32_sums_are_right(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Mean of squares less squared mean in float32, as LeRobot computes: a joint at rest gets a spread by it."""
    rest = np.float32(12.3)

    def at_rest(made: list[Take]) -> None:
        for take in made:
            take.state[:, 1] = take.action[:, 1] = rest

    def rounded(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            for key in ("observation.state", "action"):
                # 24 roundoffs of the mean square, of an episode of as many rows.
                row["stats"][key]["std"][1] = float(rest) * (24 * 2.0**-24) ** 0.5

    root = write_v21(tmp_path / "rest", takes(at_rest))
    change_lines(root, "episodes_stats.jsonl", rounded)
    code, document = checked(root, capsys)
    assert (code, errors(document)) == (0, [])

    def wrong(rows: list[dict[str, Any]]) -> None:
        rows[2]["stats"]["action"]["std"][1] = 0.5

    change_lines(root, "episodes_stats.jsonl", wrong)
    code, document = checked(root, capsys)
    assert code == 1
    assert [(found["episode"], found["joint"]) for found in of(document, "statistics-wrong")] == [(2, "lift")]


def test_a_difference_is_told_with_digits_that_show_it(
    copy: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    def nearly(rows: list[dict[str, Any]]) -> None:
        stats = rows[1]["stats"]["action"]
        stats["max"][0] = 152.30012345
        stats["min"][0] = 152.3

    root = copy("v21")
    change_lines(root, "episodes_stats.jsonl", nearly)
    _, document = checked(root, capsys)
    message = of(document, "statistics-wrong")[0]["message"]
    told, true = (float(message.split(word)[1].split()[0].rstrip(";.")) for word in ("is ", "have "))
    assert told != true


def test_statistics_of_what_no_policy_reads_are_no_error(
    copy: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    root = copy("v3")
    rows = pq.read_metadata(table_v3(root)).num_rows
    table = pq.read_table(table_v3(root))
    pose = pa.array(
        np.arange(rows * 16, dtype=np.float32).reshape(rows, 4, 4).tolist(), pa.list_(pa.list_(pa.float32()))
    )
    reward = pa.array([0.5] * rows, pa.float32())
    pq.write_table(table.append_column("pose", pose).append_column("next.reward", reward), table_v3(root))
    scalar = {"dtype": "float32", "shape": [1], "names": None}
    change_features(root, lambda f: f.update({"pose": {**scalar, "shape": [4, 4]}, "next.reward": scalar}))
    path = root / "meta" / "stats.json"
    stats = json.loads(path.read_text())
    column = np.arange(rows * 16, dtype=np.float64).reshape(-1, 4)
    whole = {name: getattr(column, name)(axis=0).tolist() for name in ("mean", "std", "min", "max")}
    stats |= {
        "pose": {**whole, "count": [rows]},
        "next.reward": {"mean": [9.0], "std": [9.0], "min": [0.0], "max": [1.0]},
    }
    path.write_text(json.dumps(stats))
    code, document = checked(root, capsys)
    assert (code, errors(document)) == (0, [])
    # LeRobot's form for a matrix, one number per column, fits; the reward's numbers do not, which is a remark.
    assert [(f["severity"], "next.reward" in f["message"]) for f in of(document, "statistics-wrong")] == [
        ("info", True)
    ]
    assert of(document, "statistics-damaged") == []


def test_pictures_that_fit_no_stored_mean_are_not_exchanged_videos(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_v21(tmp_path / "set", takes(lengths=(8,) * 12))

    def of_other_pictures(rows: list[dict[str, Any]]) -> None:
        for place, row in enumerate(rows):
            for key in ("observation.images.front", "observation.images.wrist"):
                row["stats"][key]["mean"] = [[[0.7 + 0.01 * (place * 5 % 12)]]] * 3

    change_lines(root, "episodes_stats.jsonl", of_other_pictures)
    code, document = checked(root, capsys)
    assert (code, errors(document)) == (0, [])
    assert of(document, "statistics-pictures")


def test_three_videos_that_fit_one_another_are_no_exchange(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Episodes 1, 2 and 4 changed places in a circle: no two were exchanged with each other."""
    root = write_v21(tmp_path / "circle", takes(lengths=(12,) * 10))
    means: dict[int, Any] = {}

    def turn(rows: list[dict[str, Any]]) -> None:
        means.update({i: rows[i]["stats"]["observation.images.front"]["mean"] for i in (1, 2, 4)})
        for place, other in ((1, 2), (2, 4), (4, 1)):
            rows[place]["stats"]["observation.images.front"]["mean"] = means[other]

    change_lines(root, "episodes_stats.jsonl", turn)
    assert of(checked(root, capsys)[1], "video-swapped") == []


# One cause, one finding


def test_frames_of_an_episode_without_a_place_are_not_too_many(
    copy: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    root = copy("v3")
    for part in ("chunk_index", "file_index", "from_timestamp", "to_timestamp"):
        change_table(episodes_v3(root), put(f"videos/observation.images.wrist/{part}", 1, None))
    code, document = checked(root, capsys)
    assert code == 1
    assert errors(document) == ["meta-damaged"]
    assert (of(document, "meta-damaged")[0]["episode"], of(document, "meta-damaged")[0]["camera"]) == (1, "wrist")
    assert of(document, "video-long") == []


def test_a_recording_without_episodes_is_called_that(
    copy: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    root = copy("v3")
    for name in ("data", "videos", "meta/episodes"):
        shutil.rmtree(root / name)
    for name in ("tasks.parquet", "stats.json"):
        (root / "meta" / name).unlink()
    change_info(root, total_episodes=0, total_frames=0, total_tasks=0)
    code, document = checked(root, capsys)
    assert code == 1
    assert [found["code"] for found in document["findings"]] == ["recording-empty"]
    assert "no episodes yet" in document["findings"][0]["message"]


def test_an_interrupted_recording_is_called_that(
    copy: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """LeRobot closes its parquet files at the end: here the rows' one has no end, and there is no episode table."""
    root = copy("v3")
    table_v3(root).write_bytes(table_v3(root).read_bytes()[:-300])
    shutil.rmtree(root / "meta" / "episodes")
    code, document = checked(root, capsys)
    assert code == 1
    assert [found["code"] for found in document["findings"]] == ["recording-interrupted"]
    assert "file-000.parquet" in document["findings"][0]["message"]


def test_a_byte_order_mark_is_one_finding_and_the_names_stay(
    copy: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    root = copy("v21")
    path = root / "meta" / "info.json"
    path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())
    code, document = checked(root, capsys)
    assert (code, errors(document)) == (1, ["info-damaged"])
    assert document["robot_type"] == "toy"
    assert document["cameras"] == ["front", "wrist"]


def test_a_camera_that_was_never_recorded_is_one_finding(
    copy: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for layout in ("v21", "v3"):
        root = copy(layout)
        change_features(root, lambda f: f.update({"observation.images.side": f["observation.images.front"]}))
        code, document = checked(root, capsys)
        assert (code, errors(document)) == (1, ["camera-absent"])
        assert of(document, "camera-absent")[0]["camera"] == "side"
        assert "dataset repair" in of(document, "camera-absent")[0]["fix"]
        shutil.rmtree(root)


def test_empty_cells_of_an_unused_column_cost_no_episode(
    copy: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    root = copy("v3")
    table = pq.read_table(table_v3(root))
    texts = [None if i % 3 else "x" for i in range(table.num_rows)]
    rewards = [None if i % 7 else 0.5 for i in range(table.num_rows)]
    table = table.append_column("note", pa.array(texts)).append_column("reward", pa.array(rewards, pa.float32()))
    pq.write_table(table, table_v3(root))
    scalar = {"dtype": "float32", "shape": [1], "names": None}
    change_features(root, lambda f: f.update({"note": {**scalar, "dtype": "string"}, "reward": scalar}))
    code, document = checked(root, capsys)
    assert (code, errors(document)) == (1, ["column-empty", "column-empty"])
    assert all("episode" not in found and "dataset repair" in found["fix"] for found in of(document, "column-empty"))
    assert of(document, "not-finite") == []


def test_statistics_of_a_larger_set_are_one_finding(
    copy: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    root = copy("v3")
    path = root / "meta" / "stats.json"
    stats = json.loads(path.read_text())
    for key in ("observation.state", "action"):
        stats[key] |= {"mean": [3.0] * 3, "max": [9.0] * 3, "count": [640]}
    stats["observation.images.front"]["mean"] = [[[0.9]]] * 3
    path.write_text(json.dumps(stats))
    _, document = checked(root, capsys)
    assert [found["code"] for found in document["findings"] if found["group"] == "statistics"] == ["statistics-wrong"]
    assert "640 rows" in of(document, "statistics-wrong")[0]["message"]


def test_another_unit_is_not_a_hundred_warnings_of_speed(tmp_path: Path) -> None:
    def in_degrees(made: list[Take]) -> None:
        for take in made:
            take.state, take.action = np.degrees(take.state), np.degrees(take.action)

    joints = [
        {"name": name, "unit": "rad", "position_limits": (-1.5, 1.5), "velocity_limit": 3.0, "aliases": []}
        for name in JOINTS
    ]
    profile = RobotProfile.model_validate(
        {"name": "toy", "description": "", "rate": 10.0, "joints": joints, "gripper": ["gripper"]}
    )
    codes = {
        found.code for found in check_dataset(write_v21(tmp_path / "set", takes(in_degrees)), robot=profile).findings
    }
    assert "unit-mismatch" in codes
    assert codes & {"limit-position", "limit-velocity"} == set()


def test_a_pointer_for_a_list_hides_what_is_missing_for_it(
    copy: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    root = copy("v21")
    (root / "meta" / "tasks.jsonl").write_bytes(POINTER)
    _, document = checked(root, capsys)
    assert errors(document) == ["lfs-pointer"]
    assert "lfs pull" in of(document, "lfs-pointer")[0]["fix"]


@pytest.mark.parametrize("layout", ["v3", "v21"])
def test_a_clone_without_its_large_files_gets_one_advice(
    copy: Callable[[str], Path], layout: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = copy(layout)
    for path in (*root.rglob("*.parquet"), *root.rglob("*.mp4")):
        path.write_bytes(POINTER)
    code, document = checked(root, capsys)
    assert (code, set(errors(document))) == (1, {"lfs-pointer"})
    (fix,) = {found["fix"] for found in of(document, "lfs-pointer")}
    assert fix.startswith(f"`git -C {root} lfs pull` fetches")


def test_without_an_episode_table_the_rows_of_all_files_are_read(
    copy: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    root = copy("v3")
    table = pq.read_table(table_v3(root))
    for file, episodes in enumerate(([0, 1], [2, 3], [4, 5])):
        mine = table.filter(pc.is_in(table["episode_index"], pa.array(episodes)))
        pq.write_table(mine, table_v3(root).with_name(f"file-{file:03d}.parquet"))
    shutil.rmtree(root / "meta" / "episodes")
    _, document = checked(root, capsys)
    assert (document["episodes"], document["rows"]) == (6, table.num_rows)


# Advice


def test_what_is_missing_altogether_is_not_to_be_repaired(
    copy: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Only meta/ was downloaded: no repair makes rows of it, and with one file less a repair keeps the others."""
    root = copy("v21")
    table_v21(root, 3).unlink()
    assert "dataset repair" in of(checked(root, capsys)[1], "file-missing")[0]["fix"]
    shutil.rmtree(root / "data")
    found = [one for one in of(checked(root, capsys)[1], "file-missing") if "camera" not in one]
    assert {one["fix"] for one in found} == {"Copy or download the file again."}


def test_no_fix_leaves_out_most_episodes_or_any_for_a_remark(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def dark(made: list[Take]) -> None:
        for take in made[:4]:
            take.pictures["wrist"][:] = 0

    root = write_v21(tmp_path / "dark", takes(dark))
    write_video(video_v21(root, 5), takes()[5].pictures["front"][:, :32, :48].copy())
    _, document = checked(root, capsys)
    black = of(document, "camera-black")
    assert [found["episode"] for found in black] == [0, 1, 2, 3]
    assert all("exclude" not in found["fix"] for found in black)
    # One episode of six may well be left out.
    assert of(document, "video-size")[0]["fix"].endswith("--episodes 5")
    assert all("exclude" not in found["fix"] for found in document["findings"] if found["severity"] == "info")


def test_names_of_others_get_the_command_that_renames_them(
    copy: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    root = copy("v3")

    def rename(features: dict[str, Any]) -> None:
        features["state"] = features.pop("observation.state")
        features["actions"] = features.pop("action")

    change_features(root, rename)
    table = pq.read_table(table_v3(root))
    names = {"observation.state": "state", "action": "actions"}
    pq.write_table(table.rename_columns([names.get(name, name) for name in table.column_names]), table_v3(root))
    code, document = checked(root, capsys)
    assert (code, errors(document)) == (1, ["feature-missing", "feature-missing"])
    rename_both = "DST --feature state=observation.state actions=action"
    assert all(found["fix"].endswith(rename_both) for found in of(document, "feature-missing"))


def test_what_is_said_of_several_episodes_in_one_file_is_said_once(
    copy: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = copy("v3")
    path = root / "videos" / "observation.images.front" / "chunk-000" / "file-000.mp4"
    path.unlink()
    page = tmp_path / "page.html"
    _, document = checked(root, capsys, "--html", str(page))
    found = of(document, "file-missing")
    assert len(found) == 1
    assert found[0]["episodes"] == list(range(6))
    assert page.read_text().count("file-000.mp4 is missing") == 1
    main(["dataset", "check", str(root)])
    assert capsys.readouterr().out.count("file-000.mp4 is missing") == 1


# Real samples, jobs, other checks' scans


def test_a_task_list_that_gives_lerobot_other_texts(
    copy: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    root = copy("v3")
    path = root / "meta" / "tasks.parquet"
    table = pq.read_table(path)
    pq.write_table(table.take([1, 0]), path)
    code, document = checked(root, capsys)
    assert (code, errors(document)) == (1, ["task-lookup"])
    assert document["unloadable"] == ["LeRobot"]


def test_lists_in_place_of_numbers_are_an_error_in_v21_too(
    copy: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    root = copy("v21")
    for episode in range(6):
        path = table_v21(root, episode)
        table = pq.read_table(path)
        values = pa.array([[value] for value in table["timestamp"].to_pylist()], pa.list_(pa.float32()))
        pq.write_table(table.set_column(table.column_names.index("timestamp"), "timestamp", values), path)
    code, document = checked(root, capsys)
    assert code == 1
    assert [found["severity"] for found in of(document, "column-type")] == ["error"]


def test_any_number_of_jobs_gives_the_same_findings(
    copy: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    root = copy("v21")
    video_v21(root, 2).write_bytes(video_v21(root, 2).read_bytes()[:900])
    documents = [checked(root, capsys, "--jobs", jobs)[1] for jobs in ("1", "3", "0")]
    for document in documents:
        del document["seconds"]
    assert documents[0]["findings"]
    assert documents[0] == documents[1] == documents[2]
    assert main(["dataset", "check", str(root), "--jobs", "-1"]) == 2


def test_videos_that_another_check_has_decoded_are_not_decoded_again(
    copy: Callable[[str], Path], tmp_path: Path
) -> None:
    root = copy("v21")
    first = check_dataset(root)
    other = Path(shutil.copytree(root, tmp_path / "elsewhere"))
    write_video(video_v21(other, 1), takes()[0].pictures["front"])
    again = check_dataset(other, video_scans=first.video_scans)
    looks = {path.relative_to(root).as_posix(): scan.look for path, scan in first.video_scans.scans.items()}
    fresh = [
        path.relative_to(other).as_posix()
        for path, scan in again.video_scans.scans.items()
        if scan.look is not looks[path.relative_to(other).as_posix()]
    ]
    assert fresh == [video_v21(other, 1).relative_to(other).as_posix()]
    assert [f.code for f in again.findings] == [f.code for f in check_dataset(other).findings]
