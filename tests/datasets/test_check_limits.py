"""`dataset check`: each limit from both sides, and nothing at all to say of sound recordings."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from smolpilot.cli.main import main
from smolpilot.datasets.convert import convert
from smolpilot.datasets.copy import CopyOptions
from smolpilot.robots import RobotProfile

from .helpers_damage import change_features, change_info, change_table, rows_of, table_v3
from .helpers_limits import TASK, Change, findings, quiet, written
from .helpers_recordings import JOINTS, Take, write_v21

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A quiet recording in each layout, with cameras and without, and with its images inside the tables."""
    base = tmp_path_factory.mktemp("quiet")
    found = {"v3": written(base / "v3", quiet(pictures=True)), "blind": written(base / "blind", quiet())}
    convert(found["v3"], base / "v21", CopyOptions(version="v2.1"))
    made = quiet(10, 50)
    for take in made:
        frames = np.full((len(take), 48, 64, 3), 90, dtype=np.uint8)
        for i, (x, y) in enumerate((24 + 20 * take.state[:, :2]).astype(int)):
            frames[i, y % 36 : y % 36 + 12, x : x + 12] = (220, 60, 60)
        take.pictures.update(front=frames, wrist=frames[:, ::-1] + np.uint8(20))
    old = write_v21(base / "v20", made, version="v2.0")
    return {**found, "v21": base / "v21", "v20": old, "pictures in the tables": in_tables(old, base / "tables")}


def in_tables(source: Path, root: Path) -> Path:
    """The same with PNGs in the tables in place of videos."""
    shutil.copytree(source, root)
    for camera in ("front", "wrist"):
        key = f"observation.images.{camera}"
        for path in sorted((root / "data").rglob("*.parquet")):
            cells = []
            with av.open(str(root / "videos" / "chunk-000" / key / f"{path.stem}.mp4")) as video:
                for frame in video.decode(video=0):
                    buffer = io.BytesIO()
                    frame.to_image().save(buffer, format="PNG")
                    cells.append({"bytes": buffer.getvalue(), "path": None})
            pq.write_table(pq.read_table(path).append_column(key, pa.array(cells)), path)
        change_features(root, lambda features, key=key: features[key].update(dtype="image", info=None))  # type: ignore[misc]
    shutil.rmtree(root / "videos")
    change_info(root, total_videos=0, video_path=None)
    return root


@pytest.mark.parametrize("form", ["v3", "v21", "v20", "blind", "pictures in the tables"])
def test_nothing_at_all_is_said_of_a_sound_recording(
    sound: dict[str, Path], form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dataset", "check", str(sound[form]), "--json", "--strict"]) == 0
    document = json.loads(capsys.readouterr().out)
    # How far the states lag behind the actions is a fact, and always told.
    assert [(one["code"], one["severity"]) for one in document["findings"]] == [("action-lag", "info")]


def of(number: int, change: Callable[[Take], None]) -> Change:
    def edit(made: list[Take]) -> None:
        change(made[number])

    return edit


# -- states and actions ------------------------------------------------------------------------------------------------


def still_head(frames: int) -> Change:
    def change(take: Take) -> None:
        take.state[:frames] = take.state[0]
        take.state[frames:] += np.where(take.state[frames:] > 0, -0.1, 0.1)

    return of(3, change)


def still_tail(frames: int) -> Change:
    def change(take: Take) -> None:
        take.state[-frames:] = take.state[-1]
        take.state[:-frames] += np.where(take.state[:-frames] > 0, -0.1, 0.1)

    return of(3, change)


def creeping(share: float) -> Change:
    """The first joint creeps by this share of its range while the others stand."""

    def edit(made: list[Take]) -> None:
        reach = np.ptp(np.concatenate([take.state[:, 0] for take in made]))
        still_head(25)(made)
        made[3].state[1:25, 0] += share * reach

    return edit


def far_away(margins: float, frames: int = 1) -> Change:
    """A state this many times the usual spread outside of it, for some frames."""

    def edit(made: list[Take]) -> None:
        low, high = np.quantile(np.concatenate([take.action[:, 0] for take in made]), [0.01, 0.99])
        made[4].action[20 : 20 + frames, 0] = high + margins * (high - low)

    return edit


def leaping(share: float) -> Change:
    """A joint leaps by this share of its whole range (the leap is part of it), where its steps are small."""

    def edit(made: list[Take]) -> None:
        for take in made:
            take.state[:, 0] *= 0.2
        reach = np.ptp(np.concatenate([take.state[:, 0] for take in made]))
        # The range grows with the leap: x of it is x / (1 - x) of what it was.
        at = int(np.argmax(made[4].state[10:-10, 0])) + 10
        step = made[4].state[at, 0] - made[4].state[at - 1, 0]
        made[4].state[at:, 0] += share / (1 - share) * reach - step
        made[4].state[at + 1 :, 0] = made[4].state[at, 0]

    return edit


def hanging(frames: int) -> Change:
    def change(take: Take) -> None:
        take.state[20 : 20 + frames + 1] = take.state[20]

    return of(2, change)


def commanded(share: float) -> Change:
    """All states repeat while the actions go through this share of their range."""

    def edit(made: list[Take]) -> None:
        reach = np.ptp(np.concatenate([take.action for take in made]), axis=0)
        made[2].state[20:31] = made[2].state[20]
        made[2].action[20:31] = made[2].action[20]
        made[2].action[30, 0] += share * reach[0] * (-1 if made[2].action[20, 0] > 0 else 1)

    return edit


def dead(share: float) -> Change:
    """A state that stands all through an episode while its action moves through this share of its range."""

    def edit(made: list[Take]) -> None:
        reach = np.ptp(np.concatenate([take.action[:, 1] for take in made]))
        made[5].state[:, 1] = made[5].state[0, 1]
        made[5].action[:, 1] = np.linspace(0, share * reach, len(made[5]), dtype=np.float32)

    return edit


def pinned(frames: int) -> Change:
    """The last frames of an episode at exactly the end of the joint's range."""

    def edit(made: list[Take]) -> None:
        top = np.float32(max(take.state[:, 0].max() for take in made) + 0.01)
        made[1].state[-frames:, 0] = top
        made[1].state[:-frames, 0] = np.minimum(made[1].state[:-frames, 0], top - 0.02)

    return edit


def levels(count: int) -> Change:
    """A joint that only takes so many values, and stays long at its largest."""

    def edit(made: list[Take]) -> None:
        for take in made:
            take.state[:, 0] = np.round((take.state[:, 0] + 1) / 2 * (count - 2)) / (count - 1)
        made[1].state[-30:, 0] = 1.0

    return edit


def nearly(share: float) -> Change:
    """Another episode once more, with one number that differs by this share of the joint's range."""

    def edit(made: list[Take]) -> None:
        reach = np.ptp(np.concatenate([take.state[:, 0] for take in made]))
        made[7].state, made[7].action = made[2].state.copy(), made[2].action.copy()
        made[7].state[10, 0] += share * reach

    return edit


def starting(spread: float) -> Change:
    """All episodes start within this standard deviation, as a share of the joints' ranges."""

    def edit(made: list[Take]) -> None:
        for number, take in enumerate(made):
            take.state[0] = spread * 1.94 * (1 if number % 2 else -1)

    return edit


def drifting(sigmas: float) -> Change:
    def edit(made: list[Take]) -> None:
        quarter = len(made) // 4
        first, last = (
            np.concatenate([take.state[:, 2] for take in part]) for part in (made[:quarter], made[-quarter:])
        )
        for take in made[-quarter:]:
            take.state[:, 2] += first.mean() - last.mean() + sigmas * first.std()

    return edit


def ranging(times: float) -> Change:
    """The action of a joint has this many times the range of its state."""

    def edit(made: list[Take]) -> None:
        state, action = (np.ptp(np.concatenate([getattr(t, name)[:, 1] for t in made])) for name in ("state", "action"))
        for take in made:
            take.action[:, 1] *= times * state / action

    return edit


def cut_to(length: int) -> Change:
    def change(take: Take) -> None:
        take.state, take.action = take.state[:length], take.action[:length]

    return of(6, change)


def grown_to(length: int) -> Change:
    def edit(made: list[Take]) -> None:
        made[6] = quiet(7, length)[6]

    return edit


LIMITS: list[tuple[str, Callable[[Any], Change], float, float]] = [
    # (code, change, a value that passes without a word, one that does not)
    ("idle-head", still_head, 19, 20),
    ("idle-head", creeping, 0.02, 0.008),
    ("idle-tail", still_tail, 19, 20),
    ("outlier", far_away, 4.8, 5.2),
    ("outlier", partial(far_away, 30), 7, 5),
    ("jump", leaping, 0.27, 0.33),
    ("state-frozen", hanging, 4, 5),
    ("state-frozen", commanded, 0.08, 0.12),
    ("joint-dead", dead, 0.18, 0.22),
    ("joint-saturated", pinned, 18, 19),
    ("joint-saturated", levels, 12, 14),
    ("episode-duplicated", nearly, 2e-4, 0.5e-4),
    ("start-poses", starting, 0.012, 0.008),
    ("action-range", ranging, 9.5, 10.5),
    ("action-range", ranging, 1 / 9.5, 1 / 10.5),
    ("episode-short", cut_to, 10, 9),
    ("chunk-short", cut_to, 50, 49),
    ("length-spread", cut_to, 20, 19),
    ("length-spread", grown_to, 180, 181),
]  # fmt: skip


@pytest.mark.parametrize(
    ("code", "change", "passes", "named"), LIMITS, ids=lambda v: getattr(getattr(v, "func", v), "__name__", str(v))
)
def test_a_limit_from_both_sides(
    tmp_path: Path, code: str, change: Callable[[Any], Change], passes: float, named: float
) -> None:
    for name, value in (("passes", passes), ("named", named)):
        made = quiet()
        change(value)(made)
        found = findings(written(tmp_path / name, made), code)
        assert bool(found) == (name == "named"), (name, [one.message for one in found])


@pytest.mark.parametrize(("length", "frames"), [(180, 26), (190, 28)])
def test_a_short_wait_of_a_long_demonstration_is_none(tmp_path: Path, length: int, frames: int) -> None:
    made = quiet(6, length)
    still_head(frames)(made)
    assert not findings(written(tmp_path / "short", made), "idle-head")
    made = quiet(6, length)
    still_head(frames + 1)(made)
    assert findings(written(tmp_path / "long", made), "idle-head")


def test_waiting_is_found_behind_an_episode_of_two_frames(tmp_path: Path) -> None:
    made = quiet(6)
    made[1].state, made[1].action = made[1].state[:2], made[1].action[:2]
    still_head(20)(made)
    assert [one.episode for one in findings(written(tmp_path / "two", made), "idle-head")] == [3]


def test_a_drift_needs_three_sigmas_and_twelve_episodes(tmp_path: Path) -> None:
    for name, count, sigmas in (("few", 11, 4.0), ("little", 12, 2.8), ("enough", 12, 3.2)):
        made = quiet(count)
        drifting(sigmas)(made)
        assert bool(findings(written(tmp_path / name, made), "drift")) == (name == "enough"), name


def test_how_many_demonstrations_are_few(tmp_path: Path) -> None:
    made = quiet(21, 12)
    for number, take in enumerate(made):
        take.task = "touch the blue block" if number < 9 else f"touch block {number}" if number < 15 else TASK
    made += quiet(4, 14)
    messages = [one.message for one in findings(written(tmp_path / "few", made), "few-episodes")]
    assert messages[0] == '"touch the blue block" has 9 demonstrations.'
    # Ten of the last text are enough; five are named one by one, the others counted.
    assert len(messages) == 6
    assert messages[-1].startswith("2 more instructions have fewer than 10 demonstrations")


def test_a_leap_of_one_turn_is_called_that(tmp_path: Path) -> None:
    for turn, size in ((True, 2 * np.pi * 0.92), (False, 2 * np.pi * 0.88), (True, 360.0), (False, 300.0)):
        made = quiet()
        made[4].state[30:, 0] += size
        (found,) = findings(written(tmp_path / f"turn-{size}", made), "jump")
        assert ("about one turn" in found.message) == turn, found.message


# -- a robot profile ---------------------------------------------------------------------------------------------------


def profile(limit: float = 10.0, speed: float | None = None) -> RobotProfile:
    joints: list[dict[str, Any]] = [
        {"name": name, "unit": "rad", "position_limits": (-limit, limit), "velocity_limit": speed, "aliases": []}
        for name in JOINTS
    ]
    return RobotProfile.model_validate(
        {"name": "toy", "description": "", "rate": 10.0, "joints": joints, "gripper": ["gripper"]}
    )


@pytest.fixture(scope="module")
def measured(sound: dict[str, Path]) -> tuple[float, float]:
    """The largest position and the largest speed of the quiet recording."""
    table = pq.read_table(table_v3(sound["blind"]))
    state, action = (np.array(table[key].to_pylist()) for key in ("observation.state", "action"))
    inside = np.diff(np.array(table["episode_index"])) == 0
    steps = [np.abs(np.diff(values, axis=0))[inside].max() for values in (state, action)]
    return max(np.abs(state).max(), np.abs(action).max()), 10 * max(steps)


def test_positions_and_speeds_have_two_per_cent_of_room(sound: dict[str, Path], measured: tuple[float, float]) -> None:
    position, speed = measured
    # The slack is 2 % of the span between both limits.
    for share, found in ((0.03, False), (0.05, True)):
        limits = profile(limit=position / (1 + share))
        assert bool(findings(sound["blind"], "limit-position", robot=limits)) == found
    for share, found in ((0.01, False), (0.03, True)):
        limits = profile(speed=speed / (1 + share))
        assert bool(findings(sound["blind"], "limit-velocity", robot=limits)) == found


def test_a_gripper_that_hardly_moves(tmp_path: Path) -> None:
    for share, found in ((0.07, False), (0.04, True)):
        made = quiet()
        reach = np.ptp(np.concatenate([take.state[:, 2] for take in made]))
        made[8].state[:, 2] *= share * reach / np.ptp(made[8].state[:, 2])
        messages = [f.episode for f in findings(written(tmp_path / f"{share}", made), "gripper-inert", robot=profile())]
        assert messages == [8] * found


# -- time stamps -------------------------------------------------------------------------------------------------------


def test_time_stamps_have_a_tenth_of_a_millisecond_of_room(tmp_path: Path) -> None:
    for late, found in ((0.8e-4, False), (1.3e-4, True)):
        root = written(tmp_path / f"{late}", quiet(3))
        moved = [time + late for time in pq.read_table(table_v3(root)).column("timestamp").to_pylist()]
        change_table(table_v3(root), partial(dict.update, timestamp=moved))
        assert bool(findings(root, "timestamp-off-grid")) == found


def test_rows_and_videos_together_overrule_the_stated_rate(tmp_path: Path) -> None:
    """Where the rows are within half a per cent of the videos; else nobody knows better than info."""
    root = written(tmp_path / "rate", quiet(3, 30, pictures=True))
    change_info(root, fps=20)
    times = pq.read_table(table_v3(root))["timestamp"].to_pylist()
    for stretch, overruled in ((1.0, True), (1.004, True), (1.006, False)):
        change_table(table_v3(root), partial(dict.update, timestamp=[stretch * time for time in times]))
        assert bool(findings(root, "fps-mismatch")) == overruled, stretch


def test_the_episodes_after_one_without_time_are_looked_at_too(tmp_path: Path) -> None:
    """An episode whose time is not a number does not end the check of those that follow."""
    root = written(tmp_path / "times", quiet(4))

    def spoil(columns: dict[str, list[float]]) -> None:
        columns["timestamp"][rows_of(columns, 1)[5]] = float("nan")
        columns["timestamp"][rows_of(columns, 3)[9]] = 0.1

    change_table(table_v3(root), spoil)
    found = findings(root, "timestamp-backwards")
    assert [(one.episode, one.frame) for one in found] == [(1, 5), (3, 9)]
    assert "is nan" in found[0].message


# -- images ----------------------------------------------------------------------------------------------------------


def plain(brightness: dict[int, float], length: int = 24) -> list[Take]:
    """Four short demonstrations whose images have one brightness each (100 where none is given)."""
    made = quiet(4, length, pictures=True)
    for number, take in enumerate(made):
        take.pictures["front"][:] = round(brightness.get(number, 100))
    return made


@pytest.mark.parametrize("sign", [1, -1])
def test_an_episode_far_from_the_usual_brightness(tmp_path: Path, sign: int) -> None:
    for by, episodes in ((48, []), (53, [2])):
        root = written(tmp_path / f"{by}", plain({2: 100 + sign * by}))
        assert [one.episode for one in findings(root, "exposure-spread")] == episodes


def test_brightness_that_jumps_within_an_episode(tmp_path: Path) -> None:
    for by, episodes in ((38, []), (43, [1, 3])):
        made = plain({})
        for number in (1, 3):
            made[number].pictures["front"][12:] += by
        root = written(tmp_path / f"{by}", made)
        assert [(one.episode, one.frame) for one in findings(root, "exposure-jump")] == [(n, 12) for n in episodes]


def test_a_camera_is_black_without_a_lit_spot(tmp_path: Path) -> None:
    for peak, found in ((36, False), (24, True)):
        made = plain({})
        made[1].pictures["front"][:] = peak
        assert [one.episode for one in findings(written(tmp_path / f"{peak}", made), "camera-black")] == [1] * found


def test_how_long_a_camera_may_be_dark(tmp_path: Path) -> None:
    for frames, severity in ((2, None), (3, "warning"), (21, "warning"), (22, "error")):
        made = plain({})
        made[1].pictures["front"][:frames] = 0
        found = findings(written(tmp_path / f"{frames}", made), "camera-black")
        assert [one.severity for one in found] == ([severity] if severity else []), frames


def test_how_long_a_camera_may_stand_still(tmp_path: Path) -> None:
    for frames, found in ((19, False), (20, True)):
        made = quiet(4, pictures=True)
        made[1].pictures["front"][10 : 10 + frames] = made[1].pictures["front"][10]
        # What follows shows something else at once.
        made[1].pictures["front"][10 + frames :, :8, :8] = 20
        made[1].pictures["front"][:10, :8, :8] = 20
        root = written(tmp_path / f"{frames}", made)
        assert [one.episode for one in findings(root, "camera-frozen")] == [1] * found, frames


def test_the_stored_colors_have_room_for_a_recorders_sampling(tmp_path: Path) -> None:
    root = written(tmp_path / "colors", quiet(4, 24, pictures=True))
    path = root / "meta" / "stats.json"
    stats = json.loads(path.read_text())
    green = stats["observation.images.front"]["mean"][1][0][0]
    for by, found in ((0.03, 0), (0.05, 1)):
        stats["observation.images.front"]["mean"][1][0][0] = green + by
        path.write_text(json.dumps(stats))
        assert len(findings(root, "statistics-pictures")) == found


# -- instructions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "passes", "named"),
    [
        ("instruction-long", "word " * 47, "word " * 48),
        ("instruction-script", "take the яблоко and then the red block slowly to the left bowl or to the right one",
         "take the яблоко and then the red block slowly"),
        ("instruction-placeholder", "go!", "go"),
        ("instruction-placeholder", "tests", "Test"),
        ("instruction-near", "touch the rod block", "touch the red blocks"),
    ],
)  # fmt: skip
def test_instructions_from_both_sides(tmp_path: Path, code: str, passes: str, named: str) -> None:
    for name, text in (("passes", passes), ("named", named)):
        made = quiet(4, 12)
        made[2].task = text
        assert bool(findings(written(tmp_path / name, made), code)) == (name == "named"), text


def test_every_task_is_read_not_only_the_first(tmp_path: Path) -> None:
    """What is wrong with one instruction does not hide what is wrong with the next."""
    made = quiet(5, 12)
    for take, text in zip(made[1:4], ("test", "todo", "go"), strict=True):
        take.task = text
    root = written(tmp_path / "texts", made)
    assert [one.episode for one in findings(root, "instruction-placeholder")] == [1, 2, 3]
    tasks = root / "meta" / "tasks.parquet"
    table = pq.read_table(tasks)
    texts = ["" if text in ("test", "todo") else text for text in table["task"].to_pylist()]
    pq.write_table(table.set_column(table.column_names.index("task"), "task", pa.array(texts)), tasks)
    assert len(findings(root, "instruction-empty")) == 2
    assert [one.episode for one in findings(root, "instruction-placeholder")] == [3]
